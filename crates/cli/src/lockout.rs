//! Commands that could cut the connection they are typed on.
//!
//! An ssh session through the overlay ends with the interface, and with it goes the way to bring the interface back.
//! Such a command asks where somebody can answer, refuses where nobody can, and with `--confirm` takes itself back.

use std::{
    env, fs,
    io::{self, IsTerminal},
    net::IpAddr,
    time::Duration,
};

use peerup_config::NodeConfig;

use crate::{
    failure::{Exit, Failure},
    terminal::Terminal,
};

/// sshd tells its children: client address and port, server address and port (sshd(8)).
const VARIABLE: &str = "SSH_CONNECTION";
/// Shells, sudo and the like between sshd and this process.
const MAX_ANCESTORS: usize = 32;

/// The other end of the ssh session that this command is typed in, where it runs through the overlay of `config`.
pub fn overlay_session(config: &NodeConfig) -> Option<IpAddr> {
    let v6 = peerup_membership::ula_prefix(config.discovery.network.as_ref());
    let in_overlay = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => config.vpn.cidr.contains(ip),
        IpAddr::V6(ip) => v6.contains(ip),
    };
    let (client, server) = ends(&ssh_connection()?)?;
    (in_overlay(&client) || in_overlay(&server)).then_some(client)
}

/// Lets the command go on, or says why it does not. `confirm` is the time after which it takes itself back.
pub fn guard(
    terminal: &Terminal,
    config: &NodeConfig,
    what: &str,
    confirm: Option<Duration>,
) -> Result<(), Failure> {
    if confirm.is_some() || overlay_session(config).is_none() {
        return Ok(());
    }
    let cuts = format!("{what} cuts the connection that you are typing on");
    if !io::stdin().is_terminal() {
        return Err(Failure::new(cuts)
            .exit(Exit::Conflict)
            .hint("add --confirm 60: it is taken back by itself"));
    }
    match terminal.ask(&format!("{cuts}. Go on? [y/N]"))?.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing is changed").hint("with --confirm 60 it is taken back by itself")),
    }
}

/// A whole number is seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
    crate::args::confirm_timeout(&if plain { format!("{text}s") } else { text.to_owned() })
}

/// From the environment, or that of an ancestor: sudo passes few variables on.
fn ssh_connection() -> Option<String> {
    if let Ok(value) = env::var(VARIABLE) {
        return Some(value);
    }
    let mut pid = std::process::id();
    for _ in 0..MAX_ANCESTORS {
        pid = parent(pid).filter(|pid| *pid > 1)?;
        if let Some(value) = variable_of(pid) {
            return Some(value);
        }
    }
    None
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may contain anything (proc(5)).
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn variable_of(pid: u32) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let entry = environ
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"="))?;
    String::from_utf8(entry.to_vec()).ok()
}

fn ends(text: &str) -> Option<(IpAddr, IpAddr)> {
    let mut words = text.split_whitespace();
    let client = words.next()?.parse().ok()?;
    Some((client, words.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_session_are_read() {
        let ends = ends("10.64.0.2 51000 10.64.0.1 22").unwrap();
        assert_eq!(ends, ("10.64.0.2".parse().unwrap(), "10.64.0.1".parse().unwrap()));
        assert!(super::ends("10.64.0.2 51000").is_none() && super::ends("").is_none());
    }

    #[test]
    fn the_parent_of_this_process_is_found() {
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
    }

    #[test]
    fn a_number_is_seconds() {
        assert_eq!(seconds("60").unwrap(), Duration::from_secs(60));
        assert_eq!(seconds("5m").unwrap(), Duration::from_secs(300));
        assert!(seconds("0").is_err() && seconds("").is_err() && seconds("x").is_err());
    }
}
