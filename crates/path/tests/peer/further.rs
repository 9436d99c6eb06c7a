//! What is looked for beside a direct path.

use std::time::{Duration, Instant};

use peerup_path::Action;
use peerup_types::{NatMapping, PathId};

use crate::{DIRECT_TCP, DIRECT_V4, DIRECT_V6, RELAYED, Story, TCP_V6, addresses, circuit};

const HOUR: Duration = Duration::from_secs(3600);

/// When the peer is asked for its addresses.
fn requests(story: &mut Story, duration: Duration, traffic: bool) -> Vec<Instant> {
    let end = story.now + duration;
    let mut requests = Vec::new();
    while story.now < end && story.peer.poll_timeout().is_some() {
        story.step(|peer, action, now| match action {
            Action::RequestPunch { .. } => requests.push(now),
            Action::Probe { path } => peer.handle_answer(*path, Duration::from_millis(20), now),
            _ => {}
        });
        if traffic {
            story.peer.handle_traffic(story.now);
        }
    }
    requests
}

#[test]
fn a_better_family_is_looked_for_with_backoff_and_for_ever() {
    let mut story = Story::settled([(2, DIRECT_V4, 30), (4, DIRECT_TCP, 30)]);
    let asked = requests(&mut story, 2 * HOUR, true);
    assert!((20..=36).contains(&asked.len()), "{} in two hours", asked.len());
    assert!(asked.windows(2).all(|two| two[1] - two[0] <= Duration::from_secs(380)), "{asked:?}");
}

#[test]
fn no_more_relays_are_asked_for_on_the_way() {
    let mut story = Story::settled([(1, RELAYED, 60), (2, DIRECT_V4, 30), (4, DIRECT_TCP, 30)]);
    story.peer.handle_circuits(vec![circuit(1), circuit(2)], story.now);
    let end = story.now + HOUR;
    while story.now < end {
        story.step(|peer, action, now| match action {
            Action::Dial { address, .. } => panic!("{address}"),
            Action::Probe { path } => peer.handle_answer(*path, Duration::from_millis(20), now),
            _ => {}
        });
        story.peer.handle_traffic(story.now);
    }
}

#[test]
fn nothing_is_looked_for_where_both_carriers_of_the_best_family_are_there() {
    let mut story = Story::settled([(3, DIRECT_V6, 30), (5, TCP_V6, 30)]);
    assert_eq!(requests(&mut story, HOUR, true), []);
}

#[test]
fn an_idle_peer_is_left_alone() {
    let mut story = Story::settled([(2, DIRECT_V4, 30)]);
    requests(&mut story, Duration::from_secs(60), false);
    assert_eq!(requests(&mut story, HOUR, false), []);
    story.now += HOUR;
    story.peer.handle_traffic(story.now);
    assert_eq!(requests(&mut story, Duration::from_secs(1), true).len(), 1);
}

#[test]
fn the_request_of_the_peer_stands_for_an_attempt_of_ones_own() {
    let mut story = Story::settled([(2, DIRECT_V4, 30), (4, DIRECT_TCP, 30)]);
    let asked = requests(&mut story, HOUR, true);
    story.now += Duration::from_secs(10);
    let due = asked.last().unwrap();
    assert!(*due < story.now);
    for attempt in 0..20 {
        story.peer.handle_punch_request(PathId(2), attempt, &[], NatMapping::Unknown, story.now);
        assert_eq!(requests(&mut story, Duration::from_secs(200), true), [], "after attempt {attempt}");
    }
}

#[test]
fn the_missing_carrier_is_dialed_where_it_was_offered_once_and_quic_once_more_where_it_is() {
    let mut story = Story::settled([(2, DIRECT_V4, 30)]);
    let [tcp, quic] = ["/ip4/198.51.100.7/tcp/4001", "/ip4/198.51.100.7/udp/4001/quic-v1"];
    for address in addresses([tcp, quic]) {
        story.peer.handle_address(address, story.now);
    }
    let mut dials = Vec::new();
    let end = story.now + Duration::from_secs(600);
    while story.now < end {
        story.step(|peer, action, now| match action {
            Action::Dial { address, .. } => dials.push(address.to_string()),
            Action::Probe { path } => peer.handle_answer(*path, Duration::from_millis(20), now),
            _ => {}
        });
        story.peer.handle_traffic(story.now);
    }
    let second = "/ip4/198.51.100.1/udp/4001/quic-v1";
    for address in [tcp, second] {
        let count = dials.iter().filter(|dial| *dial == address).count();
        assert!((3..=8).contains(&count), "{address}: {count} in ten minutes");
    }
    assert!(dials.iter().all(|dial| [tcp, second].contains(&dial.as_str())), "{dials:?}");
}
