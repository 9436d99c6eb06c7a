//! Real swarms over loopback: paths, gating, circuits, supervision.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod bootstrap;
mod hole_punching;
mod liveness;
mod serving;
mod supervision;
mod support;

use std::time::Duration;

use peerup_swarm::{Admission, Event};
use peerup_types::{CarrierKind, Multiaddr, PathClass, PeerId, Protocol};
use support::{DEADLINE, admit, both, closed, echo, listen, node, opened, relay, relayed, trust, until};
use tokio::time::timeout;

#[tokio::test]
async fn a_stream_opens_on_the_chosen_path_and_carries_bytes() {
    let (mut a, mut b) = (node(), node());
    trust(&mut a, &mut b);
    let quic = listen(&mut b, "/ip4/127.0.0.1/udp/0/quic-v1").await;
    let tcp = listen(&mut b, "/ip4/127.0.0.1/tcp/0").await;
    listen(&mut a, "/ip4/127.0.0.1/udp/0/quic-v1").await;
    for (address, carrier) in [(quic, CarrierKind::QuicStream), (tcp, CarrierKind::TcpStream)] {
        a.dial(b.local_peer(), vec![address]).unwrap();
        let (path, _) = both(opened(&mut a), opened(&mut b)).await;
        assert_eq!((path.kind.class, path.kind.carrier), (PathClass::Direct, carrier));
        assert_eq!(echo(&mut a, &mut b, &path).await, "hello");
    }
}

#[tokio::test]
async fn a_peer_that_is_not_authorized_is_disconnected_and_offered_nothing() {
    let (mut a, mut b) = (node(), node());
    let address = listen(&mut b, "/ip4/127.0.0.1/tcp/0").await;
    a.dial(b.local_peer(), vec![address]).unwrap();
    let dialer = async {
        loop {
            match a.next_event().await {
                Event::PathClosed { .. } | Event::DialFailed { .. } => return,
                _ => {}
            }
        }
    };
    let listener = async {
        loop {
            let event = b.next_event().await;
            assert!(!matches!(event, Event::PathOpened(_)), "a stranger got a path");
        }
    };
    timeout(DEADLINE, async {
        tokio::select! { () = dialer => {}, () = listener => {} }
    })
    .await
    .unwrap();
    assert_eq!(b.refused(), 1);
}

#[tokio::test]
async fn removing_a_key_closes_its_connections_within_a_second() {
    let (mut a, mut b) = (node(), node());
    trust(&mut a, &mut b);
    let address = listen(&mut b, "/ip4/127.0.0.1/tcp/0").await;
    a.dial(b.local_peer(), vec![address]).unwrap();
    both(opened(&mut a), opened(&mut b)).await;
    b.set_admission(Admission::default());
    let closed = both(closed(&mut a), closed(&mut b));
    timeout(Duration::from_secs(1), closed).await.expect("closed within a second");
}

#[tokio::test]
async fn two_nodes_reach_each_other_through_a_relay() {
    let (mut a, mut b, mut relay) = (node(), node(), relay());
    trust(&mut a, &mut b);
    let relay_id = relay.local_peer();
    relay.set_admission(admit([a.local_peer(), b.local_peer()]));
    let address = listen(&mut relay, "/ip4/127.0.0.1/tcp/0").await;
    relay.add_external_address(address.clone());
    tokio::spawn(async move {
        loop {
            relay.next_event().await;
        }
    });
    a.reserve(relay_id, address.clone()).unwrap();
    until(&mut a, |event| matches!(event, Event::Reserved { relay } if *relay == relay_id).then_some(()))
        .await;
    let circuit =
        address.with(Protocol::P2p(relay_id)).with(Protocol::P2pCircuit).with(Protocol::P2p(a.local_peer()));
    b.dial(a.local_peer(), vec![circuit]).unwrap();
    let (path, _) = both(relayed(&mut b), relayed(&mut a)).await;
    assert_eq!((path.kind.class, path.relay), (PathClass::Relay, Some(relay_id)));
    assert_eq!(echo(&mut b, &mut a, &path).await, "hello");
}

#[tokio::test]
async fn a_guest_gets_no_reservation() {
    let (mut guest, mut relay) = (node(), relay());
    relay.set_admission(Admission { guests: true, ..Admission::default() });
    let (guest_id, relay_id) = (guest.local_peer(), relay.local_peer());
    let address = listen(&mut relay, "/ip4/127.0.0.1/tcp/0").await;
    relay.add_external_address(address.clone());
    guest.reserve(relay_id, address).unwrap();
    let refused = until(&mut relay, |event| {
        matches!(event, Event::RelayRefused { peer, .. } if *peer == guest_id).then_some(())
    });
    let told = async {
        loop {
            match guest.next_event().await {
                Event::Reserved { .. } => panic!("a guest reserved"),
                Event::ReservationLost { .. } => return,
                _ => {}
            }
        }
    };
    both(refused, told).await;
}

#[tokio::test]
async fn a_lost_relay_is_reported_so_that_the_reservation_can_be_renewed() {
    let (mut a, mut relay) = (node(), relay());
    let relay_id = relay.local_peer();
    relay.set_admission(admit([a.local_peer()]));
    let address = listen(&mut relay, "/ip4/127.0.0.1/tcp/0").await;
    relay.add_external_address(address.clone());
    let server = tokio::spawn(async move {
        loop {
            relay.next_event().await;
        }
    });
    a.reserve(relay_id, address).unwrap();
    until(&mut a, |event| matches!(event, Event::Reserved { .. }).then_some(())).await;
    server.abort();
    until(&mut a, |event| {
        matches!(event, Event::ReservationLost { relay } if *relay == relay_id).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_overlay_address_is_never_dialed() {
    let mut a = node();
    let peer = PeerId::random();
    let started = a.dial(peer, vec!["/ip4/10.64.0.2/tcp/4001".parse().unwrap()]);
    let error = match started {
        Err(error) => error.to_string(),
        Ok(_) => {
            until(&mut a, |event| match event {
                Event::DialFailed { error, .. } => Some(error.clone()),
                _ => None,
            })
            .await
        }
    };
    assert!(error.contains("Unsupported"), "{error}");
}

#[tokio::test]
async fn dials_in_progress_are_bounded() {
    let mut a = node();
    let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    let started = (0..200).take_while(|_| a.dial(PeerId::random(), vec![address.clone()]).is_ok()).count();
    assert_eq!(started, 64);
}
