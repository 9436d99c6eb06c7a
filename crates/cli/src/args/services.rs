//! Arguments of `peerup service` and `peerup proxy`.

use clap::{Args, Subcommand};

use super::Json;

#[derive(Debug, Subcommand)]
pub enum Service {
    /// Offer a TCP service to peers
    Add {
        /// What peers ask for: a name of a-z, 0-9 and -
        name: String,

        /// Where it listens: localhost:22, or a port of this machine
        #[arg(value_name = "HOST:PORT")]
        address: String,

        /// Only this peer (name or peer ID) may use it; may be given several times
        #[arg(long, value_name = "PEER")]
        allow: Vec<String>,

        /// A protocol ID to answer besides /peerup/NAME/1.0.0
        #[arg(long, value_name = "ID")]
        protocol: Option<String>,
    },
    /// List the services of this machine
    List(Json),
    /// Stop offering a service and forget it; open connections stay
    Remove { name: String },
    /// Offer a service again
    Enable { name: String },
    /// Stop offering a service; open connections stay
    Disable { name: String },
}

#[derive(Debug, Args)]
pub struct Proxy {
    /// Name, overlay address or peer ID
    pub target: String,

    /// A service of that peer by name, or a port it opens by number
    pub service: String,

    /// Port of this machine's loopback, or address and port, to listen on; 0 picks a free one
    pub local: String,

    /// Print one line of JSON with the address that it listens on
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Connect {
    /// Name, overlay address or peer ID
    #[arg(long)]
    pub peer: String,

    /// A service of that peer by name, or a port it opens by number
    #[arg(long)]
    pub service: String,

    /// Port of this machine's loopback, or address and port, to listen on; 0 picks a free one
    #[arg(long, value_name = "ADDRESS")]
    pub listen: String,
}
