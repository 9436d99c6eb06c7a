//! One upgrade that offers TLS first and Noise second.
//!
//! TLS is preferred because AES-GCM has hardware help on most hosts (`peerup-transport` puts it first where that is
//! so), while libp2p's Noise is ChaCha20-Poly1305 only; Noise stays for peers that have no TLS. libp2p keeps its own
//! combination private.

use futures::{
    FutureExt, TryFutureExt,
    future::{BoxFuture, Either},
};
use libp2p::{
    PeerId,
    core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
    identity::Keypair,
    noise,
};
use peerup_transport::{Credentials, CredentialsError, Tls, TlsError};

#[derive(Clone)]
pub struct TlsThenNoise {
    tls: Tls,
    noise: noise::Config,
}

#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    #[error("cannot make the TLS certificate")]
    Tls(#[from] CredentialsError),
    #[error("cannot sign the Noise key")]
    Noise(#[from] noise::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    #[error("TLS handshake failed")]
    Tls(#[from] TlsError),
    #[error("Noise handshake failed")]
    Noise(#[from] noise::Error),
}

impl TlsThenNoise {
    pub fn new(keypair: &Keypair, credentials: &Credentials) -> Result<Self, SecurityError> {
        Ok(Self { tls: Tls::new(credentials), noise: noise::Config::new(keypair)? })
    }
}

type TlsName = <Tls as UpgradeInfo>::Info;
type NoiseName = <noise::Config as UpgradeInfo>::Info;

/// The protocol chosen by multistream-select.
#[derive(Clone)]
pub enum Chosen {
    Tls(TlsName),
    Noise(NoiseName),
}

impl AsRef<str> for Chosen {
    fn as_ref(&self) -> &str {
        match self {
            Self::Tls(name) => name,
            Self::Noise(name) => name,
        }
    }
}

impl UpgradeInfo for TlsThenNoise {
    type Info = Chosen;
    type InfoIter = Vec<Chosen>;

    fn protocol_info(&self) -> Vec<Chosen> {
        let tls = self.tls.protocol_info().map(Chosen::Tls);
        tls.chain(self.noise.protocol_info().map(Chosen::Noise)).collect()
    }
}

type Secured<C> = (
    PeerId,
    Either<
        <Tls as InboundConnectionUpgradeOf<C>>::Stream,
        <noise::Config as InboundConnectionUpgradeOf<C>>::Stream,
    >,
);

/// Names the stream type that an upgrade of `C` yields.
pub trait InboundConnectionUpgradeOf<C> {
    type Stream;
}

impl<C, U, S> InboundConnectionUpgradeOf<C> for U
where
    U: InboundConnectionUpgrade<C, Output = (PeerId, S)>,
{
    type Stream = S;
}

impl<C> InboundConnectionUpgrade<C> for TlsThenNoise
where
    C: futures::AsyncRead + futures::AsyncWrite + Unpin + Send + 'static,
{
    type Output = Secured<C>;
    type Error = UpgradeError;
    type Future = BoxFuture<'static, Result<Self::Output, UpgradeError>>;

    fn upgrade_inbound(self, socket: C, chosen: Chosen) -> Self::Future {
        match chosen {
            Chosen::Tls(name) => self
                .tls
                .upgrade_inbound(socket, name)
                .map_ok(|(peer, stream)| (peer, Either::Left(stream)))
                .err_into()
                .boxed(),
            Chosen::Noise(name) => self
                .noise
                .upgrade_inbound(socket, name)
                .map_ok(|(peer, stream)| (peer, Either::Right(stream)))
                .err_into()
                .boxed(),
        }
    }
}

impl<C> OutboundConnectionUpgrade<C> for TlsThenNoise
where
    C: futures::AsyncRead + futures::AsyncWrite + Unpin + Send + 'static,
{
    type Output = Secured<C>;
    type Error = UpgradeError;
    type Future = BoxFuture<'static, Result<Self::Output, UpgradeError>>;

    fn upgrade_outbound(self, socket: C, chosen: Chosen) -> Self::Future {
        match chosen {
            Chosen::Tls(name) => self
                .tls
                .upgrade_outbound(socket, name)
                .map_ok(|(peer, stream)| (peer, Either::Left(stream)))
                .err_into()
                .boxed(),
            Chosen::Noise(name) => self
                .noise
                .upgrade_outbound(socket, name)
                .map_ok(|(peer, stream)| (peer, Either::Right(stream)))
                .err_into()
                .boxed(),
        }
    }
}
