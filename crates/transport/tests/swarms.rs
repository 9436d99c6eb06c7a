//! Whole libp2p hosts: a stock one with everything it has, and one whose transports are ours.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use std::time::Duration;

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, Transport,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    identity::Keypair,
    noise, ping,
    swarm::{DialError, SwarmEvent, dial_opts::DialOpts},
    tcp, tls, yamux,
};
use peerup_transport::{Credentials, Tls, quic};
use tokio::time::timeout;

const ADDRESSES: [&str; 4] =
    ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip6/::1/udp/0/quic-v1"];

#[tokio::test]
async fn a_stock_host_pings_ours_and_is_pinged() {
    for address in ADDRESSES {
        pings(stock(), ours(), address).await;
        pings(ours(), stock(), address).await;
    }
}

#[tokio::test]
async fn a_swarm_of_ours_refuses_the_wrong_peer() {
    for (address, names_the_obtained) in ADDRESSES.into_iter().zip([true, true, false, false]) {
        let (mut dialer, mut listener) = (ours(), stock());
        let there = listen(&mut listener, address).await;
        let somebody = PeerId::random();
        dialer.dial(DialOpts::peer_id(somebody).addresses(vec![there]).build()).unwrap();
        let error = timeout(Duration::from_secs(20), async {
            loop {
                tokio::select! {
                    event = dialer.select_next_some() => match event {
                        SwarmEvent::OutgoingConnectionError { error, .. } => return error,
                        SwarmEvent::ConnectionEstablished { .. } => panic!("connected to the wrong peer"),
                        _ => {}
                    },
                    _ = listener.select_next_some() => {}
                }
            }
        });
        let error = error.await.unwrap();
        match error {
            DialError::WrongPeerId { obtained, .. } if names_the_obtained => {
                assert_eq!(obtained, *listener.local_peer_id());
            }
            DialError::Transport(failures) if !names_the_obtained => {
                assert!(format!("{failures:?}").contains(&listener.local_peer_id().to_string()));
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn pings(mut dialer: Swarm<ping::Behaviour>, mut listener: Swarm<ping::Behaviour>, address: &str) {
    let there = listen(&mut listener, address).await;
    dialer.dial(there).unwrap();
    let (mut out, mut inbound) = (false, false);
    timeout(Duration::from_secs(20), async {
        while !(out && inbound) {
            tokio::select! {
                event = dialer.select_next_some() => out |= is_ping(event),
                event = listener.select_next_some() => inbound |= is_ping(event),
            }
        }
    })
    .await
    .unwrap_or_else(|_| panic!("no pings over {address}: {out} {inbound}"));
}

fn is_ping(event: SwarmEvent<ping::Event>) -> bool {
    match event {
        SwarmEvent::Behaviour(ping::Event { result, .. }) => result.is_ok(),
        _ => false,
    }
}

async fn listen(swarm: &mut Swarm<ping::Behaviour>, address: &str) -> Multiaddr {
    swarm.listen_on(address.parse().unwrap()).unwrap();
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return address;
        }
    }
}

fn stock() -> Swarm<ping::Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), (tls::Config::new, noise::Config::new), yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|_| behaviour())
        .unwrap()
        .build()
}

fn ours() -> Swarm<ping::Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(transport)
        .unwrap()
        .with_behaviour(|_| behaviour())
        .unwrap()
        .build()
}

fn transport(key: &Keypair) -> Boxed<(PeerId, StreamMuxerBox)> {
    let credentials = Credentials::new(key).unwrap();
    let tcp = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(Tls::new(&credentials))
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    quic::Transport::new(quic::Config::new(&credentials))
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
        .or_transport(tcp)
        .map(|either, _| either.into_inner())
        .boxed()
}

fn behaviour() -> ping::Behaviour {
    ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_millis(50)))
}
