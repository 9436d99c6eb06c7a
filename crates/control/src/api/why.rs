//! Why packets to a peer take the path they take.

use peerup_types::{CarrierKind, Family, PeerId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OverviewClass, PlainText, Timestamp};

/// `GET /v1/why/{peer}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WhyReport {
    #[schemars(with = "String")]
    pub peer_id: PeerId,
    pub name: Option<String>,
    /// When this was so.
    pub at: Timestamp,
    /// Why packets take the path they take; `None` before there ever was one.
    pub reason: Option<String>,
    /// Stable word for what keeps the peer off a direct path; `None` on one.
    pub blocking_reason: Option<String>,
    /// The same in at most six words.
    pub blocking_text: Option<String>,
    /// What would change it.
    pub would_change: Option<String>,
    /// Every open path, the one in use first.
    pub paths: Vec<WhyPath>,
    /// Every known address of the peer.
    pub candidates: Vec<WhyCandidate>,
    pub punch: WhyPunch,
    /// Changes of path, latest last.
    pub history: Vec<WhySwitch>,
    pub switches_last_minute: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WhyPath {
    pub id: u64,
    pub class: OverviewClass,
    #[schemars(with = "String")]
    pub family: Family,
    #[schemars(with = "String")]
    pub carrier: CarrierKind,
    pub addr: String,
    #[schemars(with = "Option<String>")]
    pub relay: Option<PeerId>,
    pub since: Timestamp,
    pub chosen: bool,
    pub rtt_ms: Option<f64>,
    pub jitter_ms: Option<f64>,
    /// Share of lost probes over ten seconds; `None` where too few were sent.
    pub loss_10s: Option<f64>,
    /// The same over a quarter of an hour.
    pub loss_15m: f64,
    /// Stable word for the rule that keeps packets off this path, `chosen` where none does.
    pub rule: String,
    pub text: String,
    pub would_change: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhyCandidate {
    pub addr: String,
    /// The latest dial of it.
    pub tried: Option<Timestamp>,
    pub outcome: String,
}

/// Hole punching: both sides dial each other at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhyPunch {
    /// Since the last direct path or the last change of network.
    pub attempts: u32,
    pub last: Option<Timestamp>,
    pub next_in_s: Option<u64>,
    /// How this side's NAT maps ports (RFC 4787), and the peer's.
    pub own_mapping: String,
    pub their_mapping: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhySwitch {
    pub at: Timestamp,
    pub from: Option<String>,
    pub to: Option<String>,
    pub reason: String,
}

/// `GET /v1/why/{peer}/journal`: what the path machine was told, for a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JournalReport {
    #[schemars(with = "String")]
    pub peer_id: PeerId,
    /// JSON, one value per line.
    pub journal: String,
}

impl PlainText for WhyReport {
    fn plain_text(&self) -> String {
        let mut text = String::new();
        for path in &self.paths {
            let mark = if path.chosen { ">" } else { "-" };
            text.push_str(&format!("{mark}\t{}\t{}\t{}\n", path.addr, path.rule, path.text));
        }
        if let Some(blocking) = &self.blocking_text {
            text.push_str(&format!("blocking\t{blocking}\n"));
        }
        text
    }
}
