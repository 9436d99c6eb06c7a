//! Listening and dialing.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::SelectAll};
use libp2p_core::{
    Endpoint, Multiaddr,
    transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent},
};
use libp2p_identity::PeerId;

use super::{
    address,
    config::{Config, Ends, Settings},
    connecting::{Error, Handshakes},
    connection::Connection,
    endpoint,
    listener::Listener,
};

/// A handshake that yields the authenticated peer.
pub(crate) type Upgrade = BoxFuture<'static, Result<(PeerId, Connection), Error>>;

/// The address every rustls client needs and none of ours sends.
const NO_NAME: &str = "0.0.0.0";

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    V4,
    V6,
}

impl From<SocketAddr> for Family {
    fn from(address: SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// QUIC v1 for libp2p. Needs a tokio runtime when it listens or dials.
pub struct Transport {
    settings: Settings,
    handshakes: Handshakes,
    listeners: SelectAll<Listener>,
    /// Listeners so far.
    listened: u64,
    /// Sockets of dials that wanted to reuse a port of a family without a listener.
    dialers: HashMap<Family, quinn::Endpoint>,
    waker: Option<Waker>,
}

impl Transport {
    pub fn new(config: Config) -> Self {
        let settings = Settings::new(config);
        Self {
            handshakes: Handshakes::new(&settings),
            settings,
            listeners: SelectAll::new(),
            listened: 0,
            dialers: HashMap::new(),
            waker: None,
        }
    }

    fn endpoint_to(&mut self, remote: SocketAddr, port_use: PortUse) -> Result<quinn::Endpoint, Error> {
        if port_use == PortUse::New {
            return endpoint::dialing(&self.settings, remote).map_err(Error::Socket);
        }
        if let Some(listener) = self.listener_to(remote) {
            return Ok(listener.endpoint().clone());
        }
        if let Some(dialer) = self.dialers.get(&remote.into()) {
            return Ok(dialer.clone());
        }
        let dialer = endpoint::dialing(&self.settings, remote).map_err(Error::Socket)?;
        self.dialers.insert(remote.into(), dialer.clone());
        Ok(dialer)
    }

    /// Always the same one, so that the mapping a NAT made for one peer serves the next.
    fn listener_to(&self, remote: SocketAddr) -> Option<&Listener> {
        self.listeners
            .iter()
            .filter(|listener| listener.reaches(remote))
            .min_by_key(|listener| listener.rank())
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl libp2p_core::Transport for Transport {
    type Output = (PeerId, Connection);
    type Error = Error;
    type ListenerUpgrade = Upgrade;
    type Dial = Upgrade;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Error>> {
        let Some((local, _)) = address::parse(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let listener = endpoint::listening(&self.settings, local)
            .and_then(|endpoint| {
                let (configs, handshakes) = (self.settings.server(), self.handshakes.clone());
                Listener::new(id, self.listened, endpoint, configs, handshakes)
            })
            .map_err(|error| TransportError::Other(Error::Socket(error)))?;
        self.listeners.push(listener);
        self.listened += 1;
        // Later dials leave from the listener; the old socket ends with its last connection.
        self.dialers.remove(&local.into());
        self.wake();
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let listener = self.listeners.iter_mut().find(|listener| listener.id() == id);
        listener.is_some_and(Listener::close)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Upgrade, TransportError<Error>> {
        let (remote, expected) = match address::parse(&address) {
            Some((remote, expected)) if is_dialable(remote) => (remote, expected),
            Some(_) | None => return Err(TransportError::MultiaddrNotSupported(address)),
        };
        let endpoint = self.endpoint_to(remote, opts.port_use).map_err(TransportError::Other)?;
        // Without a route the dial fails by itself.
        let ends =
            endpoint::source_to(&endpoint, remote).map_or(Ends::Apart, |local| Ends::of(local, remote.ip()));
        let (config, mismatch) = self.settings.client(expected, ends);
        let handshakes = self.handshakes.clone();
        let dial = async move {
            let connecting = endpoint.connect_with(config, remote, NO_NAME)?;
            let finished = handshakes.finish(connecting, Endpoint::Dialer).await;
            finished.map_err(|error| mismatch.get().map_or(error, |wrong| Box::new(*wrong).into()))
        };
        Ok(dial.boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Upgrade, Error>> {
        if let Poll::Ready(Some(event)) = self.listeners.poll_next_unpin(cx) {
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn is_dialable(remote: SocketAddr) -> bool {
    remote.port() != 0 && !remote.ip().is_unspecified()
}
