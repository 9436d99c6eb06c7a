//! Why the host's network could not be changed or read.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::{Change, JournalError};

/// One request to the kernel that failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("the kernel refused")]
    Refused(#[source] io::Error),
    #[error("the kernel did not answer within {} s", limit.as_secs())]
    Timeout { limit: Duration },
    #[error("the netlink socket does not work")]
    Broken(#[source] io::Error),
}

impl NetlinkError {
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused(source) => source.raw_os_error(),
            Self::Timeout { .. } | Self::Broken(_) => None,
        }
    }
}

/// The host's network is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("cannot {change}")]
    Change {
        change: Change,
        #[source]
        source: NetlinkError,
    },
    #[error("cannot read the host's {what}")]
    Read {
        what: &'static str,
        #[source]
        source: NetlinkError,
    },
    #[error("there is no interface {interface}")]
    NoInterface { interface: String },
    #[error("interface {interface} is no TUN device")]
    NotTun { interface: String },
    #[error("an MTU of {mtu} is below the {min} bytes that IPv6 needs")]
    Mtu { mtu: u16, min: u16 },
    #[error("{range} covers the whole Internet")]
    DefaultRoute { range: IpNet },
    #[error("{address} is no address of a node in the overlay's ranges")]
    NoOverlayAddress { address: IpAddr },
    #[error("no interface has been configured")]
    NotConfigured,
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the network of this system cannot be configured yet")]
    Unsupported,
}

impl NetworkError {
    /// The next step for whoever runs peerup.
    pub fn hint(&self) -> Option<&'static str> {
        const EPERM: i32 = 1;
        match self {
            Self::Change { source, .. } if source.errno() == Some(EPERM) => Some(
                "CAP_NET_ADMIN is missing: run with sudo, or sudo setcap cap_net_admin+ep \"$(command -v peerup)\"",
            ),
            Self::Change { .. } | Self::Read { .. } => Some("the kernel log (`sudo dmesg`) may say more"),
            Self::NoInterface { .. } | Self::NotConfigured => Some("peerup up"),
            Self::NotTun { .. } => Some("choose another vpn.interface"),
            Self::Mtu { .. } => Some("set vpn.mtu to 1280 or more"),
            Self::DefaultRoute { .. } | Self::NoOverlayAddress { .. } => {
                Some("look at vpn.cidr and vpn.address")
            }
            Self::Journal(error) => error.hint(),
            Self::Unsupported => Some("use `peerup proxy`, which leaves the host's network alone"),
        }
    }
}
