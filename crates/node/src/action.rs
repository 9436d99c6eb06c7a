//! What the node wants done.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use peerup_path::{Reason, Role};
use peerup_router::RoutingTable;
use peerup_types::{Multiaddr, PathId, PathKind, PeerId};
use peerup_wire::control::Control;

#[derive(Debug, Clone)]
pub enum Action {
    Dial {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        role: Role,
    },
    Reserve {
        relay: PeerId,
        address: Multiaddr,
    },
    /// Close this path to a relay unless it answers at once.
    Check {
        path: PathId,
    },
    /// Close every connection to a peer or relay.
    Disconnect {
        peer: PeerId,
    },
    /// Open our stream on this path and greet with [`Node::hello`](crate::Node::hello).
    Greet {
        path: PathId,
    },
    /// Reliable frames to the peer take `path`; `beside` is a live direct QUIC connection for what should not wait
    /// behind them, which may be the same one.
    Use {
        peer: PeerId,
        path: Option<PathId>,
        beside: Option<PathId>,
    },
    Probe {
        path: PathId,
    },
    Say {
        path: PathId,
        control: Control,
    },
    Close {
        path: PathId,
    },
    /// Packets are routed by this table; the host routes these addresses to the interface.
    Route {
        table: Arc<RoutingTable>,
        hosts: Vec<IpAddr>,
    },
    /// Our own IPv4 address is another one.
    Readdress {
        address: Option<Ipv4Addr>,
    },
    /// What `peers.yaml` keeps has changed.
    Persist,
    /// An observed address that hole punching by stock DCUtR should offer too.
    Candidate(Multiaddr),
}

/// What a user would notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    PathChanged { peer: PeerId, from: Option<PathKind>, to: Option<PathKind>, reason: Reason },
    RelayReserved { relay: PeerId },
    RelayLost { relay: PeerId },
    AddressLost { address: Ipv4Addr, winner: PeerId },
}
