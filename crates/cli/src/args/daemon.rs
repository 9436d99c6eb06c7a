//! Arguments of `peerup daemon`.

use clap::Subcommand;

use super::Json;

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
