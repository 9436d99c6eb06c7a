//! What a swarm reports, and what its calls fail with.

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use peerup_types::PathId;

use crate::{
    gater::Decision,
    paths::{InboundStream, PathHandle},
};

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct ListenError {
    pub address: Multiaddr,
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot dial {peer}: {reason}")]
pub struct DialError {
    pub peer: PeerId,
    pub reason: String,
}

/// One dial; its outcome carries the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub(crate) ConnectionId);

/// Why a relay gave no reservation or no circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RelayRefusal {
    /// A limit is reached, or the asker may not ask.
    Limit,
    /// The destination holds no reservation.
    NoReservation,
    /// The destination did not take the circuit.
    Unreachable,
    Other,
}

impl RelayRefusal {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::NoReservation => "no-reservation",
            Self::Unreachable => "unreachable",
            Self::Other => "other",
        }
    }
}

/// What the swarm reports. Packets are not among it.
#[derive(Debug)]
pub enum Event {
    PathOpened(PathHandle),
    PathClosed {
        path: PathId,
        peer: PeerId,
    },
    Inbound(InboundStream),
    DialFailed {
        dial: DialId,
        peer: Option<PeerId>,
        error: String,
    },
    Listening(Multiaddr),
    ListenExpired(Multiaddr),
    /// An address that the swarm listened on before it was rebuilt could not be bound again for half a minute, and
    /// is not tried any more.
    ListenFailed(ListenError),
    /// A reservation on `relay` holds or was renewed.
    Reserved {
        relay: PeerId,
    },
    ReservationLost {
        relay: PeerId,
    },
    /// identify finished on a connection to `peer`; `observed` is our address as the peer sees it.
    Identified {
        peer: PeerId,
        path: Option<PathId>,
        agent: String,
        listen: Vec<Multiaddr>,
        observed: Multiaddr,
    },
    Discovered {
        peer: PeerId,
        address: Multiaddr,
    },
    /// The private DHT knows an address of a peer that was looked for.
    Found {
        peer: PeerId,
        address: Multiaddr,
    },
    /// A relay tried to dial one of our addresses (AutoNAT v2).
    Tested {
        address: Multiaddr,
        reachable: bool,
    },
    /// Hole punching by stock DCUtR ended; a success also shows as a direct `PathOpened`.
    HolePunch {
        peer: PeerId,
        success: bool,
    },
    /// Relay server: a reservation was granted or renewed.
    ReservationGranted {
        peer: PeerId,
        renewed: bool,
    },
    /// Relay server: `peer` asked for a reservation or a circuit and got none.
    RelayRefused {
        peer: PeerId,
        reason: RelayRefusal,
    },
    /// Relay server: the reservation of a connected `peer` ran out.
    ReservationEnded {
        peer: PeerId,
    },
    /// Relay server: a circuit was granted or ended.
    CircuitOpened {
        source: PeerId,
        destination: PeerId,
    },
    CircuitClosed {
        source: PeerId,
        destination: PeerId,
    },
    /// The gater let an inbound connection in or refused it; only after [`PeerSwarm::observe_decisions`].
    ///
    /// [`PeerSwarm::observe_decisions`]: crate::PeerSwarm::observe_decisions
    Decided(Decision),
    /// libp2p panicked and the swarm was rebuilt. Every path and reservation is gone; listeners come back, each with a
    /// [`Event::Listening`]. When panics repeat, nothing happens for a while: calls are taken and carried out later.
    Restarted {
        panic: String,
    },
}
