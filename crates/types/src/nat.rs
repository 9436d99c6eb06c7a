//! How a NAT maps ports, in the words of RFC 4787 §4.1.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which external port a NAT gives to packets that leave one internal socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NatMapping {
    #[default]
    Unknown,
    /// One port, whatever the destination (also where nothing translates): what one observer saw is good for all.
    EndpointIndependent,
    /// Another port for each destination address.
    AddressDependent,
    /// Another port for each destination address and port; often called symmetric.
    AddressAndPortDependent,
}

impl NatMapping {
    /// Whether a peer has to send to another port than the one that an observer saw.
    pub fn is_symmetric(self) -> bool {
        match self {
            Self::Unknown | Self::EndpointIndependent => false,
            Self::AddressDependent | Self::AddressAndPortDependent => true,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
        }
    }
}

impl fmt::Display for NatMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
