//! `GET /v1/events`: what happens, as it happens, one object per line.

use peerup_types::{CarrierKind, Family, PathKind, PeerId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HealthItem, OverviewClass, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    pub at: Timestamp,
    #[serde(flatten)]
    pub what: Happening,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Happening {
    /// Packets for the peer take another path; `to` is null when none is left.
    PathChanged {
        #[schemars(with = "String")]
        peer: PeerId,
        name: Option<String>,
        from: Option<PathBrief>,
        to: Option<PathBrief>,
        reason: String,
    },
    /// The first path to the peer.
    PeerUp {
        #[schemars(with = "String")]
        peer: PeerId,
        name: Option<String>,
    },
    /// The last path to the peer is gone.
    PeerDown {
        #[schemars(with = "String")]
        peer: PeerId,
        name: Option<String>,
    },
    /// Peers can reach this node through the relay.
    RelayReserved {
        #[schemars(with = "String")]
        relay: PeerId,
    },
    RelayLost {
        #[schemars(with = "String")]
        relay: PeerId,
    },
    HealthRaised {
        item: HealthItem,
    },
    HealthCleared {
        code: String,
    },
    /// This reader was too slow: so many events were left out here.
    Missed {
        count: u64,
    },
}

/// The kind of a path, without its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathBrief {
    pub class: OverviewClass,
    #[schemars(with = "String")]
    pub family: Family,
    #[schemars(with = "String")]
    pub carrier: CarrierKind,
}

impl From<PathKind> for PathBrief {
    fn from(kind: PathKind) -> Self {
        Self { class: kind.class.into(), family: kind.family, carrier: kind.carrier }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_itself_beside_its_time_and_survives_the_trip() {
        let peer: PeerId = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx".parse().unwrap();
        let event = Event { at: Timestamp::from_unix(0), what: Happening::PeerUp { peer, name: None } };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(
            text,
            format!(r#"{{"at":"1970-01-01T00:00:00Z","event":"peer-up","peer":"{peer}","name":null}}"#)
        );
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
