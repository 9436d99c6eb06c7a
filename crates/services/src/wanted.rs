//! What a caller asks for: a service by name, or a port.

use std::{fmt, str::FromStr};

use peerup_config::service_name;
use peerup_types::DnsLabel;
use peerup_wire::protocol;

/// `ssh`, or `22`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Service(DnsLabel),
    Port(u16),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is neither a service nor a port: {reason}")]
pub struct WantedError {
    pub text: String,
    pub reason: String,
}

impl Wanted {
    /// The protocol of the stream.
    pub fn protocol(&self) -> String {
        match self {
            Self::Service(name) => protocol::service(name),
            Self::Port(_) => protocol::PORT.to_owned(),
        }
    }

    /// What goes before the connection's own bytes.
    pub fn preamble(&self) -> Option<[u8; 2]> {
        match self {
            Self::Service(_) => None,
            Self::Port(port) => Some(port.to_be_bytes()),
        }
    }
}

impl FromStr for Wanted {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Self, WantedError> {
        let wrong = |reason: String| WantedError { text: text.chars().take(64).collect(), reason };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let port = text.parse::<u16>().ok().filter(|port| *port != 0);
            return port.map(Self::Port).ok_or_else(|| wrong("ports are 1 to 65535".to_owned()));
        }
        service_name(text).map(Self::Service).map_err(|problem| wrong(problem.to_string()))
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => name.fmt(f),
            Self::Port(port) => port.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_asks_for_its_service_and_a_number_for_a_port() {
        let ssh: Wanted = "ssh".parse().unwrap();
        assert_eq!((ssh.protocol().as_str(), ssh.preamble()), ("/peerup/ssh/1.0.0", None));
        let port: Wanted = "8080".parse().unwrap();
        assert_eq!((port.protocol().as_str(), port.preamble()), ("/peerup/port/1.0.0", Some([0x1f, 0x90])));
    }

    #[test]
    fn names_of_our_own_protocols_and_impossible_ports_are_refused() {
        for text in ["tun", "invite", "port", "kad", "", "SSH", "0", "65536", "a b", "-x"] {
            assert!(text.parse::<Wanted>().is_err(), "{text}");
        }
    }
}
