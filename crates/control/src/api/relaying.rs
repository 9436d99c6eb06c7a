//! What a node carries for its peers.

use std::collections::BTreeMap;

use peerup_types::PeerId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RelayingOverview {
    pub service: RelayServiceWord,
    /// Whether peers can reserve and open circuits.
    pub active: bool,
    /// Why it is not active.
    pub reason: Option<String>,
    /// Where peers reach this node as a relay.
    pub addresses: Vec<String>,
    /// Peers that hold a reservation, and the limit.
    pub reservations: u64,
    pub max_reservations: u64,
    /// Open circuits, and the limit.
    pub circuits: u64,
    pub max_circuits: u64,
    /// Circuits since the daemon started.
    pub circuits_opened: u64,
    /// Bytes relayed since the daemon started, both directions together.
    pub bytes: u64,
    /// `None` (JSON null) is unlimited.
    pub max_bytes_per_s: Option<u64>,
    /// Requests that were refused, by reason: `limit`, `no-reservation`, `unreachable`, `other`.
    pub refused: BTreeMap<String, u64>,
    /// Peers that relay for this node: where it holds reservations besides the configured relays.
    #[schemars(with = "Vec<String>")]
    pub reserved_at: Vec<PeerId>,
}

/// `network.relay_service`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RelayServiceWord {
    Auto,
    On,
    #[default]
    Off,
}
