//! Services that this node offers, and proxies to those of others.

use peerup_types::PeerId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /v1/services`: one service of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceRow {
    pub name: String,
    /// The protocol of its streams.
    pub protocol: String,
    pub local_address: String,
    pub enabled: bool,
    /// `None`: every authorized peer.
    #[schemars(with = "Option<Vec<String>>")]
    pub allowed_peers: Option<Vec<PeerId>>,
    /// Exposed for the life of the daemon, not in the configuration.
    pub exposed: bool,
}

/// `POST /v1/expose`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExposeRequest {
    pub name: String,
    /// Host and port, as this node reaches it.
    pub local_address: String,
    /// Who may use it; without it, every authorized peer.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub allowed_peers: Option<Vec<PeerId>>,
    /// Write it into the configuration.
    #[serde(default)]
    pub persist: bool,
}

/// `POST /v1/connect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectRequest {
    /// A name, an overlay address or a peer ID.
    pub peer: String,
    /// A service's name, or a port.
    pub service: String,
    /// A port of loopback, or address and port; port 0 picks one.
    pub listen: String,
}

/// What [`ConnectRequest`] made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectReport {
    /// `proxy-1`, for `DELETE /v1/connect/{id}`.
    pub id: String,
    /// The address that it listens on.
    pub listen_address: String,
}

/// `GET /v1/connect`: one proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProxyRow {
    pub id: String,
    #[schemars(with = "String")]
    pub peer_id: PeerId,
    /// What the peer is called here.
    pub peer: String,
    pub service: String,
    pub listen_address: String,
    /// Connections open at the moment.
    pub sessions: u32,
    /// Connections since it was made.
    pub accepted: u64,
    /// Those of them that broke.
    pub failed: u64,
    /// Bytes from local clients that were handed to the stream.
    pub tx_bytes: u64,
    /// Bytes from the peer that were handed to local clients.
    pub rx_bytes: u64,
    /// Why the latest broken one broke.
    pub last_error: Option<String>,
}
