//! Why there is no TUN device, told apart by what helps.

use std::io;

/// A TUN device could not be created.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    #[error("\"{interface}\" cannot be the name of an interface")]
    BadName { interface: String },
    #[error("an MTU of {mtu} is below the {min} bytes that IPv6 needs (RFC 8200 §5)")]
    BadMtu { mtu: u16, min: u16 },
    #[error("/dev/net/tun does not exist")]
    NodeMissing,
    #[error("/dev/net/tun exists, but the kernel has no TUN driver behind it")]
    NoDriver(#[source] io::Error),
    #[error("/dev/net/tun may not be opened by this user")]
    NodeForbidden(#[source] io::Error),
    #[error("/dev/net/tun cannot be opened")]
    Open(#[source] io::Error),
    #[error("interface {interface} may not be created: CAP_NET_ADMIN is missing")]
    NotPermitted {
        interface: String,
        #[source]
        source: io::Error,
    },
    #[error("interface {interface} exists and is no TUN device")]
    NameTaken {
        interface: String,
        #[source]
        source: io::Error,
    },
    #[error("interface {interface} is in use by another process")]
    Busy {
        interface: String,
        #[source]
        source: io::Error,
    },
    #[error("interface {interface} cannot be created")]
    Create {
        interface: String,
        #[source]
        source: io::Error,
    },
    #[error("TUN devices are not supported on this system yet")]
    Unsupported,
}

impl TunError {
    /// The next step for whoever runs peerup.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::BadName { .. } => {
                "vpn.interface takes 1 to 15 visible ASCII characters without '/', ':' and '%', such as peerup0"
            }
            Self::BadMtu { .. } => "set vpn.mtu to 1280 or more",
            Self::NodeMissing => {
                "load the driver with `sudo modprobe tun`; in a container add --device /dev/net/tun"
            }
            Self::NoDriver(_) => {
                "load the driver with `sudo modprobe tun` (after a kernel update: reboot first)"
            }
            Self::NodeForbidden(_) => {
                "run with sudo; in a container add --device /dev/net/tun; without either use `peerup proxy`"
            }
            Self::Open(_) | Self::Create { .. } => "the kernel log (`sudo dmesg`) may say more",
            Self::NotPermitted { .. } => {
                "run with sudo, or give the program the capability: sudo setcap cap_net_admin+ep \"$(command -v peerup)\""
            }
            Self::NameTaken { .. } => "choose another vpn.interface",
            Self::Busy { .. } => {
                "is another peerup running? choose another vpn.interface, or end it with `peerup down`"
            }
            Self::Unsupported => "use `peerup proxy`, which needs no TUN device",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_ends_in_a_next_step() {
        let interface = || "peerup0".to_owned();
        let source = || io::Error::from_raw_os_error(1);
        let errors = [
            TunError::BadName { interface: interface() },
            TunError::BadMtu { mtu: 68, min: 1280 },
            TunError::NodeMissing,
            TunError::NoDriver(source()),
            TunError::NodeForbidden(source()),
            TunError::Open(source()),
            TunError::NotPermitted { interface: interface(), source: source() },
            TunError::NameTaken { interface: interface(), source: source() },
            TunError::Busy { interface: interface(), source: source() },
            TunError::Create { interface: interface(), source: source() },
            TunError::Unsupported,
        ];
        for error in errors {
            assert!(!error.hint().is_empty() && !error.to_string().contains("hint"), "{error}");
        }
    }
}
