//! What a host shows in handshakes: its certificate, its key, and what it prefers.

use std::sync::Arc;

use libp2p_identity::{Keypair, PeerId};
use libp2p_tls::certificate;
use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::{
    ciphers::CipherOrder,
    verifier::{Mismatch, PeerVerifier},
};

const ALPN: &[u8] = b"libp2p";

#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("cannot make a certificate for the identity key")]
    Certificate(#[from] certificate::GenError),
    #[error("cannot load the certificate's key")]
    Key(#[source] rustls::Error),
}

/// One certificate per process, shared by every transport: libp2p-TLS allows its reuse, and a fresh one per
/// connection would cost a key generation and a signature of the identity key each time.
#[derive(Debug, Clone)]
pub struct Credentials {
    identity: Keypair,
    provider: Arc<CryptoProvider>,
    resolver: Arc<SingleCertAndKey>,
}

impl Credentials {
    /// Credentials with the cipher order of this CPU.
    pub fn new(identity: &Keypair) -> Result<Self, CredentialsError> {
        Self::with_order(identity, CipherOrder::of_this_cpu())
    }

    pub fn with_order(identity: &Keypair, order: CipherOrder) -> Result<Self, CredentialsError> {
        let provider = Arc::new(provider(order));
        let (certificate, key) = certificate::generate(identity)?;
        let key = provider.key_provider.load_private_key(key).map_err(CredentialsError::Key)?;
        let resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key)));
        Ok(Self { identity: identity.clone(), provider, resolver })
    }

    pub fn peer_id(&self) -> PeerId {
        self.identity.public().to_peer_id()
    }

    /// For a dialer that does not know yet whom it reaches.
    pub fn client_config(&self) -> ClientConfig {
        self.client_with(PeerVerifier::any())
    }

    /// For a dialer that talks to nobody but `expected`; a mismatch is left in the second value.
    pub(crate) fn pinned_client_config(&self, expected: PeerId) -> (ClientConfig, Mismatch) {
        let (verifier, mismatch) = PeerVerifier::only(expected);
        (self.client_with(verifier), mismatch)
    }

    /// For a listener.
    pub fn server_config(&self) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has TLS 1.3 suites and groups")
            .with_client_cert_verifier(Arc::new(PeerVerifier::any()))
            .with_cert_resolver(self.resolver.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config
    }

    fn client_with(&self, verifier: PeerVerifier) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has TLS 1.3 suites and groups")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.resolver.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false; // libp2p-TLS: no server name may be sent
        config
    }

    pub(crate) fn identity(&self) -> &Keypair {
        &self.identity
    }
}

fn provider(order: CipherOrder) -> CryptoProvider {
    CryptoProvider {
        cipher_suites: order.suites(),
        kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}
