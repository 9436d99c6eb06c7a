//! The security upgrade `/tls/1.0.0` for TCP connections and circuits.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite, FutureExt, future::BoxFuture};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p_core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p_identity::PeerId;
use rustls::{CipherSuite, ClientConfig, NamedGroup, ServerConfig, pki_types::ServerName};

use crate::{
    buffered::Buffered,
    credentials::Credentials,
    verifier::{Mismatch, RefusedCertificate, WrongPeer, peer_of},
};

const PROTOCOL: &str = "/tls/1.0.0";

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error(transparent)]
    WrongPeer(#[from] Box<WrongPeer>),
    #[error("the peer's certificate is no proof of a peer ID")]
    Certificate(#[source] rustls::Error),
}

/// The upgrade; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tls {
    credentials: Credentials,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    expected: Option<PeerId>,
}

impl Tls {
    pub fn new(credentials: &Credentials) -> Self {
        Self {
            client: Arc::new(credentials.client_config()),
            server: Arc::new(credentials.server_config()),
            credentials: credentials.clone(),
            expected: None,
        }
    }

    /// The same upgrade for a dialer that accepts nobody but `peer`. An upgrade inside a libp2p transport is not told
    /// whom the swarm dials; there the swarm compares afterwards.
    pub fn expecting(self, peer: PeerId) -> Self {
        Self { expected: Some(peer), ..self }
    }

    fn dialing(&self) -> (Arc<ClientConfig>, Mismatch) {
        match self.expected {
            None => (self.client.clone(), Mismatch::default()),
            Some(peer) => {
                let (config, mismatch) = self.credentials.pinned_client_config(peer);
                (Arc::new(config), mismatch)
            }
        }
    }
}

impl UpgradeInfo for Tls {
    type Info = &'static str;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(PROTOCOL)
    }
}

impl<C> InboundConnectionUpgrade<C> for Tls
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, SecureStream<C>);
    type Error = TlsError;
    type Future = BoxFuture<'static, Result<Self::Output, TlsError>>;

    fn upgrade_inbound(self, socket: C, _: Self::Info) -> Self::Future {
        async move {
            let accepted = TlsAcceptor::from(self.server).accept(socket).await;
            finished(accepted.map_err(TlsError::Handshake)?.into())
        }
        .boxed()
    }
}

impl<C> OutboundConnectionUpgrade<C> for Tls
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, SecureStream<C>);
    type Error = TlsError;
    type Future = BoxFuture<'static, Result<Self::Output, TlsError>>;

    fn upgrade_outbound(self, socket: C, _: Self::Info) -> Self::Future {
        async move {
            let (config, mismatch) = self.dialing();
            let name = ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED));
            match TlsConnector::from(config).connect(name, socket).await {
                Ok(stream) => finished(stream.into()),
                Err(error) => {
                    Err(mismatch.get().map_or(TlsError::Handshake(error), |wrong| Box::new(*wrong).into()))
                }
            }
        }
        .boxed()
    }
}

fn finished<C>(stream: TlsStream<C>) -> Result<(PeerId, SecureStream<C>), TlsError> {
    let peer = peer_of(stream.get_ref().1.peer_certificates())
        .map_err(|refused: RefusedCertificate| TlsError::Certificate(refused.into()))?;
    Ok((peer, SecureStream(Buffered::new(stream))))
}

/// A TLS stream that gathers writes.
#[derive(Debug)]
pub struct SecureStream<C>(Buffered<TlsStream<C>>);

impl<C> SecureStream<C> {
    /// What the handshake agreed on, for metrics and bug reports.
    pub fn cipher_suite(&self) -> CipherSuite {
        let (_, session) = self.0.get_ref().get_ref();
        session.negotiated_cipher_suite().expect("the handshake is over").suite()
    }

    /// The key exchange of the handshake.
    pub fn key_exchange(&self) -> NamedGroup {
        let (_, session) = self.0.get_ref().get_ref();
        session.negotiated_key_exchange_group().expect("the handshake is over").name()
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for SecureStream<C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SecureStream<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
