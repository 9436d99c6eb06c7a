//! The rows and pages of the smaller endpoints.

use std::{collections::BTreeMap, net::IpAddr};

use peerup_types::PeerId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Timestamp;

/// `GET /v1/status`: the daemon about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusReport {
    #[schemars(with = "String")]
    pub peer_id: PeerId,
    pub version: String,
    pub uptime_seconds: u64,
    pub connected_peers: u32,
    pub listen_addresses: Vec<String>,
    pub relay_addresses: Vec<String>,
    pub services_count: u32,
    pub has_global_ipv6: bool,
    pub has_global_ipv4: bool,
    pub nat_type: Option<String>,
    pub stun_external_addrs: Vec<String>,
    pub is_relaying: bool,
    pub reachability: ReachabilityGrade,
    /// The network's name; `None` for the global one.
    pub network: Option<String>,
    /// The overlay interface while it is up.
    pub interface: Option<String>,
    pub range: Option<String>,
    pub mtu: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReachabilityGrade {
    pub grade: String,
    pub label: String,
    pub description: String,
}

/// `GET /v1/peers`: one connected host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerRow {
    #[schemars(with = "String")]
    pub id: PeerId,
    pub addresses: Vec<String>,
    pub agent_version: Option<String>,
}

/// `GET /v1/paths`: one open path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathRow {
    #[schemars(with = "String")]
    pub peer_id: PeerId,
    /// `DIRECT` or `RELAYED`.
    pub path_type: String,
    pub address: String,
    pub connected_at: Timestamp,
    /// `quic`, `tcp` or `unknown`.
    pub transport: String,
    /// `ipv4`, `ipv6` or `unknown`.
    pub ip_version: String,
    pub last_rtt_ms: Option<f64>,
}

/// `GET /v1/auth`: one line of `authorized_keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthRow {
    #[schemars(with = "String")]
    pub peer_id: PeerId,
    pub comment: Option<String>,
    pub verified: Option<String>,
    pub expires_at: Option<Timestamp>,
    pub group: Option<String>,
}

/// `POST /v1/auth`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthAdd {
    #[schemars(with = "String")]
    pub peer_id: PeerId,
    #[serde(default)]
    pub comment: Option<String>,
    /// Attributes of the entry, such as `expires` and `ip`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// `POST /v1/auth/{peer_id}`: attributes to set; null removes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthEdit {
    pub options: BTreeMap<String, Option<String>>,
}

/// `POST /v1/up`: the interface as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpReport {
    /// Empty where the configuration wants no interface.
    pub interface: String,
    pub addresses: Vec<IpAddr>,
    pub name: Option<String>,
    /// Names (or short IDs) of the peers that can be reached by address.
    pub peers: Vec<String>,
    /// Whether it was up before the request.
    pub already_up: bool,
}

/// `POST /v1/down`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DownReport {
    /// The interface that went away; `None` when there was none.
    pub interface: Option<String>,
    /// A daemon that `up` started exits with its interface.
    pub daemon_exits: bool,
}

/// The answer of endpoints that have nothing to report but success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusWord {
    pub status: String,
}
