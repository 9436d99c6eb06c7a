//! One connection or conversation in the hands of whoever reads and writes it. Dropped, it ends.

use std::{net::SocketAddr, sync::Arc};

use peerup_userspace::{ConnectError, FlowId, Read, UdpId, Write};
use tokio::sync::Notify;

use super::{Network, Wake};

/// A TCP connection with a peer.
pub struct Flow {
    network: Network,
    id: FlowId,
    wake: Arc<Wake>,
}

impl Flow {
    pub(super) fn new(network: Network, id: FlowId) -> Self {
        let wake = Arc::<Wake>::default();
        network.lock().flows.insert(id, wake.clone());
        Self { network, id, wake }
    }

    pub fn read(&self, take: impl FnOnce(&[u8]) -> usize) -> Read {
        if self.network.lock().closed {
            return Read::Reset;
        }
        self.network.with(|stack, now| stack.read(self.id, now, take))
    }

    pub fn write(&self, give: impl FnOnce(&mut [u8]) -> usize) -> Write {
        if self.network.lock().closed {
            return Write::Closed;
        }
        self.network.with(|stack, now| stack.write(self.id, now, give))
    }

    /// Waits until a read may find something else.
    pub async fn readable(&self) {
        self.wake.readable.notified().await;
    }

    /// Waits until a write may find something else.
    pub async fn writable(&self) {
        self.wake.writable.notified().await;
    }

    pub fn shutdown(&self) {
        self.network.with(|stack, now| stack.shutdown(self.id, now));
    }

    pub fn abort(&self) {
        self.network.with(|stack, now| stack.abort(self.id, now));
    }

    pub(super) fn accept(&self) {
        self.network.with(|stack, now| stack.accept(self.id, now));
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.network.lock().flows.remove(&self.id);
        self.network.with(|stack, now| stack.release(self.id, now));
    }
}

/// Datagrams with a peer, or, from a port of our own, with anybody.
pub struct Conversation {
    network: Network,
    id: UdpId,
    wake: Arc<Notify>,
}

impl Conversation {
    pub(super) fn new(network: Network, id: UdpId) -> Self {
        let wake = network.lock().conversations.entry(id).or_default().clone();
        Self { network, id, wake }
    }

    /// The next datagram and its sender; `None` once the conversation is over.
    pub async fn recv(&self) -> Option<(SocketAddr, Vec<u8>)> {
        loop {
            match self.network.with(|stack, _| stack.recv_from(self.id)) {
                Ok(Some(datagram)) => return Some(datagram),
                Ok(None) if self.network.lock().closed => return None,
                Ok(None) => self.wake.notified().await,
                Err(_) => return None,
            }
        }
    }

    pub fn send(&self, to: SocketAddr, data: &[u8]) {
        self.network.with(|stack, now| stack.send_to(self.id, to, data, now));
    }

    /// Tells the peer that nobody listens there.
    pub(super) fn refuse(&self) {
        self.network.with(|stack, _| stack.refuse_udp(self.id));
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.network.lock().conversations.remove(&self.id);
        self.network.with(|stack, _| stack.close_udp(self.id));
    }
}

impl Network {
    /// Connects to a peer. There is no deadline but the caller's.
    pub async fn connect(&self, remote: SocketAddr) -> Result<Flow, ConnectError> {
        let id = self.with(|stack, now| stack.connect(remote, now))?;
        let flow = Flow::new(self.clone(), id);
        loop {
            match self.with(|stack, _| stack.connected(id)) {
                Some(result) => return result.map(|()| flow),
                None => flow.readable().await,
            }
        }
    }

    pub fn bind_udp(&self) -> Option<Conversation> {
        let id = self.with(|stack, now| stack.bind_udp(now))?;
        Some(Conversation::new(self.clone(), id))
    }
}
