//! The command line. Flags may stand before or after the arguments they belong to.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use ipnet::Ipv4Net;
use peerup_types::{DnsLabel, PeerId};

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
    /// Measure the round trip to a peer and name the path it takes
    Ping(Ping),
    /// Print this node's peer ID
    Whoami(Json),
    /// Edit authorized_keys: who may connect
    #[command(subcommand)]
    Auth(Auth),
    /// Relays this node uses, and running one
    #[command(subcommand)]
    Relay(Relay),
    /// Create a code that pairs another machine with this one
    Invite(Invite),
    /// Pair with the machine that made the code
    Join(Join),
    /// Look at the configuration
    #[command(subcommand)]
    Config(Config),
    /// Print the peer ID behind a name
    Resolve(Resolve),
    /// Print shell completions
    Completions { shell: Shell },
    /// Print version, commit and toolchain
    Version(Json),
}

#[derive(Debug, Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Init {
    /// Ask nothing; take everything from flags and defaults
    #[arg(long)]
    pub non_interactive: bool,

    /// A relay: /ip4/203.0.113.50/tcp/7777/p2p/ID, or 203.0.113.50:7777 with --relay-id. May be given several times;
    /// without one, only machines on the same LAN find each other, with `network.mdns: true`
    #[arg(long, value_name = "ADDRESS")]
    pub relay: Vec<String>,

    /// Peer ID of a relay given in short form
    #[arg(long, value_name = "PEER_ID", value_parser = peer_id)]
    pub relay_id: Option<PeerId>,

    /// What this machine is called; default: its host name
    #[arg(long)]
    pub name: Option<String>,

    /// Range of overlay addresses
    #[arg(long, value_name = "CIDR")]
    pub range: Option<Ipv4Net>,

    /// Network name; nodes of different networks do not meet
    #[arg(long)]
    pub network: Option<DnsLabel>,

    /// Where to put the files; default: ~/.config/peerup
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Up {
    /// Stay in the foreground and log to the terminal
    #[arg(long)]
    pub foreground: bool,
}

#[derive(Debug, Args)]
pub struct Down {
    /// Also undo what a daemon that died left behind
    #[arg(long)]
    pub cleanup: bool,
}

#[derive(Debug, Subcommand)]
pub enum Daemon {
    /// Run in the foreground (the default)
    Start {
        /// Exit when the interface goes down, and report readiness to the command that is waiting
        #[arg(long, hide = true)]
        started_by_up: bool,
    },
    /// Show what the daemon says about itself
    Status(Json),
    /// Stop the daemon
    Stop,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Name, overlay address or peer ID; without it, everybody
    pub peer: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Peers {
    /// Include hosts that are neither peerup nodes nor relays
    #[arg(long)]
    pub all: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Ping {
    /// Name, overlay address or peer ID
    pub peer: String,

    /// Stop after this many; 0 goes on until Ctrl-C
    #[arg(short = 'c', short_alias = 'n', long, default_value_t = 0)]
    pub count: u32,

    /// Pause between pings, such as 200ms or 1s
    #[arg(short = 'i', long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub interval: Duration,

    /// Print one JSON object per ping, and the statistics last
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Auth {
    /// Let a peer connect
    Add {
        #[arg(value_name = "PEER_ID", value_parser = peer_id)]
        peer: PeerId,

        /// Text after the `#`
        #[arg(long)]
        comment: Option<String>,

        #[command(flatten)]
        file: AuthFile,
    },
    /// List who may connect
    List {
        #[command(flatten)]
        file: AuthFile,

        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop a peer from connecting and close its connections
    Remove {
        #[arg(value_name = "PEER_ID", value_parser = peer_id)]
        peer: PeerId,

        #[command(flatten)]
        file: AuthFile,
    },
    /// Check every line of the file
    Validate {
        /// Default: the file the configuration names
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub struct AuthFile {
    /// Use this authorized_keys instead of the one the configuration names
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Relay {
    /// Use a relay from here on
    Add {
        /// /ip4/203.0.113.50/tcp/7777/p2p/ID, or 203.0.113.50:7777 with --peer-id
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<String>,

        /// Peer ID of a relay given in short form
        #[arg(long, value_parser = peer_id)]
        peer_id: Option<PeerId>,
    },
    /// List the relays this node uses
    List(Json),
    /// Stop using a relay
    Remove {
        #[arg(value_name = "MULTIADDR")]
        address: String,

        /// Remove even the last one
        #[arg(short, long)]
        force: bool,
    },
    /// Create the files of a relay server
    Setup {
        /// Where to put them; default: the current directory
        #[arg(long, value_name = "DIR", conflicts_with = "config")]
        dir: Option<PathBuf>,

        /// Ask nothing
        #[arg(long)]
        non_interactive: bool,

        /// Replace existing files, keeping a copy in backups/
        #[arg(long)]
        fresh: bool,
    },
    /// Run the relay server
    Serve,
    /// Let a peer use the relay
    Authorize {
        #[arg(value_name = "PEER_ID", value_parser = peer_id)]
        peer: PeerId,

        /// Text after the `#`
        comment: Vec<String>,
    },
    /// Stop a peer from using the relay
    Deauthorize {
        #[arg(value_name = "PEER_ID", value_parser = peer_id)]
        peer: PeerId,
    },
    /// List who may use the relay
    ListPeers(Json),
    /// Print the relay's identity, addresses and limits
    Info(Json),
    /// Look at the relay server's configuration
    #[command(subcommand)]
    Config(Config),
}

#[derive(Debug, Args)]
pub struct Invite {
    /// What the other machine shall call this one; default: its configured name
    #[arg(long)]
    pub name: Option<String>,

    /// How long the code stays good
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    pub ttl: Duration,

    /// Print the bare code on standard output, everything else on standard error
    #[arg(long)]
    pub non_interactive: bool,
}

#[derive(Debug, Args)]
pub struct Join {
    /// The code, in one piece or several; default: PEERUP_INVITE_CODE, then a question
    pub code: Vec<String>,

    /// What the inviter shall call this machine; default: its configured name
    #[arg(long)]
    pub name: Option<String>,

    /// Ask nothing; without a code on the command line, read one line from standard input
    #[arg(long)]
    pub non_interactive: bool,
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check the file
    Validate,
    /// Print the configuration with every default filled in
    Show(Json),
}

#[derive(Debug, Args)]
pub struct Resolve {
    /// Name or peer ID
    pub name: String,

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
