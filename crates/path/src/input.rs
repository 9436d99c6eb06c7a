//! What [`PeerPaths`](crate::PeerPaths) is told, as values: the decision journal holds nothing else.

use std::time::Duration;

use peerup_types::{Multiaddr, NatMapping, PathId};
use serde::{Deserialize, Serialize};

use crate::action::Opened;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    Opened(Opened),
    /// The peer acknowledged our hello on this path.
    Ready(PathId),
    /// The hello was refused or our stream broke.
    Unusable(PathId),
    /// The peer announced that this path goes away.
    Retired(PathId),
    /// The peer said that it goes away.
    Goodbye,
    Closed(PathId),
    DialFailed {
        address: Multiaddr,
        error: String,
    },
    Answer {
        path: PathId,
        rtt: Duration,
    },
    Heard(PathId),
    /// Packets went out on this path for half a second and nothing came back.
    Unanswered(PathId),
    Traffic,
    Wanted,
    Circuits(Vec<Multiaddr>),
    Address(Multiaddr),
    NewCandidate,
    NetworkChanged,
    /// The peer's daemon started anew.
    Restarted,
    /// How our own NAT maps ports.
    Mapping(NatMapping),
    PunchRequest {
        path: PathId,
        attempt: u32,
        offered: Vec<Multiaddr>,
        mapping: NatMapping,
    },
    PunchReply {
        attempt: u32,
        offered: Vec<Multiaddr>,
        mapping: NatMapping,
    },
    Timeout,
}
