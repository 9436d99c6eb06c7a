//! Arguments of commands that make, start and stop a node.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use ipnet::Ipv4Net;
use peerup_types::{DnsLabel, PeerId};

use super::peer_id;

#[derive(Debug, Args)]
pub struct Init {
    /// Ask nothing; take everything from flags and defaults
    #[arg(long)]
    pub non_interactive: bool,

    /// A relay: /ip4/203.0.113.50/tcp/7777/p2p/ID, or 203.0.113.50:7777 with --relay-id. May be given several times;
    /// without one, only machines on the same LAN find each other
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

    /// Do without an interface, which needs no privilege: connections end in the daemon
    #[arg(long)]
    pub userspace: bool,
}

#[derive(Debug, Args)]
pub struct Down {
    /// Also undo what a daemon that died left behind
    #[arg(long)]
    pub cleanup: bool,

    /// Come up again after this many seconds, unless `peerup config confirm` keeps the interface down
    #[arg(long, value_name = "SECONDS", value_parser = crate::lockout::seconds, conflicts_with = "cleanup")]
    pub confirm: Option<Duration>,
}
