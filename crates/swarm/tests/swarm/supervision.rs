//! What survives a panic inside libp2p.

use std::{net::UdpSocket, time::Duration};

use futures::AsyncWriteExt;
use peerup_swarm::{Event, InboundStream, PathHandle, PeerSwarm};
use peerup_types::Multiaddr;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{DEADLINE, ECHO, both, drive, listen, next, node, opened, trust, until};

#[tokio::test]
async fn a_panic_rebuilds_the_swarm_with_its_listeners_and_reports_lost_paths() {
    let (mut a, mut b) = (node(), node());
    trust(&mut a, &mut b);
    let address = listen(&mut b, "/ip4/127.0.0.1/tcp/0").await;
    a.dial(b.local_peer(), vec![address.clone()]).unwrap();
    let (_, path) = both(opened(&mut a), opened(&mut b)).await;
    b.provoke_panic();
    let mut seen = Vec::new();
    loop {
        match next(&mut b).await {
            Event::PathClosed { path: lost, .. } => seen.push(lost),
            Event::Restarted { panic } => {
                assert!(panic.contains("provoked"), "{panic}");
                break;
            }
            _ => {}
        }
    }
    assert_eq!(seen, [path.path]);
    let again = until(&mut b, |event| match event {
        Event::Listening(address) => Some(address.clone()),
        _ => None,
    })
    .await;
    until(&mut a, |event| matches!(event, Event::PathClosed { .. }).then_some(())).await;
    a.dial(b.local_peer(), vec![again]).unwrap();
    let (_, fresh) = both(opened(&mut a), opened(&mut b)).await;
    assert!(fresh.path > path.path, "path numbers are never reused");
}

#[tokio::test]
async fn a_quic_listener_comes_back_when_the_last_stream_of_its_old_self_is_gone() {
    let (mut a, mut b) = (node(), node());
    trust(&mut a, &mut b);
    let address = listen(&mut b, &free_quic_address()).await;
    a.dial(b.local_peer(), vec![address.clone()]).unwrap();
    let (path, _) = both(opened(&mut a), opened(&mut b)).await;
    let held = stream(&mut a, &mut b, &path).await;
    b.provoke_panic();
    until(&mut b, |event| matches!(event, Event::Restarted { .. }).then_some(())).await;
    let early = timeout(Duration::from_millis(500), listening(&mut b)).await;
    assert!(early.is_err(), "the port is still taken");
    drop(held);
    assert_eq!(listening(&mut b).await, address);
    until(&mut a, |event| matches!(event, Event::PathClosed { .. }).then_some(())).await;
    a.dial(b.local_peer(), vec![address]).unwrap();
    both(opened(&mut a), opened(&mut b)).await;
}

#[tokio::test(start_paused = true)]
async fn panics_in_a_row_are_each_reported_at_once_and_libp2p_rests_longer_after_each() {
    let mut a = node();
    for rest in [0, 0, 1, 2, 4, 8, 16, 30, 30] {
        let start = Instant::now();
        a.provoke_panic();
        restarted(&mut a).await;
        assert_eq!(start.elapsed().as_secs(), rest);
    }
    // Another branch of the caller's select runs during a rest.
    tokio::select! {
        () = drive(&mut a) => unreachable!(),
        () = sleep(Duration::from_secs(1)) => {}
    }
    // A calm time after the last rest makes the next panic a first one.
    let _ = timeout(Duration::from_secs(100), drive(&mut a)).await;
    let start = Instant::now();
    for _ in 0..2 {
        a.provoke_panic();
        restarted(&mut a).await;
    }
    assert_eq!(start.elapsed().as_secs(), 0);
}

async fn restarted(swarm: &mut PeerSwarm) {
    while !matches!(swarm.next_event().await, Event::Restarted { .. }) {}
}

async fn listening(swarm: &mut PeerSwarm) -> Multiaddr {
    until(swarm, |event| match event {
        Event::Listening(address) => Some(address.clone()),
        Event::ListenFailed(error) => panic!("{error}"),
        _ => None,
    })
    .await
}

/// A stream from `a`, as `b` holds it.
async fn stream(a: &mut PeerSwarm, b: &mut PeerSwarm, path: &PathHandle) -> InboundStream {
    let open = async {
        let mut stream = path.open(ECHO).await.unwrap();
        // The protocol's name travels with the first bytes.
        stream.write_all(b"hello").await.unwrap();
        stream.flush().await.unwrap();
        drive(a).await;
    };
    let arrived = async {
        loop {
            if let Event::Inbound(stream) = b.next_event().await {
                return stream;
            }
        }
    };
    let first = async {
        tokio::select! { arrived = arrived => arrived, () = open => unreachable!() }
    };
    timeout(DEADLINE, first).await.expect("a stream in time")
}

/// A port that is free, but not `0`: the swarm must come back to the same one.
fn free_quic_address() -> String {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("/ip4/127.0.0.1/udp/{port}/quic-v1")
}
