//! The part that lives in the swarm: makes handles, and knows which protocols a peer may use.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use futures::channel::mpsc;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};
use peerup_types::PathId;

use super::{
    COMMAND_QUEUE, Command, InboundStream, PathHandle, PathUse, Services,
    handler::{Handler, Inbound},
    services::Offered,
};
use crate::{
    connections::Connections,
    endpoint,
    gater::{Admission, Standing},
};

/// Protocols offered to each kind of peer. Strangers are offered none: they do not get this far.
#[derive(Debug, Clone)]
pub struct Protocols {
    pub authorized: Arc<[StreamProtocol]>,
    pub infrastructure: Arc<[StreamProtocol]>,
    pub guest: Arc<[StreamProtocol]>,
}

/// What every connection's handler reads: the admission decides per peer what it is offered.
pub struct Shared {
    admission: ArcSwap<Admission>,
    protocols: Protocols,
    offered: ArcSwap<Offered>,
    nothing: Arc<[StreamProtocol]>,
}

impl Shared {
    pub fn protocols_for(&self, peer: &PeerId) -> Arc<[StreamProtocol]> {
        match self.admission.load().standing(peer) {
            Standing::Authorized => self.offered.load().all(),
            Standing::Infrastructure => self.protocols.infrastructure.clone(),
            Standing::Guest | Standing::Anybody => self.protocols.guest.clone(),
            Standing::Stranger => self.nothing.clone(),
        }
    }

    pub fn is_service(&self, protocol: &StreamProtocol) -> bool {
        self.offered.load().is_service(protocol) && !self.protocols.guest.contains(protocol)
    }

    /// Paths to members and to relays are kept while idle: a standby path must be warm when it is needed.
    pub fn keeps_alive(&self, peer: &PeerId) -> bool {
        match self.admission.load().standing(peer) {
            Standing::Authorized | Standing::Infrastructure => true,
            Standing::Anybody | Standing::Guest | Standing::Stranger => false,
        }
    }
}

#[derive(Debug)]
pub enum Event {
    Opened(PathHandle),
    Closed { path: PathId, peer: PeerId },
}

pub struct Behaviour {
    shared: Arc<Shared>,
    inbound: Inbound,
    connections: Arc<Connections>,
    next_path: u64,
    /// Handles of connections that other behaviours may still refuse.
    pending: HashMap<ConnectionId, (PathId, Arc<PathUse>, mpsc::Sender<Command>)>,
    open: HashMap<ConnectionId, PathId>,
    events: VecDeque<Event>,
}

impl Behaviour {
    /// Streams of services go to `services` where there is such a queue. `first_path` continues the numbering of a
    /// swarm that this one replaces.
    pub fn new(
        protocols: Protocols,
        inbound: mpsc::Sender<InboundStream>,
        services: Option<mpsc::Sender<InboundStream>>,
        connections: Arc<Connections>,
        first_path: u64,
    ) -> Self {
        let offered = ArcSwap::from_pointee(Offered::new(&protocols.authorized, &Services::default()));
        let shared = Shared { admission: ArcSwap::default(), protocols, offered, nothing: Arc::new([]) };
        Self {
            shared: Arc::new(shared),
            inbound: Inbound { control: inbound, services },
            connections,
            next_path: first_path,
            pending: HashMap::new(),
            open: HashMap::new(),
            events: VecDeque::new(),
        }
    }

    pub fn set_admission(&mut self, admission: Arc<Admission>) {
        self.shared.admission.store(admission);
    }

    pub fn set_services(&mut self, services: &Services) {
        let offered = Offered::new(&self.shared.protocols.authorized, services);
        self.shared.offered.store(Arc::new(offered));
    }

    /// What a peer is at the moment of the call, also after later changes of the admission.
    pub fn standing(&self) -> impl Fn(&PeerId) -> Standing + Clone + Send + Sync + use<> {
        let shared = self.shared.clone();
        move |peer| shared.admission.load().standing(peer)
    }

    pub fn next_path(&self) -> u64 {
        self.next_path
    }

    fn handler(&mut self, connection: ConnectionId, peer: PeerId) -> Handler {
        let path = PathId(self.next_path);
        self.next_path += 1;
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let usage = Arc::new(PathUse::default());
        self.pending.insert(connection, (path, usage.clone(), commands));
        Handler::new(path, peer, usage, receiver, self.inbound.clone(), self.shared.clone())
    }

    fn established(&mut self, connection: ConnectionId, peer: PeerId, endpoint: &ConnectedPoint) {
        let Some((path, usage, commands)) = self.pending.remove(&connection) else { return };
        self.open.insert(connection, path);
        self.events.push_back(Event::Opened(PathHandle {
            path,
            peer,
            kind: endpoint::kind(endpoint),
            remote: endpoint::remote(endpoint, peer),
            relay: endpoint::relay(endpoint),
            outbound: endpoint.is_dialer(),
            datagrams: self.connections.take(&peer, endpoint),
            usage,
            connection,
            commands,
        }));
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(up) => {
                self.established(up.connection_id, up.peer_id, up.endpoint)
            }
            FromSwarm::ConnectionClosed(down) => {
                if let Some(path) = self.open.remove(&down.connection_id) {
                    self.events.push_back(Event::Closed { path, peer: down.peer_id });
                }
            }
            FromSwarm::ListenFailure(failure) => {
                self.pending.remove(&failure.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                self.pending.remove(&failure.connection_id);
            }
            // Listeners and addresses are the shell's business.
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(ToSwarm::GenerateEvent(event)),
            None => Poll::Pending,
        }
    }
}
