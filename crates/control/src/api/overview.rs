//! `peerup status --json`: one page about this node and its peers.

use std::net::IpAddr;

use peerup_types::{CarrierKind, Family, PathClass, PathKind, PeerId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ProxyRow, RelayingOverview, Timestamp};

/// The schema number of [`Overview`].
pub const SCHEMA: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Overview {
    pub schema: u32,
    #[serde(rename = "self")]
    pub this: SelfOverview,
    pub peers: Vec<PeerOverview>,
    pub relays: Vec<RelayOverview>,
    /// What this node carries for others. Absent in the answers of earlier daemons.
    #[serde(default)]
    pub relaying: RelayingOverview,
    pub health: Vec<HealthItem>,
    /// Listeners that lead to services of peers.
    #[serde(default)]
    pub proxies: Vec<ProxyRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SelfOverview {
    #[schemars(with = "String")]
    pub id: PeerId,
    pub name: Option<String>,
    pub ips: Vec<IpAddr>,
    pub version: String,
    pub uptime_s: u64,
    pub reachability: Reachability,
}

/// Whether other machines can open connections to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reachability {
    Unknown,
    Public,
    Private,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerOverview {
    #[schemars(with = "String")]
    pub id: PeerId,
    pub name: Option<String>,
    pub ips: Vec<IpAddr>,
    /// `None` (JSON null) while the peer is offline.
    pub path: Option<PathOverview>,
    pub rtt_ms: Option<f64>,
    /// Share of unanswered probes, 0 to 1.
    pub loss: f64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub last_seen: Option<Timestamp>,
    /// Why the path is not better than it is, in a few words.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathOverview {
    pub class: OverviewClass,
    #[schemars(with = "Option<String>")]
    pub family: Option<Family>,
    #[schemars(with = "Option<String>")]
    pub carrier: Option<CarrierKind>,
    /// The underlay address of the other end: the peer's, or the relay's on a relayed path.
    pub addr: Option<String>,
    #[schemars(with = "Option<String>")]
    pub relay: Option<PeerId>,
    pub since: Option<Timestamp>,
}

impl PathOverview {
    /// A path that carries packets.
    pub fn live(kind: PathKind, addr: String, relay: Option<PeerId>, since: Timestamp) -> Self {
        Self {
            class: kind.class.into(),
            family: Some(kind.family),
            carrier: Some(kind.carrier),
            addr: Some(addr),
            relay,
            since: Some(since),
        }
    }

    /// A race is on and nothing has won yet.
    pub fn connecting(since: Timestamp) -> Self {
        let class = OverviewClass::Connecting;
        Self { class, family: None, carrier: None, addr: None, relay: None, since: Some(since) }
    }
}

/// [`PathClass`], and the moment before there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OverviewClass {
    Direct,
    PeerRelay,
    Relay,
    Connecting,
}

impl From<PathClass> for OverviewClass {
    fn from(class: PathClass) -> Self {
        match class {
            PathClass::Direct => Self::Direct,
            PathClass::PeerRelay => Self::PeerRelay,
            PathClass::Relay => Self::Relay,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RelayOverview {
    #[schemars(with = "String")]
    pub id: PeerId,
    pub name: Option<String>,
    pub addr: Option<String>,
    pub state: RelayState,
    pub rtt_ms: Option<f64>,
    /// Why there is no reservation.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RelayState {
    /// Connected, and peers can reach this node through it.
    Reserved,
    /// Connected with a reservation, and takes over when the active one is lost.
    Standby,
    /// Configured, and not needed while two others hold reservations.
    Candidate,
    /// Connected, without a reservation.
    Connected,
    Connecting,
    Offline,
}

/// Something the owner of this machine should know, with the way to mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthItem {
    /// Stable, for scripts: `relay-unreachable`, `udp-blocked`.
    pub code: String,
    pub severity: Severity,
    pub text: String,
    pub fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_key_of_the_schema_is_present_even_when_nothing_is_known() {
        let id = PeerId::random();
        let overview = Overview {
            schema: SCHEMA,
            this: SelfOverview {
                id,
                name: None,
                ips: vec![],
                version: "0.1.0".into(),
                uptime_s: 3,
                reachability: Reachability::Unknown,
            },
            peers: vec![PeerOverview {
                id,
                name: None,
                ips: vec![],
                path: None,
                rtt_ms: None,
                loss: 0.0,
                rx_bytes: 0,
                tx_bytes: 0,
                last_seen: None,
                reason: None,
            }],
            relays: vec![],
            relaying: RelayingOverview::default(),
            health: vec![],
            proxies: vec![],
        };
        let id = id.to_string();
        let expected = json!({
            "schema": 1,
            "self": {"id": id, "name": null, "ips": [], "version": "0.1.0", "uptime_s": 3, "reachability": "unknown"},
            "peers": [{"id": id, "name": null, "ips": [], "path": null, "rtt_ms": null, "loss": 0.0, "rx_bytes": 0,
                "tx_bytes": 0, "last_seen": null, "reason": null}],
            "relays": [],
            "relaying": {"service": "off", "active": false, "reason": null, "addresses": [], "reservations": 0,
                "max_reservations": 0, "circuits": 0, "max_circuits": 0, "circuits_opened": 0, "bytes": 0,
                "max_bytes_per_s": null, "refused": {}, "reserved_at": []},
            "health": [],
            "proxies": [],
        });
        assert_eq!(serde_json::to_value(&overview).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Overview>(expected).unwrap(), overview);
    }

    #[test]
    fn a_live_path_spells_class_family_and_carrier() {
        let kind =
            PathKind { class: PathClass::Direct, family: Family::Ipv6, carrier: CarrierKind::QuicStream };
        let path = PathOverview::live(kind, "/ip6/::1/udp/1/quic-v1".into(), None, Timestamp::from_unix(0));
        let expected: Value = json!({"class": "direct", "family": "ipv6", "carrier": "quic-stream",
            "addr": "/ip6/::1/udp/1/quic-v1", "relay": null, "since": "1970-01-01T00:00:00Z"});
        assert_eq!(serde_json::to_value(path).unwrap(), expected);
    }
}
