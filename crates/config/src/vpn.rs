//! `vpn.mode`: what stands between this machine and the overlay; `vpn.carrier`: what packets ride on.

use std::{fmt, str::FromStr};

use peerup_types::CarrierChoice;

use crate::error::{Excerpt, Problem};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VpnMode {
    /// An interface where this process may make one, else none.
    #[default]
    Auto,
    /// An interface, or no start.
    Tun,
    /// No interface: connections end in the daemon.
    Userspace,
}

impl VpnMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tun => "tun",
            Self::Userspace => "userspace",
        }
    }
}

impl FromStr for VpnMode {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        [Self::Auto, Self::Tun, Self::Userspace]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| Problem::VpnMode { found: Excerpt::new(text) })
    }
}

impl fmt::Display for VpnMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

pub fn carrier(text: &str) -> Result<CarrierChoice, Problem> {
    text.parse().map_err(|()| Problem::Carrier { found: Excerpt::new(text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_its_word_and_others_are_refused() {
        for mode in [VpnMode::Auto, VpnMode::Tun, VpnMode::Userspace] {
            assert_eq!(mode.to_string().parse::<VpnMode>().unwrap(), mode);
        }
        assert_eq!(
            "kernel".parse::<VpnMode>().unwrap_err().to_string(),
            "`kernel` is none of auto, tun and userspace"
        );
    }

    #[test]
    fn each_carrier_has_its_word_and_others_are_refused() {
        for choice in CarrierChoice::ALL {
            assert_eq!(carrier(choice.as_str()).unwrap(), choice);
        }
        assert_eq!(
            carrier("pigeon").unwrap_err().to_string(),
            "`pigeon` is none of auto, stream and datagram"
        );
    }
}
