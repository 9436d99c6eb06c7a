//! TLS handshakes between ours and stock libp2p, in memory: who is accepted, and which cipher is agreed on.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use std::sync::Arc;

use futures::{AsyncReadExt, AsyncWriteExt, future::try_join};
use futures_rustls::TlsAcceptor;
use libp2p::{
    PeerId,
    core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
    identity::Keypair,
    tls,
};
use peerup_transport::{CipherOrder, Credentials, Tls, TlsError};
use rustls::{
    CipherSuite, ClientConfig, NamedGroup, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    quic::{ClientConnection, Connection, ServerConnection, Version},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::io::{DuplexStream, duplex};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

const NAME: &str = "/tls/1.0.0";
const AES_128: CipherSuite = CipherSuite::TLS13_AES_128_GCM_SHA256;
const CHACHA: CipherSuite = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;

type Wire = Compat<DuplexStream>;
type StockStream = tls::TlsStream<Wire>;

#[tokio::test]
async fn two_tuned_hosts_agree_on_aes_and_on_the_hybrid_key_exchange() {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (dialer, listener) = (ours(&a, CipherOrder::AesFirst), ours(&b, CipherOrder::AesFirst));
    let ((seen_by_dialer, out), (seen_by_listener, _in)) = meet(dialer, listener).await;
    assert_eq!((seen_by_dialer, seen_by_listener), (peer(&b), peer(&a)));
    assert_eq!((out.cipher_suite(), out.key_exchange()), (AES_128, NamedGroup::X25519MLKEM768));
}

#[tokio::test]
async fn one_tuned_side_is_enough_for_aes() {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (_, (seen, inbound)) = meet(stock(&a), ours(&b, CipherOrder::AesFirst)).await;
    assert_eq!((seen, inbound.cipher_suite()), (peer(&a), AES_128));
    let ((seen, outbound), (_, at_stock)) = meet(ours(&a, CipherOrder::AesFirst), stock(&b)).await;
    assert_eq!((seen, outbound.cipher_suite()), (peer(&b), AES_128));
    assert_eq!(suite_of(&at_stock), AES_128);
    assert_eq!(outbound.key_exchange(), NamedGroup::X25519MLKEM768);
}

#[tokio::test]
async fn without_aes_in_the_cpu_chacha_is_chosen() {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (dialer, listener) = (ours(&a, CipherOrder::ChaChaFirst), ours(&b, CipherOrder::ChaChaFirst));
    let ((_, out), _) = meet(dialer, listener).await;
    assert_eq!(out.cipher_suite(), CHACHA);
    // A listener without AES decides for a dialer that has it.
    let (dialer, listener) = (ours(&a, CipherOrder::AesFirst), ours(&b, CipherOrder::ChaChaFirst));
    let ((_, out), _) = meet(dialer, listener).await;
    assert_eq!(out.cipher_suite(), CHACHA);
}

#[tokio::test]
async fn stock_hosts_among_themselves_use_chacha() {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let ((_, out), _) = meet(stock(&a), stock(&b)).await;
    assert_eq!(suite_of(&out), CHACHA, "the reason for this crate");
}

#[tokio::test]
async fn a_dialer_refuses_everybody_but_the_peer_it_expects() {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let dialer = |expected| Tls::new(&Credentials::new(&a).unwrap()).expecting(expected);
    let ((seen, _), _) = meet(dialer(peer(&b)), stock(&b)).await;
    assert_eq!(seen, peer(&b));

    let somebody = PeerId::random();
    let (near, far) = wire();
    let listening = tokio::spawn(stock(&b).upgrade_inbound(far, NAME));
    let error = dialer(somebody).upgrade_outbound(near, NAME).await.unwrap_err();
    let TlsError::WrongPeer(wrong) = error else { panic!("{error:?}") };
    assert_eq!((wrong.expected, wrong.obtained), (somebody, peer(&b)));
    assert!(listening.await.unwrap().is_err(), "the listener never learns who dialed");
}

#[tokio::test]
async fn a_certificate_without_the_libp2p_extension_is_refused() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    refuses(vec![certificate.into()], key).await;
}

#[tokio::test]
async fn a_chain_of_certificates_is_refused() {
    let (certificate, key) = tls::certificate::generate(&Keypair::generate_ed25519()).unwrap();
    refuses(vec![certificate.clone(), certificate], key).await;
}

#[tokio::test]
async fn a_certificate_whose_key_the_peer_does_not_hold_is_refused() {
    let (certificate, _) = tls::certificate::generate(&Keypair::generate_ed25519()).unwrap();
    let (_, other_key) = tls::certificate::generate(&Keypair::generate_ed25519()).unwrap();
    refuses(vec![certificate], other_key).await;
}

#[tokio::test]
async fn a_small_write_that_is_flushed_arrives_without_another_write_or_read() {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let ((_, mut out), (_, mut inbound)) = meet(ours(&a, CipherOrder::AesFirst), stock(&b)).await;
    out.write_all(b"hello").await.unwrap();
    out.flush().await.unwrap();
    let mut word = [0; 5];
    inbound.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"hello");
}

#[tokio::test]
async fn closing_delivers_what_was_written_and_ends_the_stream() {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let ((_, mut out), (_, mut inbound)) = meet(ours(&a, CipherOrder::AesFirst), stock(&b)).await;
    out.write_all(b"last words").await.unwrap();
    out.close().await.unwrap();
    let mut words = Vec::new();
    inbound.read_to_end(&mut words).await.unwrap();
    assert_eq!(words, b"last words");
}

