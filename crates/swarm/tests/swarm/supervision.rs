//! What survives a panic inside libp2p.

use peerup_swarm::Event;

use crate::support::{both, listen, next, node, opened, trust, until};

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
