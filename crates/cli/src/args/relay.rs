//! Arguments of `peerup relay`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use peerup_trust::pairing::{GroupId, MAX_CODES};
use peerup_types::{DnsLabel, PeerId};

use super::{Config, Json, peer_id};

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
    /// Make codes with which several machines join one group and trust each other
    Pair(RelayPair),
    /// List who may use the relay
    ListPeers(Json),
    /// Print the relay's identity, addresses and limits
    Info(Json),
    /// Print version, commit and toolchain
    Version(Json),
    /// Look at the relay server's configuration, and change it
    #[command(subcommand)]
    Config(Config),
}

#[derive(Debug, Args)]
pub struct RelayPair {
    /// How many machines
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_CODES)))]
    pub count: u8,

    /// How long the codes are good, 7 days at most
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub ttl: Duration,

    /// How long the machines may use the relay; default: for ever
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub expires: Option<Duration>,

    /// Network that the codes are for; default: the relay's
    #[arg(long, visible_alias = "network", value_name = "NAME")]
    pub namespace: Option<DnsLabel>,

    /// List open codes and who has joined
    #[arg(long, conflicts_with_all = ["count", "ttl", "expires", "namespace"])]
    pub list: bool,

    /// Void the open codes of a group
    #[arg(long, value_name = "GROUP", conflicts_with_all = ["count", "ttl", "expires", "namespace", "list", "json"])]
    pub revoke: Option<GroupId>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
