//! Arguments of `peerup auth`.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use peerup_types::PeerId;

use super::peer_id;

#[derive(Debug, Subcommand)]
pub enum Auth {
    /// Let a peer connect
    Add {
        #[arg(value_name = "PEER_ID", value_parser = peer_id)]
        peer: PeerId,

        /// Text after the `#`
        #[arg(long)]
        comment: Option<String>,

        /// When the key stops counting: 30d, 2030-01-31 or 2030-01-31T12:00:00Z
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,

        /// The peer's overlay address, whatever it claims
        #[arg(long, value_name = "ADDRESS")]
        ip: Option<Ipv4Addr>,

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

        /// Let it connect again after this many seconds, unless `peerup config confirm` keeps it out
        #[arg(long, value_name = "SECONDS", value_parser = crate::lockout::seconds, conflicts_with = "file")]
        confirm: Option<Duration>,

        #[command(flatten)]
        file: AuthFile,
    },
    /// Check every line of the file
    Validate {
        /// Default: the file the configuration names
        file: Option<PathBuf>,

        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct AuthFile {
    /// Use this authorized_keys instead of the one the configuration names
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}
