//! Arguments of `peerup daemon`.

use clap::Subcommand;

use super::{Connect, Json, Peers, Ping};

#[derive(Debug, Subcommand)]
pub enum Daemon {
    /// Run in the foreground (the default)
    Start {
        /// Exit when the interface goes down, and report readiness to the command that is waiting
        #[arg(long, hide = true)]
        started_by_up: bool,

        /// Do without an interface, which needs no privilege: connections end in the daemon
        #[arg(long)]
        userspace: bool,
    },
    /// Show what the daemon says about itself
    Status(Json),
    /// List the services that the daemon offers
    Services(Json),
    /// Let the daemon listen here for a service of a peer
    Connect(Connect),
    /// Stop such a listener; open connections go on
    Disconnect {
        /// As `connect` printed it: proxy-1
        id: String,
    },
    /// Stop the daemon
    Stop,
    /// The same as `peerup ping`, four times unless said otherwise
    Ping(Ping),
    /// The same as `peerup peers`
    Peers(Peers),
    /// List open paths
    Paths(Json),
}
