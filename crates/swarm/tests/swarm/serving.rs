//! A member that relays for members.

use std::{num::NonZeroU64, time::Duration};

use peerup_swarm::{Admission, Event, PeerRelaying, PeerSwarm, Profile, RelayLimits, RelayRefusal};
use peerup_types::{Multiaddr, PathClass, PeerId, Protocol};

use super::support::{admit, both, drive, echo, listen, node, relay, relayed, reserved, swarm, trust, until};

#[tokio::test]
async fn members_meet_over_a_member_and_what_it_carries_is_counted() {
    let (mut a, mut b, mut relay) = (node(), node(), member(8));
    let (a_id, b_id, relay_id) = (a.local_peer(), b.local_peer(), relay.local_peer());
    a.set_admission(admit([b_id, relay_id]));
    b.set_admission(admit([a_id, relay_id]));
    relay.set_admission(admit([a_id, b_id]));
    let address = listen(&mut relay, "/ip4/127.0.0.1/tcp/0").await;
    relay.relay_at(vec![address.clone()]);
    tokio::select! {
        () = reserved(&mut a, relay_id, address.clone()) => {}
        () = drive(&mut relay) => unreachable!(),
    }
    let before = relay.relayed_bytes();
    b.dial(a_id, vec![circuit(address, relay_id, a_id)]).unwrap();
    let meet = async {
        let (path, _) = both(relayed(&mut b), relayed(&mut a)).await;
        assert_eq!((path.kind.class, path.relay), (PathClass::Relay, Some(relay_id)));
        assert_eq!(echo(&mut b, &mut a, &path).await, "hello");
    };
    tokio::select! {
        () = meet => {}
        () = drive(&mut relay) => unreachable!(),
    }
    let carried = relay.relayed_bytes() - before;
    assert!((1_000..100_000).contains(&carried), "two handshakes and an echo took {carried} bytes");
}

#[tokio::test]
async fn a_member_that_is_not_told_to_relay_does_not_and_neither_does_it_for_guests() {
    let (mut a, mut relay) = (node(), member(8));
    let (a_id, relay_id) = (a.local_peer(), relay.local_peer());
    let address = listen(&mut relay, "/ip4/127.0.0.1/tcp/0").await;
    // An address that is known elsewhere switches nothing on.
    relay.add_external_address(address.clone());
    relay.set_admission(admit([a_id]));
    refused(&mut a, &mut relay, relay_id, &address).await;
    relay.relay_at(vec![address.clone()]);
    relay.set_admission(Admission { guests: true, ..Admission::default() });
    refused(&mut a, &mut relay, relay_id, &address).await;
    relay.set_admission(admit([a_id]));
    tokio::select! {
        () = reserved(&mut a, relay_id, address) => {}
        () = drive(&mut relay) => unreachable!(),
    }
}

#[tokio::test]
async fn a_circuit_to_somebody_without_a_reservation_is_refused_with_that_reason() {
    let (mut b, mut relay) = (node(), member(8));
    let (b_id, relay_id) = (b.local_peer(), relay.local_peer());
    relay.set_admission(admit([b_id]));
    let address = listen(&mut relay, "/ip4/127.0.0.1/tcp/0").await;
    relay.relay_at(vec![address.clone()]);
    let nobody = PeerId::random();
    b.dial(nobody, vec![circuit(address, relay_id, nobody)]).unwrap();
    let refusal = until(&mut relay, |event| match event {
        Event::RelayRefused { peer, reason } if *peer == b_id => Some(*reason),
        _ => None,
    });
    tokio::select! {
        reason = refusal => assert_eq!(reason, RelayRefusal::NoReservation),
        () = drive(&mut b) => unreachable!(),
    }
}

#[tokio::test]
async fn circuits_of_its_own_survive_when_a_member_begins_and_ends_to_relay() {
    let (mut a, mut b, mut server) = (node(), member(8), relay());
    let (a_id, b_id, server_id) = (a.local_peer(), b.local_peer(), server.local_peer());
    trust(&mut a, &mut b);
    server.set_admission(admit([a_id, b_id]));
    let address = listen(&mut server, "/ip4/127.0.0.1/tcp/0").await;
    server.add_external_address(address.clone());
    tokio::spawn(async move { drive(&mut server).await });
    reserved(&mut a, server_id, address.clone()).await;
    b.dial(a_id, vec![circuit(address, server_id, a_id)]).unwrap();
    let (path, _) = both(relayed(&mut b), relayed(&mut a)).await;
    for at in [vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()], Vec::new()] {
        b.relay_at(at);
        assert_eq!(echo(&mut b, &mut a, &path).await, "hello");
    }
}

async fn refused(asking: &mut PeerSwarm, relay: &mut PeerSwarm, relay_id: PeerId, address: &Multiaddr) {
    asking.reserve(relay_id, address.clone()).unwrap();
    let lost = async {
        loop {
            match asking.next_event().await {
                Event::Reserved { .. } => panic!("reserved"),
                Event::ReservationLost { .. } => return,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = lost => {}
        () = drive(relay) => unreachable!(),
    }
}

fn member(max_circuits: usize) -> PeerSwarm {
    let limits = RelayLimits {
        max_reservations: 16,
        max_circuits,
        max_circuits_per_peer: 8,
        reservation_ttl: Duration::from_secs(3600),
        circuit_duration: Duration::from_secs(3600),
        circuit_bytes: 0,
    };
    let relaying = Some(PeerRelaying { limits, bytes_per_second: NonZeroU64::new(1 << 20) });
    swarm(Profile::Node { mdns: false, relaying, punches_over: None })
}

fn circuit(address: Multiaddr, relay: PeerId, to: PeerId) -> Multiaddr {
    address.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit).with(Protocol::P2p(to))
}
