//! Several connections of one kind.

use std::time::Duration;

use peerup_path::Action;
use peerup_types::PathId;

use crate::{DIRECT_TCP, DIRECT_V4, RELAYED, Story, ordered_peers};

#[test]
fn of_two_connections_of_one_kind_each_side_closes_only_what_it_should() {
    let (small, large) = ordered_peers();
    for (own, peer, closes) in [(small, large, false), (large, small, true)] {
        let mut story = Story::between(own, peer);
        story.open_as(1, DIRECT_V4, true);
        story.open_as(2, DIRECT_V4, false);
        story.open_as(3, DIRECT_TCP, true);
        for path in [1, 2, 3] {
            story.peer.handle_ready(PathId(path), story.now);
        }
        story.drain();
        story.advance(Duration::from_secs(4));
        let announced = story.drain();
        assert_eq!(announced.contains(&Action::Retire { path: PathId(1) }), closes);
        assert!(!announced.contains(&Action::Close { path: PathId(1) }), "in-flight packets need time");
        // The one that is not ours to close is used until the peer announces that it goes.
        assert_eq!(story.used().1, Some(2));
        story.advance(Duration::from_secs(3));
        assert_eq!(story.drain().contains(&Action::Close { path: PathId(1) }), closes);
    }
}

#[test]
fn where_no_tcp_stands_two_of_quic_are_kept_a_third_is_not_and_tcp_makes_the_second_one_surplus() {
    let mut story = Story::with_ready([(1, DIRECT_V4), (2, DIRECT_V4), (3, DIRECT_V4)]);
    story.run(Duration::from_secs(10), |_, _| Some(30));
    assert_eq!(story.closed.keys().collect::<Vec<_>>(), [&3]);
    assert_eq!(story.used(), (Some(1), Some(2)));
    story.open(4, DIRECT_TCP);
    story.peer.handle_ready(PathId(4), story.now);
    story.run(Duration::from_secs(10), |_, _| Some(30));
    assert_eq!(story.closed.keys().collect::<Vec<_>>(), [&2, &3]);
    assert_eq!(story.used(), (Some(4), Some(1)));
}

#[test]
fn packets_leave_a_path_that_the_peer_retires() {
    let mut story = Story::with_ready([(1, DIRECT_V4), (2, DIRECT_V4)]);
    story.peer.handle_retired(PathId(1), story.now);
    assert_eq!(story.active(), Some(2));
}

#[test]
fn a_goodbye_makes_the_peer_offline_at_once() {
    let mut story = Story::with_ready([(1, RELAYED), (2, DIRECT_V4)]);
    story.peer.handle_goodbye(story.now);
    assert_eq!(story.active(), None);
    assert!(!story.peer.is_connecting());
    assert!(story.drain().contains(&story.uses(None)));
    assert!(story.peer.poll_timeout().is_some(), "it is tried again later");
}
