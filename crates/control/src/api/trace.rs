//! `peerup traceroute`: the machines that packets to a peer pass.

use peerup_types::PeerId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TraceRequest {
    /// Name, overlay address or peer ID.
    pub peer: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceReport {
    /// What was asked for.
    pub target: String,
    #[schemars(with = "String")]
    pub target_id: PeerId,
    /// `DIRECT`, `RELAYED`, or empty when there is no path.
    pub path: String,
    /// The relay, where there is one, then the target.
    pub hops: Vec<TraceHop>,
}

/// Keys without a value are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceHop {
    /// From 1.
    pub hop: u32,
    #[schemars(with = "String")]
    pub peer_id: PeerId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The underlay address of the hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// From here to the hop and back; `None` (JSON null) when no answer came.
    pub rtt_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
