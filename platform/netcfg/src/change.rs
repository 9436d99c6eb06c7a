//! The kinds of change, as errors and reports name them.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// One change to the host's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    SetUpLink { interface: String },
    RestoreLink { interface: String },
    RemoveLink { interface: String },
    AddAddress { address: IpAddr },
    RemoveAddress { address: IpAddr },
    AddRoute { destination: IpAddr },
    RemoveRoute { destination: IpAddr },
    AddUnreachable { range: IpNet },
    RemoveUnreachable { range: IpNet },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetUpLink { interface } => write!(f, "set up interface {interface}"),
            Self::RestoreLink { interface } => write!(f, "restore interface {interface}"),
            Self::RemoveLink { interface } => write!(f, "remove interface {interface}"),
            Self::AddAddress { address } => write!(f, "add address {address}"),
            Self::RemoveAddress { address } => write!(f, "remove address {address}"),
            Self::AddRoute { destination } => write!(f, "add the route to {destination}"),
            Self::RemoveRoute { destination } => write!(f, "remove the route to {destination}"),
            Self::AddUnreachable { range } => write!(f, "add the unreachable route over {range}"),
            Self::RemoveUnreachable { range } => write!(f, "remove the unreachable route over {range}"),
        }
    }
}

/// What [`crate::cleanup`] found and removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CleanupReport {
    /// In the order of removal.
    pub removed: Vec<Change>,
}

impl CleanupReport {
    /// Whether the host was clean already.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty()
    }
}
