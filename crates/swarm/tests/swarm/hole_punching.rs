//! Whose word DCUtR takes.

use std::time::Duration;

use peerup_swarm::{Admission, PeerSwarm, Profile};
use peerup_types::{Multiaddr, Protocol};
use tokio::{net::TcpListener, time::timeout};

use crate::support::{
    DEADLINE, ECHO, admit, both, drive, echo, listen, node, relay, relayed, reserved, swarm,
};

/// Long enough for a DCUtR handshake through the relay and the dial after it.
const WHILE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_guest_cannot_make_a_node_dial_and_once_a_member_can() {
    assert!(knocks_once_a_member(node(), DEADLINE).await, "dialed for a member");
}

#[tokio::test]
async fn a_member_that_agrees_on_punches_by_itself_is_left_to_that() {
    let host = swarm(Profile::Node { mdns: false, relaying: None, punches_over: Some(ECHO) });
    assert!(!knocks_once_a_member(host, WHILE).await, "dialed by DCUtR");
}

async fn knocks_once_a_member(mut host: PeerSwarm, within: Duration) -> bool {
    let (mut guest, mut relay) = (node(), relay());
    let (host_id, guest_id, relay_id) = (host.local_peer(), guest.local_peer(), relay.local_peer());
    host.set_admission(Admission { guests: true, ..Admission::default() });
    guest.set_admission(admit([host_id]));
    relay.set_admission(admit([host_id, guest_id]));
    let address = listen(&mut relay, "/ip4/127.0.0.1/tcp/0").await;
    relay.add_external_address(address.clone());
    tokio::spawn(async move { drive(&mut relay).await });

    let door = door(&mut guest).await;
    host.add_candidate("/ip4/127.0.0.1/tcp/1".parse().unwrap());
    reserved(&mut host, relay_id, address.clone()).await;
    let circuit =
        address.with(Protocol::P2p(relay_id)).with(Protocol::P2pCircuit).with(Protocol::P2p(host_id));
    guest.dial(host_id, vec![circuit]).unwrap();
    let (path, _) = both(relayed(&mut guest), relayed(&mut host)).await;

    assert!(!is_knocked(&door, &mut host, &mut guest, WHILE).await, "dialed what a guest sent");
    host.set_admission(admit([guest_id]));
    assert_eq!(echo(&mut guest, &mut host, &path).await, "hello");
    is_knocked(&door, &mut host, &mut guest, within).await
}

/// A port that `guest` offers as an address of its own.
async fn door(guest: &mut PeerSwarm) -> TcpListener {
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let local = door.local_addr().unwrap();
    guest.add_candidate(Multiaddr::empty().with(local.ip().into()).with(Protocol::Tcp(local.port())));
    door
}

async fn is_knocked(
    door: &TcpListener,
    host: &mut PeerSwarm,
    guest: &mut PeerSwarm,
    within: Duration,
) -> bool {
    let knock = async {
        tokio::select! {
            _ = door.accept() => {}
            () = drive(host) => {}
            () = drive(guest) => {}
        }
    };
    timeout(within, knock).await.is_ok()
}
