//! What a transport tells besides its libp2p events.

use std::net::SocketAddr;

use libp2p_core::Endpoint;
use libp2p_identity::PeerId;

use super::endpoint::SocketBuffers;

/// Told of every socket and every connection, from the task at hand: do not block in it.
pub trait Registry: Send + Sync + 'static {
    /// A socket was bound. Short buffers lose packets in bursts; the host's `net.core.rmem_max` allows more.
    fn bound(&self, local: SocketAddr, buffers: SocketBuffers);

    /// A handshake has finished; the swarm hears of it afterwards, and may still refuse it.
    fn connected(&self, connected: Connected);
}

/// The registry of a host that does not want to know.
impl Registry for () {
    fn bound(&self, _: SocketAddr, _: SocketBuffers) {}
    fn connected(&self, _: Connected) {}
}

/// A connection's handle with what finds its libp2p counterpart: peer, side and remote address. Twins (both sides
/// dialed at once) differ in the side.
///
/// The handle may be kept: the connection ends with its muxer, whoever else holds on to it.
#[derive(Debug, Clone)]
pub struct Connected {
    pub peer: PeerId,
    /// Who dialed in the sense of QUIC: [`Endpoint::Dialer`] is the client.
    pub side: Endpoint,
    pub remote: SocketAddr,
    pub handle: quinn::Connection,
}
