//! Ours and stock libp2p carry streams for each other, in both roles, over TCP with TLS and over QUIC.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod common;

use common::{Host, Kind, Kind::*, all, connect, exchange, stream_between};
use futures::{AsyncReadExt, AsyncWriteExt};

const TCP4: &str = "/ip4/127.0.0.1/tcp/0";
const TCP6: &str = "/ip6/::1/tcp/0";
const QUIC4: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const QUIC6: &str = "/ip6/::1/udp/0/quic-v1";

/// Dialer, listener, where to listen.
const PAIRS: [(Kind, Kind, &str); 8] = [
    (OurTcp, StockTcp, TCP4),
    (StockTcp, OurTcp, TCP4),
    (OurTcp, OurTcp, TCP6),
    (OurTcp, StockTcp, TCP6),
    (OurQuic, StockQuic, QUIC4),
    (StockQuic, OurQuic, QUIC4),
    (OurQuic, OurQuic, QUIC6),
    (StockQuic, OurQuic, QUIC6),
];

/// 64 MiB in each direction.
const BLOCKS: u32 = 1024;

#[tokio::test]
async fn our_tls_dialer_exchanges_64_mib_with_a_stock_listener() {
    transfer(OurTcp, StockTcp, TCP4).await;
}

#[tokio::test]
async fn a_stock_tls_dialer_exchanges_64_mib_with_our_listener() {
    transfer(StockTcp, OurTcp, TCP4).await;
}

#[tokio::test]
async fn our_quic_dialer_exchanges_64_mib_with_a_stock_listener() {
    transfer(OurQuic, StockQuic, QUIC4).await;
}

#[tokio::test]
async fn a_stock_quic_dialer_exchanges_64_mib_with_our_listener() {
    transfer(StockQuic, OurQuic, QUIC4).await;
}

async fn transfer(dialer: Kind, listener: Kind, address: &str) {
    let (mut dialer, mut listener) = (Host::new(dialer), Host::new(listener));
    let address = listener.listen(address).await;
    let (near, mut far) = connect(&mut dialer, &mut listener, &address).await;
    let (out, inbound) = stream_between(&near, &mut far.link).await;
    exchange(out, inbound, BLOCKS).await;
}

#[tokio::test]
async fn a_hundred_streams_from_both_sides_carry_their_own_bytes() {
    for (dialer, listener, address) in PAIRS {
        let (mut dialer, mut listener) = (Host::new(dialer), Host::new(listener));
        let address = listener.listen(address).await;
        let (mut near, mut far) = connect(&mut dialer, &mut listener, &address).await;
        let mut pairs = Vec::new();
        for _ in 0..50 {
            pairs.push(stream_between(&near, &mut far.link).await);
            pairs.push(stream_between(&far.link, &mut near).await);
        }
        all(pairs.into_iter().map(|(a, b)| exchange(a, b, 2))).await;
    }
}

#[tokio::test]
async fn closing_one_direction_leaves_the_other_open() {
    for (dialer, listener, address) in PAIRS {
        let (mut dialer, mut listener) = (Host::new(dialer), Host::new(listener));
        let address = listener.listen(address).await;
        let (near, mut far) = connect(&mut dialer, &mut listener, &address).await;
        let (mut out, mut inbound) = stream_between(&near, &mut far.link).await;
        out.write_all(b"question").await.unwrap();
        out.close().await.unwrap();
        let mut question = String::new();
        inbound.read_to_string(&mut question).await.unwrap();
        inbound.write_all(b"answer").await.unwrap();
        inbound.close().await.unwrap();
        let mut answer = String::new();
        out.read_to_string(&mut answer).await.unwrap();
        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
    }
}

#[tokio::test]
async fn closing_the_connection_ends_the_other_side_and_its_streams() {
    for (dialer, listener, address) in PAIRS {
        let (mut dialer, mut listener) = (Host::new(dialer), Host::new(listener));
        let address = listener.listen(address).await;
        let (near, mut far) = connect(&mut dialer, &mut listener, &address).await;
        let (_out, mut inbound) = stream_between(&near, &mut far.link).await;
        assert_eq!(near.close().await, Ok(()));
        far.link.ended().await;
        let rest = inbound.read_to_end(&mut Vec::new()).await;
        assert!(matches!(rest, Ok(0) | Err(_)), "{rest:?}");
    }
}

#[tokio::test]
async fn a_dropped_muxer_ends_the_connection_although_streams_are_held() {
    for (dialer, listener, address) in PAIRS.into_iter().filter(|(dialer, ..)| *dialer == OurQuic) {
        let (mut dialer, mut listener) = (Host::new(dialer), Host::new(listener));
        let address = listener.listen(address).await;
        let (near, mut far) = connect(&mut dialer, &mut listener, &address).await;
        let (_held, _) = stream_between(&near, &mut far.link).await;
        near.drop_muxer();
        far.link.ended().await;
    }
}
