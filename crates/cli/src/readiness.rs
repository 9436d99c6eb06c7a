//! The one line that a starting daemon says to the `up` that waits for it.

use std::{net::IpAddr, time::Duration};

use peerup_control::api::UpReport;
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Exit, Failure},
    terminal::Terminal,
};

/// A daemon has to bring its interface up within this time; reaching peers and relays is not part of it.
pub const READY_LIMIT: Duration = Duration::from_secs(30);

/// What stands for an interface where there is none.
const USERSPACE: &str = "userspace";

/// How programs reach a peer without an interface.
fn reach(peer: &str) -> [String; 3] {
    [
        format!("reach    ssh -o ProxyCommand='peerup nc %h %p' {peer}"),
        format!("         peerup exec -- ping {peer}"),
        "         peerup socks   and then   curl --socks5-hostname 127.0.0.1:1080 http://PEER/".to_owned(),
    ]
}

/// The daemon answers, and its interface is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// `None` when the configuration wants none.
    pub interface: Option<String>,
    pub addresses: Vec<IpAddr>,
    pub name: Option<String>,
    pub peers: Vec<String>,
}

impl From<UpReport> for Readiness {
    fn from(report: UpReport) -> Self {
        let UpReport { interface, addresses, name, peers, already_up: _ } = report;
        Self { interface: Some(interface).filter(|name| !name.is_empty()), addresses, name, peers }
    }
}

/// What travels through the pipe.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Ready(Readiness),
    Failed { message: String, hint: Option<String>, exit: Exit },
}

pub fn encode(outcome: Result<Readiness, &Failure>) -> String {
    let line = match outcome {
        Ok(ready) => Line::Ready(ready),
        Err(failure) => Line::Failed {
            message: failure.message().to_owned(),
            hint: failure.hint_text().map(str::to_owned),
            exit: failure.exit,
        },
    };
    serde_json::to_string(&line).expect("readiness has string keys only")
}

pub fn decode(line: &str) -> Result<Readiness, Failure> {
    match serde_json::from_str(line) {
        Ok(Line::Ready(ready)) => Ok(ready),
        Ok(Line::Failed { message, hint, exit }) => Err(Failure::new(message).exit(exit).or_hint(hint)),
        Err(_) => Err(Failure::new("the daemon said something that is not understood")),
    }
}

impl Readiness {
    /// Whether connections end in the daemon for want of an interface.
    pub fn is_userspace(&self) -> bool {
        self.interface.as_deref() == Some(USERSPACE)
    }

    pub fn print(&self, terminal: &Terminal) -> Result<(), Failure> {
        let addresses: Vec<_> = self.addresses.iter().map(IpAddr::to_string).collect();
        let shown = if addresses.is_empty() { "none yet".to_owned() } else { addresses.join(", ") };
        match &self.interface {
            Some(_) if self.is_userspace() => {
                terminal.line("running without an interface (userspace mode)")?
            }
            Some(interface) => terminal.line(format_args!("{interface} is up"))?,
            None => terminal.line("running without an interface (vpn.enabled is off)")?,
        }
        terminal.line(format_args!("address  {shown}"))?;
        if let Some(name) = &self.name {
            terminal.line(format_args!("name     {name}"))?;
        }
        match self.peers.as_slice() {
            [] => terminal.note("next     peerup invite   here, then peerup join CODE on the other machine"),
            peers => {
                terminal.line(format_args!("peers    {}", some_of(peers)))?;
                if self.is_userspace() {
                    reach(&peers[0]).iter().try_for_each(|line| terminal.note(line))?;
                }
                terminal.note("next     peerup status")
            }
        }
    }
}

/// As many names as fit a line or two.
fn some_of(peers: &[String]) -> String {
    const SHOWN: usize = 10;
    match peers.len().checked_sub(SHOWN) {
        None | Some(0) => peers.join(", "),
        Some(more) => format!("{} and {more} more", peers[..SHOWN].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_peers_are_counted_rather_than_listed() {
        let peers: Vec<String> = (1..=12).map(|number| number.to_string()).collect();
        assert_eq!(some_of(&peers[..10]), "1, 2, 3, 4, 5, 6, 7, 8, 9, 10");
        assert_eq!(some_of(&peers), "1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more");
    }

    #[test]
    fn readiness_and_failure_survive_the_pipe_in_one_line() {
        let ready = Readiness {
            interface: Some("peerup0".into()),
            addresses: vec!["10.64.0.1".parse().unwrap()],
            name: Some("laptop".into()),
            peers: vec![],
        };
        let line = encode(Ok(ready.clone()));
        assert!(!line.contains('\n'));
        assert_eq!(decode(&line).unwrap(), ready);
        let failure = Failure::new("10.64.0.0/16 is taken\nby eth0").exit(Exit::Conflict).hint("--range");
        let line = encode(Err(&failure));
        assert!(!line.contains('\n'));
        let back = decode(&line).unwrap_err();
        assert_eq!(
            (back.exit, back.message(), back.hint_text()),
            (Exit::Conflict, failure.message(), Some("--range"))
        );
        assert!(decode("nonsense").is_err());
    }
}
