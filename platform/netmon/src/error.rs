//! Why the host's network cannot be watched.

use std::io;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    #[error("cannot listen to the kernel's notices about the network")]
    Listen(#[source] io::Error),
    #[error("cannot read the host's {what}")]
    Read {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the kernel did not list the host's {what} within {} s", limit.as_secs())]
    Timeout { what: &'static str, limit: Duration },
    #[error("the network of this system cannot be watched yet")]
    Unsupported,
}

impl MonitorError {
    /// The next step for whoever runs peerup.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Listen(_) | Self::Read { .. } => {
                Some("a sandbox may forbid netlink sockets (systemd: RestrictAddressFamilies=AF_NETLINK)")
            }
            Self::Timeout { .. } => Some("the kernel log (`sudo dmesg`) may say more"),
            Self::Unsupported => None,
        }
    }
}
