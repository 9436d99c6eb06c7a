//! [`PeerSwarm`]: the swarm as a device with calls in and events out, rebuilt when libp2p panics.

mod lookups;
mod rebinding;
mod relaying;
mod restarts;
mod supervision;

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{Stream as _, channel::mpsc, future::poll_fn};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm,
    core::transport::ListenerId,
    dcutr, identify, kad, mdns,
    metrics::{Metrics, Recorder, Registry},
    multiaddr::Protocol,
    ping, relay,
    swarm::{
        ConnectionId, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use peerup_types::PathId;
use tokio::time::Sleep;

use self::{
    lookups::Lookups,
    rebinding::Rebinding,
    relaying::{Relaying, relay_server_event, relaying},
    restarts::Restarts,
};
use crate::{
    behaviour::{Behaviour, BehaviourEvent},
    build::build,
    config::{BuildError, SwarmConfig},
    event::{DialError, DialId, Event, ListenError},
    gater::{Admission, Standing},
    liveness,
    paths::{self, InboundStream, Services},
    underlay,
};

pub struct PeerSwarm {
    config: SwarmConfig,
    swarm: Swarm<Behaviour>,
    inbound: mpsc::Receiver<InboundStream>,
    admission: Arc<Admission>,
    services: Services,
    listen: Vec<Multiaddr>,
    external: Vec<Multiaddr>,
    relaying: Option<Relaying>,
    relaying_at: Vec<Multiaddr>,
    paths: HashMap<PathId, (PeerId, ConnectionId)>,
    by_connection: HashMap<ConnectionId, PathId>,
    /// Circuit listeners and the relay each belongs to: libp2p reports loss by listener only.
    reservations: HashMap<ListenerId, PeerId>,
    restarts: Restarts,
    /// Runs while a rebuilt swarm is left alone.
    resting: Option<Pin<Box<Sleep>>>,
    rebinding: Option<Rebinding>,
    lookups: Lookups,
    pending: VecDeque<Event>,
    /// libp2p's own metrics, where somebody wants them.
    metrics: Option<Metrics>,
    observed: bool,
    provoke: bool,
}

impl PeerSwarm {
    /// Builds the transports and behaviours; nothing listens yet.
    pub fn new(config: SwarmConfig) -> Result<Self, BuildError> {
        let relaying = relaying(&config.profile);
        let (swarm, inbound) = build(&config, 0, relaying.clone())?;
        Ok(Self {
            config,
            swarm,
            inbound,
            admission: Arc::default(),
            services: Services::default(),
            listen: Vec::new(),
            external: Vec::new(),
            relaying,
            relaying_at: Vec::new(),
            paths: HashMap::new(),
            by_connection: HashMap::new(),
            reservations: HashMap::new(),
            restarts: Restarts::default(),
            resting: None,
            rebinding: None,
            lookups: Lookups::default(),
            pending: VecDeque::new(),
            metrics: None,
            observed: false,
            provoke: false,
        })
    }

    pub fn local_peer(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    /// Listens on an underlay address. The address is kept and listened on again after a restart.
    pub fn listen(&mut self, address: Multiaddr) -> Result<(), ListenError> {
        let _io = self.config.io.enter();
        self.swarm
            .listen_on(address.clone())
            .map_err(|error| ListenError { address: address.clone(), reason: chain(&error) })?;
        self.listen.push(address);
        Ok(())
    }

    /// Asks `relay` for a reservation through one of its addresses. The answer is [`Event::Reserved`] or
    /// [`Event::ReservationLost`].
    pub fn reserve(&mut self, relay: PeerId, address: Multiaddr) -> Result<(), ListenError> {
        let circuit = with_peer(address, relay).with(Protocol::P2pCircuit);
        let _io = self.config.io.enter();
        let listener = self
            .swarm
            .listen_on(circuit.clone())
            .map_err(|error| ListenError { address: circuit, reason: chain(&error) })?;
        self.reservations.insert(listener, relay);
        Ok(())
    }

    /// Dials exactly `addresses`, whether or not the peer is connected already.
    pub fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<DialId, DialError> {
        self.dial_opts(
            peer,
            DialOpts::peer_id(peer).addresses(addresses).condition(PeerCondition::Always).build(),
        )
    }

    /// Dials `addresses` as the listening side of a TCP simultaneous open or QUIC hole punch.
    pub fn dial_as_listener(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<DialId, DialError> {
        let opts = DialOpts::peer_id(peer)
            .addresses(addresses)
            .condition(PeerCondition::Always)
            .override_role()
            .build();
        self.dial_opts(peer, opts)
    }

    fn dial_opts(&mut self, peer: PeerId, opts: DialOpts) -> Result<DialId, DialError> {
        let dial = DialId(opts.connection_id());
        let _io = self.config.io.enter();
        self.swarm.dial(opts).map_err(|error| DialError { peer, reason: chain(&error) })?;
        Ok(dial)
    }

    /// Closes one path. Streams on it end abruptly, so drain first.
    pub fn close(&mut self, path: PathId) {
        if let Some((_, connection)) = self.paths.get(&path) {
            self.swarm.close_connection(*connection);
        }
    }

    /// Closes every path to `peer`.
    pub fn disconnect(&mut self, peer: PeerId) {
        // An error means that the peer is not connected, which is what was asked for.
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    /// Replaces the admission policy and closes what it no longer admits.
    pub fn set_admission(&mut self, admission: Admission) {
        let removed: Vec<PeerId> = self
            .paths
            .values()
            .map(|(peer, _)| *peer)
            .filter(|peer| self.admission.authorized.contains(peer) && !admission.authorized.contains(peer))
            .filter(|peer| !admission.infrastructure.contains(peer))
            .collect();
        self.admission = Arc::new(admission);
        self.apply_admission();
        for peer in removed {
            tracing::info!(%peer, "no longer authorized: closing its connections");
            self.disconnect(peer);
        }
    }

    /// Offers these services from here on. Streams that are open stay open.
    pub fn set_services(&mut self, services: Services) {
        self.services = services;
        self.apply_admission();
    }

    fn apply_admission(&mut self) {
        let behaviour = self.swarm.behaviour_mut();
        behaviour.paths.set_services(&self.services);
        behaviour.gater.set_admission(self.admission.clone());
        if self.observed {
            behaviour.gater.observe();
        }
        behaviour.paths.set_admission(self.admission.clone());
    }

    /// An address at which this host is known to be reachable.
    pub fn add_external_address(&mut self, address: Multiaddr) {
        if !self.external.contains(&address) {
            self.swarm.add_external_address(address.clone());
            self.external.push(address);
        }
    }

    /// Takes back what [`add_external_address`](Self::add_external_address) said.
    pub fn remove_external_address(&mut self, address: &Multiaddr) {
        self.swarm.remove_external_address(address);
        self.external.retain(|known| known != address);
    }

    /// An address to offer in DCUtR, see [`crate::candidates`].
    pub fn add_candidate(&mut self, observed: Multiaddr) {
        self.swarm.behaviour_mut().candidates.report(observed);
    }

    /// Makes `peer` known to the private DHT.
    pub fn add_dht_peer(&mut self, peer: PeerId, address: Multiaddr) {
        self.swarm.behaviour_mut().kad.add_address(&peer, address);
    }

    /// Registers libp2p's own metrics and keeps them up to date.
    pub fn register_metrics(&mut self, registry: &mut Registry) {
        self.metrics = Some(Metrics::new(registry));
    }

    /// Reports every decision about an inbound connection as [`Event::Decided`].
    pub fn observe_decisions(&mut self) {
        self.observed = true;
        self.swarm.behaviour_mut().gater.observe();
    }

    /// Inbound connections refused by the gater since the last start of the swarm.
    pub fn refused(&self) -> u64 {
        self.swarm.behaviour().gater.refused()
    }

    /// Lets the next poll panic, to prove that supervision works.
    #[doc(hidden)]
    pub fn provoke_panic(&mut self) {
        self.provoke = true;
    }

    /// The next event. Cancel-safe.
    pub async fn next_event(&mut self) -> Event {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Poll::Ready(event);
            }
            self.poll_rebinding(cx);
            if let Some(decision) = self.swarm.behaviour_mut().gater.take_decision() {
                self.pending.push_back(Event::Decided(decision));
            }
            if !self.pending.is_empty() {
                continue;
            }
            ready!(self.poll_rested(cx));
            match self.poll_supervised(cx) {
                Ok(Poll::Ready(event)) => self.translate(event),
                Ok(Poll::Pending) => break,
                Err(panic) => self.restart(panic),
            }
        }
        match Pin::new(&mut self.inbound).poll_next(cx) {
            Poll::Ready(Some(stream)) => Poll::Ready(Event::Inbound(stream)),
            // The behaviour holds a sender as long as the swarm lives.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn translate(&mut self, event: SwarmEvent<BehaviourEvent>) {
        if let Some(metrics) = &self.metrics {
            record(metrics, &event);
        }
        match event {
            SwarmEvent::Behaviour(event) => self.translate_behaviour(event),
            SwarmEvent::NewListenAddr { address, .. }
                if !underlay::is_overlay(&address, &self.config.overlay) =>
            {
                self.pending.push_back(Event::Listening(address));
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.pending.push_back(Event::ListenExpired(address));
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                let Some(relay) = self.reservations.remove(&listener_id) else { return };
                tracing::debug!(%relay, ?reason, "reservation lost");
                self.pending.push_back(Event::ReservationLost { relay });
            }
            SwarmEvent::ListenerError { error, .. } => tracing::debug!(%error, "listener error"),
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.pending.push_back(Event::DialFailed {
                    dial: DialId(connection_id),
                    peer: peer_id,
                    error: chain(&error),
                });
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(%send_back_addr, error = %chain(&error), "inbound connection failed");
            }
            // Paths are reported by the paths behaviour, which knows their handles; the rest is libp2p's detail.
            _ => {}
        }
    }

    fn translate_behaviour(&mut self, event: BehaviourEvent) {
        let event = match event {
            BehaviourEvent::Paths(paths::Event::Opened(handle)) => {
                self.paths.insert(handle.path, (handle.peer, handle.connection));
                self.by_connection.insert(handle.connection, handle.path);
                Some(Event::PathOpened(handle))
            }
            BehaviourEvent::Paths(paths::Event::Closed { path, peer }) => {
                if let Some((_, connection)) = self.paths.remove(&path) {
                    self.by_connection.remove(&connection);
                }
                Some(Event::PathClosed { path, peer })
            }
            BehaviourEvent::Identify(identify::Event::Received { connection_id, peer_id, info }) => {
                self.learn_dht_server(peer_id, &info);
                Some(Event::Identified {
                    peer: peer_id,
                    path: self.by_connection.get(&connection_id).copied(),
                    agent: info.agent_version,
                    listen: info.listen_addrs,
                    observed: info.observed_addr,
                })
            }
            BehaviourEvent::RelayClient(relay::client::Event::ReservationReqAccepted {
                relay_peer_id,
                ..
            }) => Some(Event::Reserved { relay: relay_peer_id }),
            BehaviourEvent::RelayServer(event) | BehaviourEvent::Serving(event) => relay_server_event(event),
            BehaviourEvent::Dcutr(dcutr::Event { remote_peer_id, result }) => {
                Some(Event::HolePunch { peer: remote_peer_id, success: result.is_ok() })
            }
            BehaviourEvent::AutonatClient(tested) => {
                let (address, reachable) = (tested.tested_addr, tested.result.is_ok());
                Some(Event::Tested { address, reachable })
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                let own = self.local_peer();
                let others = found.into_iter().filter(|(peer, _)| *peer != own);
                self.pending.extend(others.map(|(peer, address)| Event::Discovered { peer, address }));
                None
            }
            BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed { id, result, step, .. }) => {
                self.translate_lookup(id, result, step.last);
                None
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result: Err(failure) }) => {
                self.handle_failed_ping(peer, connection, &failure);
                None
            }
            // The other events only inform.
            _ => None,
        };
        self.pending.extend(event);
    }

    fn handle_failed_ping(&mut self, peer: PeerId, connection: ConnectionId, failure: &ping::Failure) {
        if liveness::is_dead(failure) {
            tracing::debug!(%peer, %failure, "closing a connection that does not answer");
            self.swarm.close_connection(connection);
        }
    }

    /// The routing table of the private DHT holds members and relays that serve its protocol, and nobody else: kad
    /// dials what it holds, and asks it whom to dial next.
    fn learn_dht_server(&mut self, peer: PeerId, info: &identify::Info) {
        match self.admission.standing(&peer) {
            Standing::Authorized | Standing::Infrastructure => {}
            Standing::Anybody | Standing::Guest | Standing::Stranger => return,
        }
        let protocol = StreamProtocol::try_from_owned(self.config.dht_protocol.clone());
        let Ok(protocol) = protocol else { return };
        if !info.protocols.contains(&protocol) {
            return;
        }
        for address in &info.listen_addrs {
            if !underlay::is_overlay(address, &self.config.overlay) {
                self.add_dht_peer(peer, address.clone());
            }
        }
    }
}

