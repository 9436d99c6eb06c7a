//! Circuit relay v2 for members: libp2p's relay server, for authorized peers only and at addresses of our choice.
//!
//! Left to itself the server would name every external address of the swarm in its reservations, among them our own
//! circuits through other relays, and would switch itself on because of them. So it hears of no external address but
//! those that [`Serving::serve`] gives it, and its status is always explicit.
//!
//! It does not hear of relayed connections either: their handlers are dummies, and a change of the status that is sent to
//! a dummy panics in its connection's task (libp2p-relay 0.22).

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    relay,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
        behaviour::{ExternalAddrConfirmed, ExternalAddrExpired},
    },
};

use crate::{authorized::Authorized, gater::Standing, metered::Meter};

type Inner = Authorized<relay::Behaviour>;

pub struct Serving {
    inner: Inner,
    addresses: Vec<Multiaddr>,
}

impl Serving {
    /// Serves nobody yet.
    pub fn new(
        own: PeerId,
        config: relay::Config,
        standing: impl Fn(&PeerId) -> Standing + Send + Sync + 'static,
        meter: Arc<Meter>,
    ) -> Self {
        let mut relay = relay::Behaviour::new(own, config);
        relay.set_status(Some(relay::Status::Disable));
        Self { inner: Authorized::new(relay, standing).metered(meter), addresses: Vec::new() }
    }

    /// Relays at these addresses; without any, new reservations and circuits are refused.
    pub fn serve(&mut self, addresses: Vec<Multiaddr>) {
        for addr in self.addresses.iter().filter(|addr| !addresses.contains(addr)) {
            let expired = FromSwarm::ExternalAddrExpired(ExternalAddrExpired { addr });
            self.inner.on_swarm_event(expired);
        }
        for addr in &addresses {
            let confirmed = FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr });
            self.inner.on_swarm_event(confirmed);
        }
        let status = if addresses.is_empty() { relay::Status::Disable } else { relay::Status::Enable };
        self.inner.inner_mut().set_status(Some(status));
        self.addresses = addresses;
    }
}

impl NetworkBehaviour for Serving {
    type ConnectionHandler = THandler<Inner>;
    type ToSwarm = relay::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ExternalAddrConfirmed(_) | FromSwarm::ExternalAddrExpired(_) => {}
            FromSwarm::ConnectionEstablished(up) if up.endpoint.is_relayed() => {}
            FromSwarm::ConnectionClosed(down) if down.endpoint.is_relayed() => {}
            other => self.inner.on_swarm_event(other),
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<relay::Event, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}