#[tokio::test]
async fn large_and_odd_writes_arrive_in_order_both_ways() {
    let (a, b) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let ((_, out), (_, inbound)) = meet(ours(&a, CipherOrder::AesFirst), stock(&b)).await;
    try_join(exchange(out), exchange(inbound)).await.unwrap();
}

/// Writes and reads three megabytes in pieces of every size around the buffer's.
async fn exchange(stream: impl futures::AsyncRead + futures::AsyncWrite + Unpin) -> std::io::Result<()> {
    let sizes = [1usize, 12, 1400, 16_384, 16_396, 65_535, 65_536, 65_537, 131_072, 300_000];
    let pieces: Vec<Vec<u8>> =
        (0..40).map(|i| (0..sizes[i % sizes.len()]).map(|at| (at * 31 + i) as u8).collect()).collect();
    let expected = pieces.concat();
    let (mut reader, mut writer) = stream.split();
    let write = async {
        for (i, piece) in pieces.iter().enumerate() {
            writer.write_all(piece).await?;
            if i % 3 == 0 {
                writer.flush().await?;
            }
        }
        writer.flush().await
    };
    let read = async {
        let mut received = vec![0; expected.len()];
        reader.read_exact(&mut received).await?;
        assert!(received == expected, "bytes were lost, doubled or moved");
        Ok(())
    };
    try_join(write, read).await.map(drop)
}

#[test]
fn quic_handshakes_agree_on_aes_when_one_side_is_tuned() {
    let credentials = |order| Credentials::with_order(&Keypair::generate_ed25519(), order).unwrap();
    let key = Keypair::generate_ed25519();
    let tuned = credentials(CipherOrder::AesFirst);
    let (stock_client, stock_server) =
        (|| tls::make_client_config(&key, None).unwrap(), || tls::make_server_config(&key).unwrap());
    assert_eq!(over_quic(tuned.client_config(), tuned.server_config()), AES_128);
    assert_eq!(over_quic(tuned.client_config(), stock_server()), AES_128);
    assert_eq!(over_quic(stock_client(), tuned.server_config()), AES_128);
    assert_eq!(over_quic(stock_client(), stock_server()), CHACHA);
    let soft = credentials(CipherOrder::ChaChaFirst);
    assert_eq!(over_quic(soft.client_config(), stock_server()), CHACHA);
    assert_eq!(over_quic(stock_client(), soft.server_config()), CHACHA);
}

/// Passes handshake bytes back and forth as QUIC would, without packets.
fn over_quic(client: ClientConfig, server: ServerConfig) -> CipherSuite {
    let name = ServerName::try_from("0.0.0.0").unwrap();
    let mut client: Connection =
        ClientConnection::new(client.into(), Version::V1, name, Vec::new()).unwrap().into();
    let mut server: Connection =
        ServerConnection::new(server.into(), Version::V1, Vec::new()).unwrap().into();
    while client.is_handshaking() || server.is_handshaking() {
        pass(&mut client, &mut server);
        pass(&mut server, &mut client);
    }
    let suites = [&client, &server].map(|side| side.negotiated_cipher_suite().unwrap().suite());
    assert_eq!(suites[0], suites[1]);
    suites[0]
}

fn pass(from: &mut Connection, to: &mut Connection) {
    loop {
        let mut bytes = Vec::new();
        let keys = from.write_hs(&mut bytes);
        to.read_hs(&bytes).unwrap();
        if keys.is_none() && bytes.is_empty() {
            return;
        }
    }
}

fn peer(key: &Keypair) -> PeerId {
    key.public().to_peer_id()
}

fn ours(key: &Keypair, order: CipherOrder) -> Tls {
    Tls::new(&Credentials::with_order(key, order).unwrap())
}

fn stock(key: &Keypair) -> tls::Config {
    tls::Config::new(key).unwrap()
}

fn wire() -> (Wire, Wire) {
    let (near, far) = duplex(1 << 20);
    (near.compat(), far.compat())
}

/// Upgrades both ends of one wire.
async fn meet<D, L, SD, SL>(dialer: D, listener: L) -> ((PeerId, SD), (PeerId, SL))
where
    D: OutboundConnectionUpgrade<Wire, Info = &'static str, Output = (PeerId, SD)>,
    L: InboundConnectionUpgrade<Wire, Info = &'static str, Output = (PeerId, SL)>,
    D::Error: std::error::Error + 'static,
    L::Error: std::error::Error + 'static,
{
    let (near, far) = wire();
    let (out, inbound) =
        futures::future::join(dialer.upgrade_outbound(near, NAME), listener.upgrade_inbound(far, NAME)).await;
    (out.unwrap(), inbound.unwrap())
}

fn suite_of(stream: &StockStream) -> CipherSuite {
    stream.get_ref().1.negotiated_cipher_suite().unwrap().suite()
}

/// A dialer of ours gives up on a server that shows these certificates.
async fn refuses(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(key).unwrap();
    let certified = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certified));
    let (near, far) = wire();
    let server = tokio::spawn(TlsAcceptor::from(Arc::new(server)).accept(far));
    let dialer = ours(&Keypair::generate_ed25519(), CipherOrder::AesFirst);
    let error = dialer.upgrade_outbound(near, NAME).await.unwrap_err();
    assert!(matches!(error, TlsError::Handshake(_)), "{error:?}");
    assert!(server.await.unwrap().is_err());
}
