//! What a swarm is built from.

use std::num::NonZeroU64;

use futures::channel::mpsc;
use ipnet::IpNet;
use libp2p::identity::Keypair;
use tokio::runtime::Handle;

use crate::{behaviour::RelayLimits, paths::InboundStream, transport};

/// What kind of process the swarm serves.
#[derive(Debug, Clone)]
pub enum Profile {
    /// A member: circuits through relays, hole punching, optionally multicast DNS, and able to relay for other members.
    Node {
        mdns: bool,
        relaying: Option<PeerRelaying>,
        /// A protocol whose speakers agree on hole punching with this node by themselves: libp2p's DCUtR leaves them alone.
        punches_over: Option<&'static str>,
    },
    /// A relay server.
    Relay(RelayLimits),
}

/// What a node carries for other members once it is told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRelaying {
    pub limits: RelayLimits,
    /// All circuits together, both directions together; `None` is unlimited.
    pub bytes_per_second: Option<NonZeroU64>,
}

#[derive(Clone)]
pub struct SwarmConfig {
    pub keypair: Keypair,
    /// The identify agent, `peerup/<version>` or `relay-server/<version>`.
    pub agent: String,
    /// The protocol name of the private DHT, which separates networks.
    pub dht_protocol: String,
    /// Overlay prefixes, which are never dialed.
    pub overlay: Vec<IpNet>,
    pub profile: Profile,
    /// Protocols accepted from authorized peers, from the relays of this node, and from everybody else who is let in.
    pub authorized_protocols: Vec<&'static str>,
    pub infrastructure_protocols: Vec<&'static str>,
    pub guest_protocols: Vec<&'static str>,
    /// Where streams of [`crate::Services`] go, past the event loop of the swarm; full means refused.
    pub services: Option<mpsc::Sender<InboundStream>>,
    /// The runtime that runs the connection tasks and all network I/O (the data thread).
    pub io: Handle,
}

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("cannot set up the transports")]
    Transport(#[from] transport::TransportError),
    #[error("`{0}` is not a protocol name: it must start with a slash")]
    DhtProtocol(String),
}
