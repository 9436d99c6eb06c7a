//! What [`PeerPaths`](crate::PeerPaths) is told of a path, what it wants done, and what it reports.

use peerup_types::{Multiaddr, PathId, PathKind, PeerId};

/// How a dial takes part in a simultaneous open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Dialer,
    /// The listening side of a TCP simultaneous open, which exactly one end must play.
    Listener,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Dial {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        role: Role,
    },
    /// Open our stream on this path and say hello.
    OpenStream {
        path: PathId,
    },
    /// Send packets on this path; `None` means that the peer is out of reach.
    Use {
        peer: PeerId,
        path: Option<PathId>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The first path to the peer.
    FirstPath,
    /// A path of a better class or family became ready.
    BetterPath,
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
            Self::PathClosed => "the connection closed",
            Self::PathDead => "the path stopped answering",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    PathChanged { peer: PeerId, from: Option<PathKind>, to: Option<PathKind>, reason: Reason },
}

/// A path that the swarm reports.
#[derive(Debug, Clone)]
pub struct Opened {
    pub path: PathId,
    pub kind: PathKind,
    pub remote: Multiaddr,
    pub relay: Option<PeerId>,
    /// Whether this node dialed.
    pub outbound: bool,
}
