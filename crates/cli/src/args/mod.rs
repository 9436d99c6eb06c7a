//! The command line. Flags may stand before or after the arguments they belong to. A command that stands alone may
//! keep its arguments in its own file under `command/`; those of one subject share a file here.

mod auth;
mod config;
mod daemon;
mod look;
mod node;
mod pairing;
mod relay;
mod services;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use peerup_types::PeerId;

use crate::command::{Bugreport, Doctor, Events, Ip, Man, Paths, Verify, Wait, Whois, Why};

pub use auth::{Auth, AuthFile};
pub use config::{Config, ShowConfig, confirm_timeout};
pub use daemon::Daemon;
pub use look::{Peers, Ping, Resolve, Status, Traceroute};
pub use node::{Down, Init, Up};
pub use pairing::{Invite, Join};
pub use relay::{Relay, RelayPair};
pub use services::{Connect, Proxy, Service};

use crate::command::Netcheck;
use crate::command::service_unit::ServiceUnit;

/// One private network over your machines, without an account or a central server.
#[derive(Debug, Parser)]
#[command(
    name = "peerup",
    version,
    long_version = crate::version::LONG,
    max_term_width = 100,
    propagate_version = false,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 ok, 1 failure, 2 usage, 3 degraded, 4 daemon not running, 5 conflict, 6 not authorised, 7 timeout"
)]
pub struct Cli {
    /// Use this configuration; socket, keys and state live beside it. Nodes also take PEERUP_CONFIG
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print results and errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create identity, configuration and an empty authorized_keys
    Init(Init),
    /// Bring the interface up, starting the daemon when none runs
    Up(Up),
    /// Take interface, routes and names away again
    Down(Down),
    /// Run the daemon in the foreground, or ask about it
    Daemon {
        #[command(subcommand)]
        command: Option<Daemon>,
    },
    /// Show this node, its peers and their paths
    Status(Status),
    /// List connected peers
    Peers(Peers),
    /// Print overlay addresses, one per line
    Ip(Ip),
    /// Print who is behind an overlay address
    Whois(Whois),
    /// List open paths; of one peer every known address, and what speaks against each
    Paths(Paths),
    /// Say why packets to a peer take the path they take, and what would change it
    Why(Why),
    /// Measure the round trip to a peer and name the path it takes
    Ping(Ping),
    /// Look at this machine's network: UDP, NAT, port mapping, relays, and a grade
    Netcheck(Netcheck),
    /// Wait until the node is up, or until a peer answers
    Wait(Wait),
    /// Print what happens, as it happens
    Events(Events),
    /// Look for what keeps this node, or a peer, from working
    Doctor(Doctor),
    /// Collect what a report of a problem needs, without secrets
    Bugreport(Bugreport),
    /// Name the relay on the way to a peer, and measure how far each is
    Traceroute(Traceroute),
    /// Print this node's peer ID
    Whoami(Json),
    /// Edit authorized_keys: who may connect
    #[command(subcommand)]
    Auth(Auth),
    /// Compare a short string with a peer's owner, and remember that it was right
    Verify(Verify),
    /// Relays this node uses, and running one
    #[command(subcommand)]
    Relay(Relay),
    /// Create a code that pairs another machine with this one
    Invite(Invite),
    /// Pair with the machine that made the code
    Join(Join),
    /// TCP services that this machine offers to peers
    #[command(subcommand)]
    Service(Service),
    /// Start at boot: install, remove or look at the systemd unit
    #[command(subcommand)]
    ServiceUnit(ServiceUnit),
    /// Listen here for a TCP service of a peer
    Proxy(Proxy),
    /// Look at the configuration, and change it
    #[command(subcommand)]
    Config(Config),
    /// Print the peer ID behind a name
    Resolve(Resolve),
    /// Connect standard input and output to a port of a peer, for ssh's ProxyCommand
    Nc(crate::command::nc::Nc),
    /// Run a SOCKS5 and HTTP CONNECT proxy into the overlay
    Socks(crate::command::socks::Socks),
    /// Run a command in which the overlay is the network, without privileges
    Exec(crate::command::exec::Exec),
    /// Print lines for ~/.ssh/config that make `ssh NAME` work without an interface
    SshConfig,
    /// Print shell completions
    Completions { shell: Shell },
    /// Write manual pages
    #[command(hide = true)]
    Man(Man),
    /// Print version, commit and toolchain
    Version(Json),
}

#[derive(Debug, Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn peer_id(text: &str) -> Result<PeerId, peerup_trust::PeerIdError> {
    peerup_trust::parse_peer_id(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_may_follow_positionals_at_every_level() {
        let id = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";
        let line = ["peerup", "relay", "authorize", id, "anna", "laptop", "--config", "r.yaml"];
        let cli = Cli::try_parse_from(line).unwrap();
        assert_eq!(cli.config, Some("r.yaml".into()));
        let Command::Relay(Relay::Authorize { comment, .. }) = cli.command else { panic!("authorize") };
        assert_eq!(comment, ["anna", "laptop"]);
        assert!(Cli::try_parse_from(["peerup", "daemon", "--config", "p.yaml"]).is_ok());
        assert!(Cli::try_parse_from(["peerup", "join", "AAAA", "BBBB", "--name", "x", "-q"]).is_ok());
    }
}