/// libp2p counts connections, and what its behaviours report.
fn record(metrics: &Metrics, event: &SwarmEvent<BehaviourEvent>) {
    metrics.record(event);
    let SwarmEvent::Behaviour(event) = event else { return };
    match event {
        BehaviourEvent::Identify(event) => metrics.record(event),
        BehaviourEvent::Ping(event) => metrics.record(event),
        BehaviourEvent::Kad(event) => metrics.record(event),
        BehaviourEvent::RelayServer(event) | BehaviourEvent::Serving(event) => metrics.record(event),
        BehaviourEvent::Dcutr(event) => metrics.record(event),
        // libp2p has no metrics for these.
        _ => {}
    }
}

/// `address` with `/p2p/<peer>` at its end, once.
fn with_peer(address: Multiaddr, peer: PeerId) -> Multiaddr {
    match address.iter().last() {
        Some(Protocol::P2p(_)) => address,
        _ => address.with(Protocol::P2p(peer)),
    }
}

/// An error with its causes on one line, as users and logs read it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use libp2p::identity::Keypair;

    use super::*;
    use crate::config::Profile;

    const DHT: &str = "/test/kad/1.0.0";

    #[tokio::test]
    async fn a_guest_gets_no_place_in_the_routing_table_and_a_member_does() {
        let mut swarm = node();
        let server = Keypair::generate_ed25519();
        let peer = server.public().to_peer_id();
        swarm.set_admission(Admission { guests: true, ..Admission::default() });
        swarm.learn_dht_server(peer, &served_by(&server));
        assert_eq!(routing_table(&mut swarm), 0);
        swarm.set_admission(Admission { authorized: BTreeSet::from([peer]), ..Admission::default() });
        swarm.learn_dht_server(peer, &served_by(&server));
        assert_eq!(routing_table(&mut swarm), 1);
    }

    fn routing_table(swarm: &mut PeerSwarm) -> usize {
        swarm.swarm.behaviour_mut().kad.kbuckets().map(|bucket| bucket.num_entries()).sum()
    }

    fn served_by(server: &Keypair) -> identify::Info {
        identify::Info {
            public_key: server.public(),
            protocol_version: String::new(),
            agent_version: String::new(),
            listen_addrs: vec!["/ip4/192.0.2.1/tcp/4001".parse().unwrap()],
            protocols: vec![StreamProtocol::new(DHT)],
            observed_addr: Multiaddr::empty(),
            signed_peer_record: None,
        }
    }

    fn node() -> PeerSwarm {
        PeerSwarm::new(SwarmConfig {
            keypair: Keypair::generate_ed25519(),
            agent: String::new(),
            dht_protocol: DHT.to_owned(),
            overlay: Vec::new(),
            profile: Profile::Node { mdns: false, relaying: None, punches_over: None },
            authorized_protocols: Vec::new(),
            infrastructure_protocols: Vec::new(),
            guest_protocols: Vec::new(),
            services: None,
            io: tokio::runtime::Handle::current(),
        })
        .unwrap()
    }
}
