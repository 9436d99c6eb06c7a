//! A behaviour that works for authorized peers only.
//!
//! DCUtR dials the addresses that the other end of a relayed connection sends. A member may ask for that; a guest
//! who found an open invite, or a relay, could have this host knock on any door it likes. The behaviour inside
//! sees every connection come and go, so its bookkeeping stays whole, but on a connection to anybody else its
//! handler rests: it offers no protocol, opens no stream and keeps nothing alive, and what it reports is dropped.
//!
//! The question is asked each time, not once per connection: a guest that pairing turns into a member gets its
//! hole punched on the connection it already has, at the next event there (a stream of the member's, a ping).
//!
//! A behaviour may also leave peers alone that speak a certain protocol. It does nothing by itself before identify has told
//! what the peer speaks, but answers until then.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{InboundUpgrade, UpgradeInfo},
    },
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{
            ConnectionEvent, FullyNegotiatedInbound, InboundUpgradeSend, ListenUpgradeError,
            OutboundUpgradeSend, ProtocolsChange, UpgradeInfoSend,
        },
    },
};

use crate::{gater::Standing, metered::Meter};

type AskStanding = Arc<dyn Fn(&PeerId) -> Standing + Send + Sync>;

pub struct Authorized<B> {
    inner: B,
    standing: AskStanding,
    meter: Option<Arc<Meter>>,
    spared: Option<StreamProtocol>,
}

impl<B: NetworkBehaviour> Authorized<B> {
    /// `standing` says what a peer is at the moment of the call.
    pub fn new(inner: B, standing: impl Fn(&PeerId) -> Standing + Send + Sync + 'static) -> Self {
        Self { inner, standing: Arc::new(standing), meter: None, spared: None }
    }

    /// What the handlers of the behaviour inside write is counted by `meter`.
    pub fn metered(self, meter: Arc<Meter>) -> Self {
        Self { meter: Some(meter), ..self }
    }

    /// Leaves peers alone that speak `protocol`.
    pub fn sparing(self, protocol: Option<&'static str>) -> Self {
        Self { spared: protocol.map(StreamProtocol::new), ..self }
    }

    pub fn inner_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    fn handler(&self, peer: PeerId, inner: THandler<B>) -> Handler<THandler<B>> {
        let spared = self.spared.clone().map(|protocol| Spared { protocol, spoken: None });
        Handler { inner, peer, standing: self.standing.clone(), meter: self.meter.clone(), spared }
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Authorized<B> {
    type ConnectionHandler = Handler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inner = self.inner.handle_established_inbound_connection(connection, peer, local, remote)?;
        Ok(self.handler(peer, inner))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inner =
            self.inner.handle_established_outbound_connection(connection, peer, address, role, port)?;
        Ok(self.handler(peer, inner))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.inner.on_swarm_event(event);
    }

    /// What a handler reported before its peer was removed may arrive after.
    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        if (self.standing)(&peer) == Standing::Authorized {
            self.inner.on_connection_handler_event(peer, connection, event);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<B::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}

pub struct Handler<H> {
    inner: H,
    peer: PeerId,
    standing: AskStanding,
    meter: Option<Arc<Meter>>,
    spared: Option<Spared>,
}

/// Speakers of a protocol are left alone.
struct Spared {
    protocol: StreamProtocol,
    /// Whether the peer does; `None` before identify has told.
    spoken: Option<bool>,
}

impl Spared {
    fn learn(&mut self, change: &ProtocolsChange<'_>) {
        match change {
            ProtocolsChange::Added(added) => {
                let speaks = added.clone().any(|protocol| *protocol == self.protocol);
                self.spoken = Some(speaks || self.spoken == Some(true));
            }
            ProtocolsChange::Removed(removed) => {
                if removed.clone().any(|protocol| *protocol == self.protocol) {
                    self.spoken = Some(false);
                }
            }
        }
    }
}

impl<H> Handler<H> {
    fn is_authorized(&self) -> bool {
        (self.standing)(&self.peer) == Standing::Authorized
    }

    fn is_spared(&self) -> bool {
        self.spared.as_ref().is_some_and(|spared| spared.spoken == Some(true))
    }

    /// Whether the handler inside may do something by itself.
    fn may_act(&self) -> bool {
        self.is_authorized() && self.spared.as_ref().is_none_or(|spared| spared.spoken == Some(false))
    }
}

impl<H: ConnectionHandler> ConnectionHandler for Handler<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = Offer<H::InboundProtocol>;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        let open = self.is_authorized() && !self.is_spared();
        self.inner.listen_protocol().map_upgrade(|upgrade| Offer { upgrade, open })
    }

    fn connection_keep_alive(&self) -> bool {
        self.is_authorized() && !self.is_spared() && self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<H::OutboundProtocol, H::OutboundOpenInfo, H::ToBehaviour>> {
        if !self.may_act() {
            return Poll::Pending;
        }
        match &self.meter {
            Some(meter) => meter.scope(|| self.inner.poll(cx)),
            None => self.inner.poll(cx),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<H::ToBehaviour>> {
        self.inner.poll_close(cx)
    }

    fn on_behaviour_event(&mut self, event: H::FromBehaviour) {
        self.inner.on_behaviour_event(event);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            H::OutboundProtocol,
            H::InboundOpenInfo,
            H::OutboundOpenInfo,
        >,
    ) {
        if let (ConnectionEvent::RemoteProtocolsChange(change), Some(spared)) = (&event, &mut self.spared) {
            spared.learn(change);
        }
        if let Some(event) = unwrapped(event) {
            self.inner.on_connection_event(event);
        }
    }
}

/// The event as the handler inside knows it: the upgrade differs by name only.
fn unwrapped<I, O, IInfo, OInfo>(
    event: ConnectionEvent<'_, Offer<I>, O, IInfo, OInfo>,
) -> Option<ConnectionEvent<'_, I, O, IInfo, OInfo>>
where
    I: InboundUpgradeSend,
    O: OutboundUpgradeSend,
{
    Some(match event {
        ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info }) => {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info })
        }
        ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }) => {
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error })
        }
        ConnectionEvent::FullyNegotiatedOutbound(event) => ConnectionEvent::FullyNegotiatedOutbound(event),
        ConnectionEvent::DialUpgradeError(event) => ConnectionEvent::DialUpgradeError(event),
        ConnectionEvent::AddressChange(event) => ConnectionEvent::AddressChange(event),
        ConnectionEvent::LocalProtocolsChange(event) => ConnectionEvent::LocalProtocolsChange(event),
        ConnectionEvent::RemoteProtocolsChange(event) => ConnectionEvent::RemoteProtocolsChange(event),
        // A kind of event that a later libp2p adds; the version is pinned.
        _ => return None,
    })
}

/// An upgrade that is listed only while it is open.
pub struct Offer<U> {
    upgrade: U,
    open: bool,
}

impl<U: UpgradeInfoSend> UpgradeInfo for Offer<U> {
    type Info = U::Info;
    type InfoIter = Vec<U::Info>;

    fn protocol_info(&self) -> Vec<U::Info> {
        match self.open {
            true => self.upgrade.protocol_info().collect(),
            false => Vec::new(),
        }
    }
}

impl<U: InboundUpgradeSend> InboundUpgrade<Stream> for Offer<U> {
    type Output = U::Output;
    type Error = U::Error;
    type Future = U::Future;

    fn upgrade_inbound(self, stream: Stream, protocol: U::Info) -> U::Future {
        self.upgrade.upgrade_inbound(stream, protocol)
    }
}
