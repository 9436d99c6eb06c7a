//! One end of an interoperability test on our transports; another implementation of libp2p is the other end.
//!
//! `interop listen tcp|quic` prints its address and echoes streams until it is killed;
//! `interop dial ADDRESS` sends 8 MiB through the echo there and fails unless they come back.
//!
//! The protocol is a raw echo: what arrives is sent back, and the end of one direction ends the other.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test program that says what it expects")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Accepted, DEADLINE, Host, Kind, receive_checked, send_checked};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{
    Multiaddr,
    core::{muxing::SubstreamBox, upgrade::Version},
    multiaddr::Protocol,
};
use multistream_select::{dialer_select_proto, listener_select_proto};

const PROTOCOL: &str = "/peerup/interop/1.0.0";

/// 8 MiB; their checksum follows.
const BLOCKS: u32 = 128;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["listen", "tcp"] => listen(Kind::OurTcp, "/ip4/127.0.0.1/tcp/0").await,
        ["listen", "quic"] => listen(Kind::OurQuic, "/ip4/127.0.0.1/udp/0/quic-v1").await,
        ["dial", address] => dial(address.parse().unwrap()).await,
        _ => panic!("usage: interop listen tcp|quic, or interop dial ADDRESS"),
    }
}

async fn listen(kind: Kind, address: &str) {
    let mut host = Host::new(kind);
    let address = host.listen(address).await;
    println!("{}", address.with_p2p(host.peer).unwrap());
    loop {
        let accepted = host.accept().await;
        tokio::spawn(serve(accepted));
    }
}

/// Every stream in a task of its own, until the connection ends.
async fn serve(mut accepted: Accepted) {
    while let Some(stream) = accepted.link.next().await {
        tokio::spawn(echo(stream));
    }
}

/// A stream for another protocol ends here; the negotiation has refused it.
async fn echo(stream: SubstreamBox) {
    let Ok((_, stream)) = listener_select_proto(stream, [PROTOCOL]).await else { return };
    let (read, mut write) = stream.split();
    futures::io::copy(read, &mut write).await.unwrap();
    write.close().await.unwrap();
}

async fn dial(address: Multiaddr) {
    let Some(Protocol::P2p(expected)) = address.iter().last() else { panic!("{address} names no peer") };
    let is_quic = address.iter().any(|part| part == Protocol::QuicV1);
    let mut host = Host::new(if is_quic { Kind::OurQuic } else { Kind::OurTcp });
    let (peer, link) = host.dial(address).await.unwrap();
    assert_eq!(peer, expected, "somebody else answers");

    let stream = link.open().await;
    let (_, stream) = dialer_select_proto(stream, [PROTOCOL], Version::V1).await.unwrap();
    let (mut read, mut write) = stream.split();
    let both = futures::future::join(send_checked(&mut write, BLOCKS), receive_checked(&mut read, BLOCKS));
    tokio::time::timeout(DEADLINE, both).await.expect("the echo answers in time");
    link.close().await.unwrap();
}
