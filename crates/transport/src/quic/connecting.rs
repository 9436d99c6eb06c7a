//! A handshake under way.

use std::{io, time::Duration};

use libp2p_core::Endpoint;
use libp2p_identity::PeerId;
use rustls::pki_types::CertificateDer;

use super::{
    config::Settings,
    connection::Connection,
    registry::{Connected, Registry},
};
use crate::verifier::{RefusedCertificate, WrongPeer, peer_of};
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot use a UDP socket")]
    Socket(#[source] io::Error),
    #[error("cannot watch the host's addresses")]
    Addresses(#[source] io::Error),
    #[error("cannot start a connection")]
    Connect(#[from] quinn::ConnectError),
    #[error("connection lost")]
    Connection(#[from] quinn::ConnectionError),
    #[error("no answer within {0:?}")]
    HandshakeTimeout(Duration),
    #[error("the peer's certificate is no proof of a peer ID")]
    Certificate(#[source] rustls::Error),
    #[error(transparent)]
    WrongPeer(#[from] Box<WrongPeer>),
}

/// What every handshake of a transport has in common.
#[derive(Clone)]
pub(crate) struct Handshakes {
    timeout: Duration,
    registry: Arc<dyn Registry>,
}

impl Handshakes {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { timeout: settings.handshake, registry: settings.registry.clone() }
    }

    pub(crate) async fn finish(
        self,
        connecting: quinn::Connecting,
        side: Endpoint,
    ) -> Result<(PeerId, Connection), Error> {
        let Ok(finished) = tokio::time::timeout(self.timeout, connecting).await else {
            return Err(Error::HandshakeTimeout(self.timeout));
        };
        let handle = finished?;
        let peer = authenticated(&handle)?;
        self.registry.connected(Connected {
            peer,
            side,
            remote: handle.remote_address(),
            handle: handle.clone(),
        });
        Ok((peer, Connection::new(handle)))
    }
}

fn authenticated(handle: &quinn::Connection) -> Result<PeerId, Error> {
    let identity = handle.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    peer_of(identity.as_deref().map(Vec::as_slice))
        .map_err(|refused: RefusedCertificate| Error::Certificate(refused.into()))
}
