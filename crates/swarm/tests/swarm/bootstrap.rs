//! Servers of the private DHT that somebody named.

use std::time::Duration;

use peerup_swarm::Event;
use tokio::time::{sleep, timeout};

use crate::support::{DEADLINE, admit, drive, listen, node, relay, trust, until};

#[tokio::test]
async fn a_question_reaches_a_named_server_and_finds_who_serves_the_dht_there() {
    let (mut asker, mut wanted, mut server) = (node(), node(), relay());
    let (wanted_id, server_id) = (wanted.local_peer(), server.local_peer());
    trust(&mut asker, &mut wanted);
    server.set_admission(admit([asker.local_peer(), wanted_id]));
    let at = listen(&mut server, "/ip4/127.0.0.1/tcp/0").await;
    tokio::spawn(async move { drive(&mut server).await });

    let own = listen(&mut wanted, "/ip4/127.0.0.1/tcp/0").await;
    wanted.serve_dht(true);
    wanted.bootstrap_from(vec![(server_id, at.clone())]);
    wanted.find(server_id);
    until(&mut wanted, |event| {
        matches!(event, Event::Identified { peer, .. } if *peer == server_id).then_some(())
    })
    .await;
    tokio::spawn(async move { drive(&mut wanted).await });

    asker.bootstrap_from(vec![(server_id, at)]);
    let found = async {
        // The server learns of the other through identify, which may take longer than our first question.
        loop {
            asker.find(wanted_id);
            tokio::select! {
                found = until(&mut asker, |event| match event {
                    Event::Found { peer, address } => Some((*peer, address.clone())),
                    _ => None,
                }) => break found,
                () = sleep(Duration::from_millis(200)) => {}
            }
        }
    };
    let (peer, address) = timeout(DEADLINE, found).await.expect("an answer in time");
    assert_eq!(peer, wanted_id);
    assert_eq!(address.iter().take(2).collect::<Vec<_>>(), own.iter().take(2).collect::<Vec<_>>());
}
