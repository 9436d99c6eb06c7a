//! Arguments of `peerup relay`.

use std::path::PathBuf;

use clap::Subcommand;
use peerup_types::PeerId;

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
