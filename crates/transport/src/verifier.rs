//! Who is on the other side: the certificate rules of libp2p-TLS.
//!
//! There is no authority and no name. A certificate is accepted when it is the only one, is signed by itself, and
//! carries the libp2p extension in which the peer's identity key has signed the certificate's key;
//! `certificate::parse` checks the last two. The peer ID is derived from that identity key.

use std::sync::{Arc, OnceLock};

use libp2p_identity::PeerId;
use libp2p_tls::certificate;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

/// The other side proved to be somebody else than the one dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected peer {expected}, but {obtained} answered")]
pub struct WrongPeer {
    pub expected: PeerId,
    pub obtained: PeerId,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RefusedCertificate {
    #[error("{count} certificates presented instead of exactly one")]
    NotSingle { count: usize },
    #[error("not a libp2p certificate")]
    NotLibp2p(#[source] certificate::ParseError),
    #[error("bad handshake signature")]
    BadSignature(#[source] certificate::VerificationError),
    #[error(transparent)]
    WrongPeer(#[from] Box<WrongPeer>),
}

/// The signature algorithms that libp2p-TLS allows a certificate's key, preferred first. TLS 1.3 has no PKCS#1 v1.5
/// in handshake signatures (RFC 8446, 4.2.3).
const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
];

/// Where a verifier leaves the reason that rustls and quinn reduce to an alert.
pub(crate) type Mismatch = Arc<OnceLock<WrongPeer>>;

#[derive(Debug)]
pub(crate) struct PeerVerifier {
    /// With an expected peer the handshake stops before our own certificate, that is our identity, is sent.
    expected: Option<PeerId>,
    mismatch: Mismatch,
}

impl PeerVerifier {
    pub(crate) fn any() -> Self {
        Self { expected: None, mismatch: Mismatch::default() }
    }

    pub(crate) fn only(expected: PeerId) -> (Self, Mismatch) {
        let mismatch = Mismatch::default();
        (Self { expected: Some(expected), mismatch: mismatch.clone() }, mismatch)
    }

    fn verify(
        &self,
        end: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
    ) -> Result<(), RefusedCertificate> {
        if !rest.is_empty() {
            return Err(RefusedCertificate::NotSingle { count: rest.len() + 1 });
        }
        let obtained = certificate::parse(end).map_err(RefusedCertificate::NotLibp2p)?.peer_id();
        match self.expected {
            Some(expected) if expected != obtained => {
                Err(Box::new(*self.mismatch.get_or_init(|| WrongPeer { expected, obtained })).into())
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The peer behind the certificates of a finished handshake.
pub(crate) fn peer_of(certificates: Option<&[CertificateDer<'_>]>) -> Result<PeerId, RefusedCertificate> {
    match certificates {
        Some([certificate]) => {
            Ok(certificate::parse(certificate).map_err(RefusedCertificate::NotLibp2p)?.peer_id())
        }
        other => Err(RefusedCertificate::NotSingle { count: other.map_or(0, <[_]>::len) }),
    }
}

impl From<RefusedCertificate> for rustls::Error {
    fn from(refused: RefusedCertificate) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

fn verify_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    certificate::parse(certificate)
        .map_err(RefusedCertificate::NotLibp2p)?
        .verify_signature(signature.scheme, message, signature.signature())
        .map_err(RefusedCertificate::BadSignature)?;
    Ok(HandshakeSignatureValid::assertion())
}

/// libp2p-TLS: endpoints must not negotiate anything below TLS 1.3, and the configurations do not.
fn only_tls13() -> rustls::Error {
    rustls::Error::General("libp2p-TLS is TLS 1.3".into())
}
