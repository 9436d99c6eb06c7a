//! A socket that accepts, and the addresses it is reachable at.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::{FutureExt, Stream, future::BoxFuture};
use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p_core::{
    Endpoint,
    transport::{ListenerId, TransportEvent},
};

use super::{
    address,
    config::{ByEnds, Ends},
    connecting::{Error, Handshakes},
    transport::Upgrade,
};

type Event = TransportEvent<Upgrade, Error>;

pub(crate) struct Listener {
    id: ListenerId,
    /// How many listeners were there before.
    rank: u64,
    local: SocketAddr,
    endpoint: quinn::Endpoint,
    configs: ByEnds<Arc<quinn::ServerConfig>>,
    handshakes: Handshakes,
    accepting: BoxFuture<'static, Option<quinn::Incoming>>,
    /// Only a wildcard has addresses that come and go.
    addresses: Option<IfWatcher>,
    pending: VecDeque<Event>,
    is_closed: bool,
    waker: Option<Waker>,
}

impl Listener {
    pub(crate) fn new(
        id: ListenerId,
        rank: u64,
        endpoint: quinn::Endpoint,
        configs: ByEnds<Arc<quinn::ServerConfig>>,
        handshakes: Handshakes,
    ) -> io::Result<Self> {
        let local = endpoint.local_addr()?;
        let is_wildcard = local.ip().is_unspecified();
        let mut listener = Self {
            id,
            rank,
            local,
            accepting: accept(&endpoint),
            endpoint,
            configs,
            handshakes,
            addresses: if is_wildcard { Some(IfWatcher::new()?) } else { None },
            pending: VecDeque::new(),
            is_closed: false,
            waker: None,
        };
        if !is_wildcard {
            listener.pending.push_back(listener.new_address(local));
        }
        Ok(listener)
    }

    pub(crate) fn id(&self) -> ListenerId {
        self.id
    }

    pub(crate) fn rank(&self) -> u64 {
        self.rank
    }

    /// Packets from this socket can reach `remote`: the families agree, and neither is confined to this host while
    /// the other is not.
    pub(crate) fn reaches(&self, remote: SocketAddr) -> bool {
        let ip = self.local.ip();
        !self.is_closed
            && self.local.is_ipv4() == remote.is_ipv4()
            && (ip.is_unspecified() || ip.is_loopback() == remote.ip().is_loopback())
    }

    pub(crate) fn endpoint(&self) -> &quinn::Endpoint {
        &self.endpoint
    }

    /// Accepts no more, and says whether it did. Connections keep the socket until the last of them ends.
    pub(crate) fn close(&mut self) -> bool {
        if self.is_closed {
            return false;
        }
        self.is_closed = true;
        self.endpoint.set_server_config(None);
        self.pending.push_back(TransportEvent::ListenerClosed { listener_id: self.id, reason: Ok(()) });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        true
    }

    fn new_address(&self, socket: SocketAddr) -> Event {
        TransportEvent::NewAddress { listener_id: self.id, listen_addr: address::format(socket) }
    }

    fn poll_addresses(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let Some(watcher) = &mut self.addresses else { return Poll::Pending };
        while let Poll::Ready(event) = watcher.poll_if_event(cx) {
            let (network, is_up) = match event {
                Ok(IfEvent::Up(network)) => (network, true),
                Ok(IfEvent::Down(network)) => (network, false),
                Err(error) => {
                    self.addresses = None; // it would fail again and again
                    let error = Error::Addresses(error);
                    return Poll::Ready(TransportEvent::ListenerError { listener_id: self.id, error });
                }
            };
            let socket = SocketAddr::new(network.addr(), self.local.port());
            if socket.is_ipv4() != self.local.is_ipv4() {
                continue;
            }
            if is_up {
                return Poll::Ready(self.new_address(socket));
            }
            let listen_addr = address::format(socket);
            return Poll::Ready(TransportEvent::AddressExpired { listener_id: self.id, listen_addr });
        }
        Poll::Pending
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let Some(incoming) = std::task::ready!(self.accepting.poll_unpin(cx)) else {
            return Poll::Ready(None);
        };
        self.accepting = accept(&self.endpoint);
        let remote = incoming.remote_address();
        let local = incoming.local_ip().map_or(self.local, |ip| SocketAddr::new(ip, self.local.port()));
        let config = self.configs.get(Ends::of(local.ip(), remote.ip()));
        let event = match incoming.accept_with(config) {
            Ok(connecting) => TransportEvent::Incoming {
                listener_id: self.id,
                upgrade: self.handshakes.clone().finish(connecting, Endpoint::Listener).boxed(),
                local_addr: address::format(local),
                send_back_addr: address::format(remote),
            },
            Err(error) => TransportEvent::ListenerError { listener_id: self.id, error: error.into() },
        };
        Poll::Ready(Some(event))
    }
}

fn accept(endpoint: &quinn::Endpoint) -> BoxFuture<'static, Option<quinn::Incoming>> {
    let endpoint = endpoint.clone();
    async move { endpoint.accept().await }.boxed()
}

impl Stream for Listener {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Poll::Ready(Some(event));
            }
            if self.is_closed {
                return Poll::Ready(None);
            }
            if let Poll::Ready(event) = self.poll_addresses(cx) {
                return Poll::Ready(Some(event));
            }
            match self.poll_accept(cx) {
                Poll::Ready(Some(event)) => return Poll::Ready(Some(event)),
                Poll::Ready(None) => {
                    self.close();
                }
                Poll::Pending => {
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }
}
