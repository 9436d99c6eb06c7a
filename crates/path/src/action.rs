//! What [`PeerPaths`](crate::PeerPaths) is told of a path, what it wants done, and what it reports.

use peerup_types::{Multiaddr, PathClass, PathId, PathKind, PeerId};
use serde::{Deserialize, Serialize};

/// How a dial takes part in a simultaneous open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Dialer,
    /// The listening side of a TCP simultaneous open, which exactly one end must play.
    Listener,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Dial this one address.
    Dial {
        peer: PeerId,
        address: Multiaddr,
        role: Role,
    },
    /// Open our stream on this path and say hello.
    OpenStream {
        path: PathId,
    },
    /// Send packets to the peer on these connections. `path` carries reliable frames; `None` means that the peer is out
    /// of reach. `beside` is a live direct QUIC connection for what should not wait behind them; it may be `path`.
    Use {
        peer: PeerId,
        path: Option<PathId>,
        beside: Option<PathId>,
    },
    /// Ask for an answer on this path.
    Probe {
        path: PathId,
    },
    /// Offer our addresses on this path and ask for the peer's: both sides dial when the answer is in.
    RequestPunch {
        path: PathId,
        attempt: u32,
    },
    /// Answer a punch request with our addresses.
    ReplyPunch {
        path: PathId,
        attempt: u32,
    },
    /// Tell the peer to stop using this path; `Close` follows when what is in flight has arrived.
    Retire {
        path: PathId,
    },
    Close {
        path: PathId,
    },
}

/// Why the active path changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The first path to the peer.
    FirstPath,
    /// A path of a better class or family became ready, or is comparable again.
    BetterPath,
    /// A connection of the same class and family carries reliable frames at less cost.
    BetterCarrier,
    /// A path of a lower rank has been clearly faster for a while.
    Faster,
    /// A path of a lower rank loses much less.
    LessLoss,
    /// The old path's connection closed.
    PathClosed,
    /// The old path stopped answering.
    PathDead,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstPath => "first path to the peer",
            Self::BetterPath => "a better path is ready",
            Self::BetterCarrier => "TCP is ready beside QUIC",
            Self::Faster => "another path is clearly faster",
            Self::LessLoss => "the path was losing packets",
            Self::PathClosed => "the connection closed",
            Self::PathDead => "the path stopped answering",
        }
    }

    /// Whether there was a choice: the old path still worked.
    pub fn is_voluntary(self) -> bool {
        match self {
            Self::BetterPath | Self::BetterCarrier | Self::Faster | Self::LessLoss => true,
            Self::FirstPath | Self::PathClosed | Self::PathDead => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    PathChanged { peer: PeerId, from: Option<PathKind>, to: Option<PathKind>, reason: Reason },
}

/// A path that the swarm reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    pub path: PathId,
    pub kind: PathKind,
    pub remote: Multiaddr,
    pub relay: Option<PeerId>,
    /// Whether this node dialed.
    pub outbound: bool,
}

impl Opened {
    pub fn is_direct(&self) -> bool {
        self.kind.class == PathClass::Direct
    }
}
