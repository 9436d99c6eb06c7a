//! Finding a peer, and having a relay at hand.

use std::time::Duration;

use peerup_path::Action;
use peerup_types::PathId;

use crate::{DIRECT_TCP, DIRECT_V4, RELAYED, Story, circuit};

#[test]
fn a_new_peer_is_dialed_through_every_circuit_at_once() {
    let mut story = Story::new();
    story.peer.handle_circuits(vec![circuit(1), circuit(2)], story.now);
    let dials = story.run_timeout();
    assert_eq!(dials.iter().filter(|action| matches!(action, Action::Dial { .. })).count(), 2);
}

#[test]
fn attempts_to_reach_an_absent_peer_back_off_to_about_a_minute_and_never_end() {
    let mut story = Story::new();
    story.peer.handle_circuits(vec![circuit(1)], story.now);
    let mut attempts = Vec::new();
    while attempts.len() < 20 {
        if story.run_timeout().iter().any(|action| matches!(action, Action::Dial { .. })) {
            attempts.push(story.now);
        }
        story.now = story.peer.poll_timeout().expect("another attempt");
    }
    let waits: Vec<Duration> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[0] <= Duration::from_secs(2), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(75)), "{waits:?}");
    assert!(waits[18] >= Duration::from_secs(45), "{waits:?}");
}

#[test]
fn a_waiting_packet_starts_an_attempt_at_once_but_not_more_than_once_a_second() {
    let mut story = Story::new();
    story.peer.handle_circuits(vec![circuit(1)], story.now);
    story.run_timeout();
    for _ in 0..10 {
        story.advance(Duration::from_secs(100));
        story.drain();
    }
    story.now += Duration::from_secs(2);
    story.peer.handle_wanted(story.now);
    assert!(!story.run_timeout().is_empty());
    story.peer.handle_wanted(story.now);
    assert_eq!(story.run_timeout(), []);
}

#[test]
fn a_relay_that_comes_up_while_a_packet_waits_is_used_at_once_by_either_side() {
    let (small, large) = crate::ordered_peers();
    for (waited, dialed) in [(0, true), (5, false)] {
        let mut story = Story::between(large, small);
        story.run_timeout();
        story.now += Duration::from_secs(600);
        story.run_timeout();
        story.peer.handle_wanted(story.now);
        story.run_timeout();
        story.now += Duration::from_secs(waited);
        story.run_timeout();
        story.now += Duration::from_millis(200);
        story.peer.handle_circuits(vec![circuit(1)], story.now);
        let dials = story.run_timeout().iter().any(|action| matches!(action, Action::Dial { .. }));
        assert_eq!(dials, dialed, "{waited} s");
    }
}

#[test]
fn the_peer_with_the_larger_id_leaves_the_first_dial_to_the_other_unless_a_packet_waits() {
    let (small, large) = crate::ordered_peers();
    for wanted in [false, true] {
        let mut story = Story::between(large, small);
        story.run_timeout();
        story.now += Duration::from_secs(600);
        story.run_timeout();
        story.now += Duration::from_millis(1100);
        story.peer.handle_circuits(vec![circuit(1)], story.now);
        if wanted {
            story.peer.handle_wanted(story.now);
        }
        let dialed = story.run_timeout().iter().any(|action| matches!(action, Action::Dial { .. }));
        assert_eq!(dialed, wanted);
    }
}

#[test]
fn a_relayed_path_is_kept_beside_a_direct_one_and_comes_back_after_its_relay() {
    let mut story = Story::settled([(1, DIRECT_V4, 30)]);
    story.peer.handle_circuits(vec![circuit(1)], story.now);
    let dials = |story: &mut Story| {
        let mut dials = 0;
        let end = story.now + Duration::from_secs(60);
        while story.now < end {
            story.step(|peer, action, now| match action {
                Action::Dial { address, .. } if address.to_string().contains("p2p-circuit") => dials += 1,
                Action::Probe { path } => peer.handle_answer(*path, Duration::from_millis(20), now),
                _ => {}
            });
            story.peer.handle_traffic(story.now);
        }
        dials
    };
    let tries = dials(&mut story);
    assert!((3..=6).contains(&tries), "{tries} in a minute");
    story.open(2, RELAYED);
    story.peer.handle_ready(PathId(2), story.now);
    story.drain();
    assert_eq!(dials(&mut story), 0);
    story.peer.handle_closed(PathId(2), story.now);
    assert!(dials(&mut story) > 0);
}

#[test]
fn for_an_idle_peer_a_relayed_path_beside_a_direct_one_is_tried_a_few_times_and_with_traffic_again() {
    let mut story = Story::with_ready([(1, DIRECT_TCP), (2, DIRECT_V4)]);
    story.peer.handle_circuits(vec![circuit(1)], story.now);
    let mut dials = 0;
    while story.peer.poll_timeout().is_some_and(|at| at < story.start + Duration::from_secs(7200)) {
        story.step(|peer, action, now| match action {
            Action::Dial { .. } => dials += 1,
            Action::Probe { path } => peer.handle_answer(*path, Duration::from_millis(20), now),
            _ => {}
        });
    }
    assert!((3..=5).contains(&dials), "{dials} in two hours");
    story.now += Duration::from_secs(7200);
    story.peer.handle_traffic(story.now);
    story.peer.handle_timeout(story.now);
    assert!(story.drain().iter().any(|action| matches!(action, Action::Dial { .. })));
}

#[test]
fn an_address_that_leads_to_a_better_path_or_another_carrier_is_dialed_although_there_is_a_direct_one() {
    let mut story = Story::settled([(1, DIRECT_V4, 30)]);
    let dialed = |story: &mut Story, text: &str| {
        story.peer.handle_address(text.parse().unwrap(), story.now);
        story.advance(Duration::from_millis(300));
        story.drain().iter().any(|action| matches!(action, Action::Dial { .. }))
    };
    assert!(!dialed(&mut story, "/ip4/203.0.113.8/udp/4001/quic-v1"));
    assert!(dialed(&mut story, "/ip4/203.0.113.8/tcp/4001"));
    assert!(dialed(&mut story, "/ip6/2001:db8::8/udp/4001/quic-v1"));
}
