//! The QUIC connections behind libp2p's: for their datagrams.
//!
//! libp2p reports a connection without its transport's handle. The transport tells of each connection right before, so
//! the two are matched here, by peer, side and remote address.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Mutex,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint},
    multiaddr::Protocol,
};
use peerup_transport::quic::{Connected, Datagrams, Registry, SocketBuffers};

/// The tunnel's flow of datagrams; there is no other (docs/wire.md).
const TUNNEL: u8 = 0;
/// Connections that libp2p has not reported yet: dials and handshakes under way at one time. The oldest give way, and do
/// without datagrams.
const MAX_WAITING: usize = 256;

/// Connections that the transport has made and libp2p has not reported.
#[derive(Debug, Default)]
pub struct Connections {
    waiting: Mutex<Vec<Connected>>,
}

impl Connections {
    /// The datagrams of the connection that libp2p reports.
    pub fn take(&self, peer: &PeerId, endpoint: &ConnectedPoint) -> Option<Datagrams> {
        let remote = socket(endpoint.get_remote_address())?;
        let mut waiting = self.lock();
        let is_it = |connected: &Connected| {
            connected.peer == *peer
                && connected.remote == remote
                && (connected.side == Endpoint::Dialer) == endpoint.is_dialer()
        };
        let position = waiting.iter().position(is_it)?;
        let datagrams = Datagrams::new(waiting.remove(position).handle, TUNNEL);
        datagrams.max_len().is_some().then_some(datagrams)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connected>> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Registry for Connections {
    fn bound(&self, local: SocketAddr, buffers: SocketBuffers) {
        if buffers.are_short() {
            tracing::info!(
                %local,
                receive = buffers.receive,
                send = buffers.send,
                wanted = buffers.requested,
                "the kernel grants short UDP buffers: bursts will lose packets; \
                 hint: sysctl -w net.core.rmem_max={0} net.core.wmem_max={0}, or run with CAP_NET_ADMIN",
                buffers.requested,
            );
        }
    }

    fn connected(&self, connected: Connected) {
        let mut waiting = self.lock();
        // Those that the swarm refused have ended meanwhile.
        waiting.retain(|connected| connected.handle.close_reason().is_none());
        if waiting.len() >= MAX_WAITING {
            waiting.remove(0);
        }
        waiting.push(connected);
    }
}

/// Of a QUIC address whose host is no name.
fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match (parts.next()?, parts.next()?) {
        (Protocol::Udp(port), Protocol::QuicV1) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}
