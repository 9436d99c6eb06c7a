//! The transports of a node: QUIC, then TCP with TLS or Noise and yamux, names resolved by DNS, circuits on top.

use std::{sync::Arc, time::Duration};

use libp2p::{
    PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, timeout::TransportTimeout},
        upgrade::Version,
    },
    dns,
    identity::Keypair,
    relay, tcp, yamux,
};
use peerup_transport::{
    Credentials, CredentialsError,
    quic::{self, KeepAlive},
    tcp::TunedStream,
};

use crate::{
    closing::BoundedClose,
    connections::Connections,
    metered::Metered,
    security::{SecurityError, TlsThenNoise},
    underlay::UnderlayOnly,
};

/// Covers connect, security and muxer negotiation of one address. A race against other candidates gains nothing
/// from waiting longer (libp2p's default is 10 s).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A circuit may have to connect to its relay first, so it gets both legs' time.
const CIRCUIT_TIMEOUT: Duration = Duration::from_secs(10);
/// One per TCP connection to a service; as many as a QUIC connection allows. yamux keeps 256 KiB of its 1 GiB of
/// receive windows back for each, so more streams leave less to a single fast one.
const STREAMS: usize = 2560;
pub type BoxedTransport = Boxed<(PeerId, StreamMuxerBox)>;

#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error(transparent)]
    Security(#[from] SecurityError),
    #[error("cannot make the TLS certificate")]
    Credentials(#[from] CredentialsError),
}

/// Direct transports only, as a relay server needs them.
pub fn direct(
    keypair: &Keypair,
    overlay: &[ipnet::IpNet],
    connections: Arc<Connections>,
) -> Result<BoxedTransport, TransportError> {
    let credentials = Credentials::new(keypair)?;
    let security = TlsThenNoise::new(keypair, &credentials)?;
    let quic = quic(&credentials, KeepAlive::WATCHFUL, connections);
    Ok(resolving(quic, &security, overlay))
}

/// Direct transports plus circuits through relays; the behaviour belongs into the same swarm.
pub fn with_circuits(
    keypair: &Keypair,
    overlay: &[ipnet::IpNet],
    connections: Arc<Connections>,
) -> Result<(BoxedTransport, relay::client::Behaviour), TransportError> {
    let credentials = Credentials::new(keypair)?;
    let security = TlsThenNoise::new(keypair, &credentials)?;
    let (circuits, behaviour) = relay::client::new(keypair.public().to_peer_id());
    let circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(security.clone())
        .multiplex(yamux())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(BoundedClose::new(muxer))));
    let circuits = TransportTimeout::new(circuits, CIRCUIT_TIMEOUT);
    let direct = resolving(quic(&credentials, KeepAlive::FRUGAL, connections), &security, overlay);
    let transport = circuits.or_transport(direct).map(|either, _| either.into_inner()).boxed();
    Ok((transport, behaviour))
}

fn quic(credentials: &Credentials, keep_alive: KeepAlive, connections: Arc<Connections>) -> quic::Config {
    quic::Config::new(credentials)
        .registry(connections)
        .keep_alive(keep_alive)
        .handshake_timeout(CONNECT_TIMEOUT)
}

fn yamux() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(STREAMS);
    config
}

/// A host without readable resolver settings still dials IP addresses; names fail there.
fn resolving(quic: quic::Config, security: &TlsThenNoise, overlay: &[ipnet::IpNet]) -> BoxedTransport {
    match dns::tokio::Transport::system(unresolved(quic.clone(), security, overlay)) {
        Ok(resolving) => resolving.boxed(),
        Err(error) => {
            tracing::warn!(%error, "no resolver settings: addresses with names cannot be dialed");
            unresolved(quic, security, overlay).boxed()
        }
    }
}

fn unresolved(
    quic: quic::Config,
    security: &TlsThenNoise,
    overlay: &[ipnet::IpNet],
) -> UnderlayOnly<BoxedTransport> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .map(|stream, _| TunedStream::new(stream.0))
        .upgrade(Version::V1Lazy)
        .authenticate(security.clone())
        .multiplex(yamux())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Metered::new(BoundedClose::new(muxer)))));
    let quic = quic::Transport::new(quic)
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(Metered::new(connection))));
    let direct = quic.or_transport(tcp).map(|either, _| either.into_inner());
    UnderlayOnly::new(TransportTimeout::new(direct, CONNECT_TIMEOUT).boxed(), overlay.to_vec())
}
