//! The composed behaviour. Field order matters: libp2p's derive asks the fields in order and stops at the first
//! refusal, so the gater comes first and no other field sees a connection it refuses.

use std::time::{Duration, Instant};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol, connection_limits, dcutr, identify,
    identity::Keypair,
    kad, mdns, relay,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};

use crate::{
    authorized::Authorized,
    autonat, candidates,
    gater::{self, Standing},
    liveness, paths,
    serving::Serving,
};

/// Connections per peer: two transports, two families and their twins, doubled for make-before-break.
const MAX_CONNECTIONS_PER_PEER: u32 = 16;
/// What changes is pushed at once. To ask again costs a dozen packets on every connection, and libp2p's five minutes make
/// that most of what an idle node sends.
const IDENTIFY_EVERY: Duration = Duration::from_secs(3600);
/// Handshakes in progress that others may cause.
const MAX_PENDING_INCOMING: u32 = 256;
/// Dials in progress, own and those that peers cause through hole punching: several peers raced at once over all
/// their addresses. A dial beyond fails at once and is tried again by whoever wanted it.
const MAX_PENDING_OUTGOING: u32 = 64;

#[derive(NetworkBehaviour)]
pub struct Behaviour {
    pub gater: gater::Behaviour,
    pub limits: connection_limits::Behaviour,
    pub candidates: candidates::Behaviour,
    pub paths: paths::Behaviour,
    pub identify: identify::Behaviour,
    pub ping: liveness::Behaviour,
    pub kad: kad::Behaviour<kad::store::MemoryStore>,
    pub relay_client: Toggle<relay::client::Behaviour>,
    pub relay_server: Toggle<relay::Behaviour>,
    pub serving: Toggle<Serving>,
    pub dcutr: Toggle<Authorized<dcutr::Behaviour>>,
    pub mdns: Toggle<mdns::tokio::Behaviour>,
    pub autonat_client: Toggle<autonat::Client>,
    pub autonat_server: Toggle<autonat::Server>,
}

/// What a relay grants. There is no byte cap: a VPN session is long and its peers are known by key (docs/adr/0016).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayLimits {
    pub max_reservations: usize,
    pub max_circuits: usize,
    pub max_circuits_per_peer: usize,
    pub reservation_ttl: Duration,
    pub circuit_duration: Duration,
    /// Bytes per circuit, both directions together; 0 is unlimited.
    pub circuit_bytes: u64,
}

impl RelayLimits {
    /// libp2p's own configuration. The stock rate limiters go: they allow one reservation per two minutes and
    /// peer, which a roaming laptop exceeds. In their place stands who may ask at all: a guest may open a circuit
    /// (to whom, the relay checks when it opens) but not reserve, and so cannot be reached by others.
    pub fn to_config(
        &self,
        standing: impl Fn(&PeerId) -> Standing + Clone + Send + 'static,
    ) -> relay::Config {
        let reserving = standing.clone();
        relay::Config {
            max_reservations: self.max_reservations,
            // One per transport and family, and the old one while a peer roams.
            max_reservations_per_peer: 8,
            reservation_duration: self.reservation_ttl,
            reservation_rate_limiters: vec![Box::new(move |peer: PeerId, _: &Multiaddr, _: Instant| {
                may_reserve(reserving(&peer))
            })],
            max_circuits: self.max_circuits,
            max_circuits_per_peer: self.max_circuits_per_peer,
            max_circuit_duration: self.circuit_duration.min(Duration::from_secs(u32::MAX.into())),
            max_circuit_bytes: self.circuit_bytes,
            circuit_src_rate_limiters: vec![Box::new(move |peer: PeerId, _: &Multiaddr, _: Instant| {
                may_open_circuits(standing(&peer))
            })],
        }
    }

    /// The same for a node that relays: members only, whatever else it admits.
    pub fn to_member_config(
        &self,
        standing: impl Fn(&PeerId) -> Standing + Clone + Send + 'static,
    ) -> relay::Config {
        let members = move |peer: &PeerId| match standing(peer) {
            Standing::Authorized => Standing::Authorized,
            Standing::Infrastructure | Standing::Anybody | Standing::Guest | Standing::Stranger => {
                Standing::Stranger
            }
        };
        self.to_config(members)
    }
}

fn may_reserve(standing: Standing) -> bool {
    match standing {
        Standing::Authorized | Standing::Anybody => true,
        Standing::Infrastructure | Standing::Guest | Standing::Stranger => false,
    }
}

/// A connection may outlive what admitted it, so the question is asked for each circuit.
fn may_open_circuits(standing: Standing) -> bool {
    match standing {
        Standing::Authorized | Standing::Anybody | Standing::Guest => true,
        Standing::Infrastructure | Standing::Stranger => false,
    }
}

pub fn limits() -> connection_limits::Behaviour {
    connection_limits::Behaviour::new(
        connection_limits::ConnectionLimits::default()
            .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER))
            .with_max_pending_incoming(Some(MAX_PENDING_INCOMING))
            .with_max_pending_outgoing(Some(MAX_PENDING_OUTGOING)),
    )
}

pub fn identify(keypair: &Keypair, agent: &str, hide_listen_addresses: bool) -> identify::Behaviour {
    let config = identify::Config::new("/peerup/1.0.0".to_owned(), keypair.public())
        .with_agent_version(agent.to_owned())
        .with_interval(IDENTIFY_EVERY)
        .with_push_listen_addr_updates(true)
        // Nodes exchange addresses in their own protocol, filtered; a listen address of the TUN never leaves.
        .with_hide_listen_addrs(hide_listen_addresses);
    identify::Behaviour::new(config)
}

/// The private DHT. The mode is explicit: libp2p would turn a node with nothing but a circuit address into a server. Nothing
/// is asked by the clock: an idle node is silent, and the table is seeded for every question.
pub fn kad(
    own: PeerId,
    protocol: StreamProtocol,
    mode: kad::Mode,
) -> kad::Behaviour<kad::store::MemoryStore> {
    let store = kad::store::MemoryStore::new(own);
    let mut config = kad::Config::new(protocol);
    config.set_periodic_bootstrap_interval(None);
    let mut kad = kad::Behaviour::with_config(own, store, config);
    kad.set_mode(Some(mode));
    kad
}
