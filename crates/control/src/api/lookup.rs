//! `peerup resolve` and `peerup whois`: from what people type to the peer behind it.

use std::net::IpAddr;

use peerup_types::PeerId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResolveRequest {
    /// Name, overlay address or peer ID.
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResolveReport {
    /// What was asked for.
    pub name: String,
    #[schemars(with = "String")]
    pub peer_id: PeerId,
    pub source: ResolveSource,
    /// What this node calls the peer.
    pub known_as: Option<String>,
    /// The peer's overlay addresses.
    pub ips: Vec<IpAddr>,
}

/// What told the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResolveSource {
    /// `names:` in the configuration.
    LocalConfig,
    /// It was a peer ID already.
    PeerId,
    /// An overlay address.
    Address,
    /// What the peer calls itself, or the comment in `authorized_keys`.
    Network,
}

impl ResolveSource {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LocalConfig => "local_config",
            Self::PeerId => "peer_id",
            Self::Address => "address",
            Self::Network => "network",
        }
    }
}
