//! Servers of the private DHT that somebody named.

use peerup_swarm::Event;
use peerup_types::PeerId;

use crate::support::{admit, drive, listen, node, relay, until};

#[tokio::test]
async fn a_question_goes_to_a_server_that_was_named_though_nobody_is_connected() {
    let (mut asker, mut server) = (node(), relay());
    let server_id = server.local_peer();
    server.set_admission(admit([asker.local_peer()]));
    let at = listen(&mut server, "/ip4/127.0.0.1/tcp/0").await;
    tokio::spawn(async move { drive(&mut server).await });
    asker.bootstrap_from(vec![(server_id, at)]);
    asker.find(PeerId::random());
    until(&mut asker, |event| {
        matches!(event, Event::Identified { peer, .. } if *peer == server_id).then_some(())
    })
    .await;
}
