//! `peerup ping`: echoes over the overlay, naming the path each one took.

use std::net::IpAddr;

use peerup_types::PeerId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OverviewClass, PathOverview};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PingRequest {
    /// Name, overlay address or peer ID.
    pub peer: String,
    #[serde(default)]
    pub count: u32,
    #[serde(default)]
    pub interval_ms: u64,
}

impl PingRequest {
    pub const DEFAULT_COUNT: u32 = 4;
    pub const DEFAULT_INTERVAL_MS: u64 = 1000;
    /// A request is answered in one piece, so its length is bounded.
    pub const MAX_COUNT: u32 = 1000;

    /// Absent (zero) fields take their defaults, and the count its bound.
    pub fn normalised(self) -> Self {
        let count = if self.count == 0 { Self::DEFAULT_COUNT } else { self.count.min(Self::MAX_COUNT) };
        let interval_ms = if self.interval_ms == 0 { Self::DEFAULT_INTERVAL_MS } else { self.interval_ms };
        Self { count, interval_ms: interval_ms.min(60_000), ..self }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PingReport {
    #[schemars(with = "String")]
    pub peer_id: PeerId,
    pub name: Option<String>,
    pub address: Option<IpAddr>,
    pub results: Vec<PingReply>,
    pub stats: PingStats,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PingReply {
    pub seq: u32,
    #[schemars(with = "String")]
    pub peer_id: PeerId,
    /// `None` (JSON null) when no answer came.
    pub rtt_ms: Option<f64>,
    /// `DIRECT`, `RELAYED`, or empty when no answer came.
    pub path: String,
    /// Empty when the answer came.
    pub error: String,
    /// The path in full.
    pub via: Option<PathOverview>,
}

impl PingReply {
    pub fn answered(seq: u32, peer_id: PeerId, rtt_ms: f64, via: PathOverview) -> Self {
        let path = match via.class {
            OverviewClass::Direct => "DIRECT",
            OverviewClass::PeerRelay | OverviewClass::Relay => "RELAYED",
            OverviewClass::Connecting => "",
        };
        let path = path.to_owned();
        Self { seq, peer_id, rtt_ms: Some(rtt_ms), path, error: String::new(), via: Some(via) }
    }

    pub fn lost(seq: u32, peer_id: PeerId, error: impl Into<String>) -> Self {
        Self { seq, peer_id, rtt_ms: None, path: String::new(), error: error.into(), via: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PingStats {
    pub sent: u32,
    pub received: u32,
    pub lost: u32,
    pub loss_pct: f64,
    pub min_ms: f64,
    pub avg_ms: f64,
    pub max_ms: f64,
}

impl PingStats {
    /// The summary of a run; all zero for an empty one.
    pub fn of(replies: &[PingReply]) -> Self {
        let rtts: Vec<f64> = replies.iter().filter_map(|reply| reply.rtt_ms).collect();
        let sent = u32::try_from(replies.len()).unwrap_or(u32::MAX);
        let received = u32::try_from(rtts.len()).unwrap_or(u32::MAX);
        let lost = sent - received;
        Self {
            sent,
            received,
            lost,
            loss_pct: 100.0 * f64::from(lost) / f64::from(sent.max(1)),
            min_ms: rtts.iter().copied().reduce(f64::min).unwrap_or(0.0),
            // An empty `sum` is -0.0.
            avg_ms: rtts.iter().fold(0.0, |sum, rtt| sum + rtt) / f64::from(received.max(1)),
            max_ms: rtts.iter().copied().fold(0.0, f64::max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Timestamp;

    #[test]
    fn statistics_count_losses_and_summarise_answers() {
        let peer = PeerId::random();
        let via = PathOverview::connecting(Timestamp::from_unix(0));
        let replies = [
            PingReply::answered(1, peer, 10.0, via.clone()),
            PingReply::lost(2, peer, "timed out"),
            PingReply::answered(3, peer, 30.0, via),
        ];
        let stats = PingStats::of(&replies);
        assert_eq!((stats.sent, stats.received, stats.lost), (3, 2, 1));
        assert!((stats.loss_pct - 33.333).abs() < 0.01);
        assert_eq!((stats.min_ms, stats.avg_ms, stats.max_ms), (10.0, 20.0, 30.0));
    }

    #[test]
    fn an_empty_run_has_zero_statistics_rather_than_nan() {
        let stats = PingStats::of(&[]);
        assert_eq!((stats.sent, stats.loss_pct, stats.avg_ms), (0, 0.0, 0.0));
        assert!(stats.avg_ms.is_sign_positive());
    }

    #[test]
    fn absent_fields_take_their_defaults_and_large_ones_their_bound() {
        let request: PingRequest = serde_json::from_str(r#"{"peer":"home","ignored":1}"#).unwrap();
        let request = request.normalised();
        assert_eq!((request.count, request.interval_ms), (4, 1000));
        let huge = PingRequest { peer: "home".into(), count: u32::MAX, interval_ms: u64::MAX }.normalised();
        assert_eq!((huge.count, huge.interval_ms), (1000, 60_000));
    }
}
