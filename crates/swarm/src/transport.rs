//! The transports of a node: QUIC, then TCP with TLS or Noise and yamux, names resolved by DNS, circuits on top.

use std::time::Duration;

use libp2p::{
    PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, timeout::TransportTimeout},
        upgrade::Version,
    },
    dns,
    identity::Keypair,
    quic, relay, tcp, yamux,
};

use crate::{
    closing::BoundedClose,
    security::{SecurityError, TlsThenNoise},
    underlay::UnderlayOnly,
};

/// Covers connect, security and muxer negotiation of one address. A race against other candidates gains nothing
/// from waiting longer (libp2p's default is 10 s).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A circuit may have to connect to its relay first, so it gets both legs' time.
const CIRCUIT_TIMEOUT: Duration = Duration::from_secs(10);
/// QUIC declares a silent connection dead after this; keep-alives run at half of it and hold NAT mappings open
/// (RFC 4787 REQ-5 allows NATs to forget UDP after two minutes, many do after 30 s).
const QUIC_IDLE: Duration = Duration::from_secs(10);

pub type BoxedTransport = Boxed<(PeerId, StreamMuxerBox)>;

#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error(transparent)]
    Security(#[from] SecurityError),
}

/// Direct transports only, as a relay server needs them. A host without readable resolver settings still dials IP
/// addresses; names fail there.
pub fn direct(keypair: &Keypair, overlay: &[ipnet::IpNet]) -> Result<BoxedTransport, TransportError> {
    match dns::tokio::Transport::system(unresolved(keypair, overlay)?) {
        Ok(resolving) => Ok(resolving.boxed()),
        Err(error) => {
            tracing::warn!(%error, "no resolver settings: addresses with names cannot be dialed");
            Ok(unresolved(keypair, overlay)?.boxed())
        }
    }
}

fn unresolved(
    keypair: &Keypair,
    overlay: &[ipnet::IpNet],
) -> Result<UnderlayOnly<BoxedTransport>, TransportError> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(TlsThenNoise::new(keypair)?)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(BoundedClose::new(muxer))));
    let quic = quic::tokio::Transport::new(quic_config(keypair))
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    let direct = quic.or_transport(tcp).map(|either, _| either.into_inner());
    Ok(UnderlayOnly::new(TransportTimeout::new(direct, CONNECT_TIMEOUT).boxed(), overlay.to_vec()))
}

/// Direct transports plus circuits through relays; the behaviour belongs into the same swarm.
pub fn with_circuits(
    keypair: &Keypair,
    overlay: &[ipnet::IpNet],
) -> Result<(BoxedTransport, relay::client::Behaviour), TransportError> {
    let (circuits, behaviour) = relay::client::new(keypair.public().to_peer_id());
    let circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(TlsThenNoise::new(keypair)?)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(BoundedClose::new(muxer))));
    let circuits = TransportTimeout::new(circuits, CIRCUIT_TIMEOUT);
    let transport =
        circuits.or_transport(direct(keypair, overlay)?).map(|either, _| either.into_inner()).boxed();
    Ok((transport, behaviour))
}

fn quic_config(keypair: &Keypair) -> quic::Config {
    let mut config = quic::Config::new(keypair);
    config.handshake_timeout = CONNECT_TIMEOUT;
    config.max_idle_timeout = QUIC_IDLE.as_millis() as u32;
    config.keep_alive_interval = QUIC_IDLE / 2;
    config
}
