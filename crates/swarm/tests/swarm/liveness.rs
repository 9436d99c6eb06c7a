//! Connections that die without saying so, and peers that only look dead.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use futures::StreamExt;
use libp2p::{
    Swarm, SwarmBuilder, noise,
    swarm::{SwarmEvent, dummy},
    tcp, yamux,
};
use peerup_swarm::{Admission, Event};
use peerup_types::{Multiaddr, PeerId, Protocol};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

use crate::support::{admit, listen, node, opened, relay, until};

#[tokio::test]
async fn a_reservation_over_a_silent_tcp_connection_is_lost_with_its_pings() {
    let (mut a, mut relay) = (node(), relay());
    let relay_id = relay.local_peer();
    a.set_admission(chosen(relay_id));
    relay.set_admission(admit([a.local_peer()]));
    let address = listen(&mut relay, "/ip4/127.0.0.1/tcp/0").await;
    relay.add_external_address(address.clone());
    tokio::spawn(async move {
        loop {
            relay.next_event().await;
        }
    });
    let (network, up) = watch::channel(true);
    let through = forwarder(&address, up).await;
    a.reserve(relay_id, through).unwrap();
    until(&mut a, |event| matches!(event, Event::Reserved { .. }).then_some(())).await;
    network.send(false).unwrap();
    let lost = async {
        while !matches!(a.next_event().await, Event::ReservationLost { relay } if relay == relay_id) {}
    };
    timeout(Duration::from_secs(60), lost).await.expect("two pings without an answer");
}

#[tokio::test]
async fn a_peer_that_does_not_speak_ping_keeps_its_connection() {
    let (mut a, mut other) = (node(), without_ping());
    a.set_admission(chosen(*other.local_peer_id()));
    other.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = other.select_next_some().await {
            break address;
        }
    };
    a.dial(*other.local_peer_id(), vec![address]).unwrap();
    tokio::spawn(async move {
        loop {
            other.next().await;
        }
    });
    opened(&mut a).await;
    let closed = async { while !matches!(a.next_event().await, Event::PathClosed { .. }) {} };
    // libp2p reports from the second failure on, one interval after the first.
    timeout(Duration::from_secs(20), closed).await.expect_err("the connection stays");
}

/// Whom a node chose as its relay is pinged often.
fn chosen(relay: PeerId) -> Admission {
    Admission { infrastructure: BTreeSet::from([relay]), ..Admission::default() }
}

fn without_ping() -> Swarm<dummy::Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| dummy::Behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build()
}

/// Forwards TCP to `target` while the network is up, and then is silent without closing anything.
async fn forwarder(target: &Multiaddr, up: watch::Receiver<bool>) -> Multiaddr {
    let target = socket(target);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let local = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((inbound, _)) = listener.accept().await {
            tokio::spawn(forward(inbound, target, up.clone()));
        }
    });
    Multiaddr::empty().with(local.ip().into()).with(Protocol::Tcp(local.port()))
}

async fn forward(mut inbound: TcpStream, target: SocketAddr, mut up: watch::Receiver<bool>) {
    let mut outbound = TcpStream::connect(target).await.unwrap();
    tokio::select! {
        _ = copy_bidirectional(&mut inbound, &mut outbound) => return,
        _ = up.changed() => {}
    }
    // Neither socket is dropped, so nobody is told.
    std::future::pending().await
}

fn socket(address: &Multiaddr) -> SocketAddr {
    let parts: Vec<_> = address.iter().collect();
    let [Protocol::Ip4(ip), Protocol::Tcp(port), ..] = parts[..] else {
        panic!("not an IPv4 TCP address: {address}")
    };
    (ip, port).into()
}
