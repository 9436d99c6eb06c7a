//! Which path packets take.

use std::time::Duration;

use peerup_path::{Action, Event, Reason};
use peerup_types::PathId;

use crate::{DIRECT_TCP, DIRECT_V4, DIRECT_V6, PEER_RELAYED, RELAYED, Story};

#[test]
fn an_established_connection_is_not_used_before_the_hello_is_acknowledged() {
    let mut story = Story::new();
    story.open(1, RELAYED);
    assert_eq!(story.drain(), [Action::OpenStream { path: PathId(1) }]);
    assert!(story.peer.active().is_none());
    story.peer.handle_ready(PathId(1), story.now);
    assert!(story.drain().contains(&story.uses(Some(1))));
}

#[test]
fn packets_move_to_a_direct_path_in_a_moment_and_back_to_the_relay_when_it_closes() {
    let mut story = Story::with_ready([(1, RELAYED), (2, DIRECT_V4)]);
    assert_eq!(story.active(), Some(1));
    story.advance(Duration::from_millis(250));
    assert_eq!(story.active(), Some(2));
    story.peer.handle_closed(PathId(2), story.now);
    assert_eq!(story.active(), Some(1));
    story.drain();
    let reasons: Vec<_> =
        story.changes.iter().map(|(_, Event::PathChanged { reason, .. })| *reason).collect();
    assert_eq!(reasons, [Reason::FirstPath, Reason::BetterPath, Reason::PathClosed]);
}

#[test]
fn of_direct_paths_that_become_ready_together_the_best_takes_the_packets_in_one_switch() {
    let mut story = Story::with_ready([(1, RELAYED), (2, DIRECT_TCP), (3, DIRECT_V4), (4, DIRECT_V6)]);
    story.switches();
    story.run(Duration::from_secs(5), |_, _| Some(30));
    assert_eq!((story.active(), story.switches()), (Some(4), 1));
}

#[test]
fn a_relay_that_answers_faster_never_replaces_a_direct_path() {
    let mut story = Story::settled([(1, RELAYED, 10), (2, DIRECT_V4, 200)]);
    story.run(Duration::from_secs(300), |path, _| Some(if path == 1 { 10 } else { 200 }));
    assert_eq!((story.active(), story.switches()), (Some(2), 0));
}

#[test]
fn ipv6_takes_over_from_ipv4_once_it_is_known_to_be_comparable() {
    let mut story = Story::settled([(1, DIRECT_V4, 30)]);
    story.open(2, DIRECT_V6);
    story.peer.handle_ready(PathId(2), story.now);
    assert_eq!(story.active(), Some(1));
    story.run(Duration::from_secs(2), |_, _| Some(40));
    assert_eq!(story.active(), Some(2));
}

#[test]
fn ipv6_that_is_clearly_slower_than_ipv4_is_not_used() {
    let mut story = Story::settled([(1, DIRECT_V4, 10)]);
    story.open(2, DIRECT_V6);
    story.peer.handle_ready(PathId(2), story.now);
    story.run(Duration::from_secs(300), |path, _| Some(if path == 2 { 60 } else { 10 }));
    assert_eq!((story.active(), story.switches()), (Some(1), 0));
}

#[test]
fn a_path_of_lower_rank_wins_when_it_is_clearly_faster_for_ten_seconds_and_loses_when_it_is_not() {
    let mut story = Story::settled([(1, DIRECT_V6, 30), (2, DIRECT_V4, 30)]);
    assert_eq!(story.active(), Some(1));
    let slow_v6 = |path, _| Some(if path == 1 { 90 } else { 30 });
    story.run(Duration::from_secs(8), slow_v6);
    assert_eq!(story.active(), Some(1), "not for long enough");
    story.run(Duration::from_secs(22), slow_v6);
    assert_eq!(story.active(), Some(2));
    assert_eq!(story.peer.reason(), Some(Reason::Faster));
    story.run(Duration::from_secs(300), slow_v6);
    assert_eq!(story.active(), Some(2));
    // Fast again: it has the higher rank.
    story.run(Duration::from_secs(120), |_, _| Some(30));
    assert_eq!(story.active(), Some(1));
}

#[test]
fn a_path_that_is_only_a_little_faster_does_not_win() {
    for (better, worse) in [(30, 44), (100, 130)] {
        let mut story = Story::settled([(1, DIRECT_V6, better), (2, DIRECT_V4, better)]);
        story.run(Duration::from_secs(300), |path, _| Some(if path == 1 { worse } else { better }));
        assert_eq!((story.active(), story.switches()), (Some(1), 0), "{better} and {worse} ms");
    }
}

#[test]
fn a_path_that_loses_packets_gives_way_to_one_of_lower_rank_that_does_not() {
    let mut story = Story::settled([(1, DIRECT_V6, 30), (2, DIRECT_V4, 30)]);
    let lost = |at: Duration| (at.as_millis() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56 < 40;
    let lossy = |path, at| (path != 1 || !lost(at)).then_some(30);
    story.run(Duration::from_secs(180), lossy);
    assert_eq!(story.active(), Some(2));
    assert_eq!(story.peer.reason(), Some(Reason::LessLoss));
}

#[test]
fn a_vps_relay_wins_over_a_peer_relay_by_the_same_rule() {
    let mut story = Story::settled([(1, PEER_RELAYED, 40), (2, RELAYED, 40)]);
    assert_eq!(story.active(), Some(1));
    story.run(Duration::from_secs(40), |path, _| Some(if path == 1 { 120 } else { 40 }));
    assert_eq!(story.active(), Some(2));
    story.run(Duration::from_secs(120), |_, _| Some(40));
    assert_eq!(story.active(), Some(1));
}

#[test]
fn an_equal_path_does_not_replace_the_one_in_use() {
    let story = Story::with_ready([(5, DIRECT_V4), (2, DIRECT_V4)]);
    assert_eq!(story.active(), Some(5));
}

#[test]
fn a_path_whose_hello_never_comes_is_closed() {
    let mut story = Story::new();
    story.open(1, DIRECT_V4);
    story.drain();
    story.advance(Duration::from_secs(10));
    assert!(story.drain().contains(&Action::Close { path: PathId(1) }));
}

// At most four switches a minute

#[test]
fn a_path_that_comes_and_goes_does_not_take_the_packets_with_it_every_time() {
    let mut story = Story::settled([(1, RELAYED, 40)]);
    let start = story.now;
    for path in 2..30 {
        story.open(path, DIRECT_V4);
        story.peer.handle_ready(PathId(path), story.now);
        story.run(Duration::from_secs(1), |_, _| Some(40));
        story.peer.handle_closed(PathId(path), story.now);
        story.run(Duration::from_secs(1), |_, _| Some(40));
    }
    assert!(story.now - start < Duration::from_secs(60));
    assert_eq!(story.switches(), 4);
    story.open(30, DIRECT_V4);
    story.peer.handle_ready(PathId(30), story.now);
    story.run(Duration::from_secs(2), |_, _| Some(40));
    assert_eq!(story.active(), Some(1));
    story.run(start + Duration::from_secs(61) - story.now, |_, _| Some(40));
    assert_eq!(story.active(), Some(30));
}

#[test]
fn a_direct_path_that_returns_after_a_cut_is_used_at_once() {
    for cut in [3, 6, 9] {
        let mut story = Story::settled([(1, RELAYED, 40), (2, DIRECT_V4, 30)]);
        story.run(Duration::from_secs(cut), |path, _| (path == 1).then_some(40));
        assert_eq!(story.active(), Some(1));
        story.run(Duration::from_secs(4), |_, _| Some(35));
        assert_eq!(story.active(), Some(2), "after a cut of {cut} s");
    }
}

#[test]
fn another_network_or_another_start_of_the_peer_makes_earlier_switches_forgotten() {
    for restarted in [true, false] {
        let mut story = Story::settled([(1, RELAYED, 40)]);
        for path in 2..10 {
            story.open(path, DIRECT_V4);
            story.peer.handle_ready(PathId(path), story.now);
            story.run(Duration::from_secs(1), |_, _| Some(40));
            story.peer.handle_closed(PathId(path), story.now);
        }
        assert_eq!(story.switches(), 4);
        match restarted {
            true => story.peer.handle_restarted(story.now),
            false => story.peer.handle_network_changed(story.now),
        }
        story.open(30, DIRECT_V4);
        story.peer.handle_ready(PathId(30), story.now);
        story.run(Duration::from_secs(1), |_, _| Some(40));
        assert_eq!(story.active(), Some(30));
    }
}

#[test]
fn packets_leave_a_retired_path_for_its_twin_even_if_a_better_path_has_to_wait() {
    let mut story = Story::settled([(1, RELAYED, 40)]);
    for path in 3..6 {
        story.open(path, DIRECT_V4);
        story.peer.handle_ready(PathId(path), story.now);
        story.run(Duration::from_secs(1), |_, _| Some(40));
        story.peer.handle_closed(PathId(path), story.now);
    }
    story.open(9, DIRECT_V4);
    story.peer.handle_ready(PathId(9), story.now);
    story.run(Duration::from_secs(1), |_, _| Some(40));
    assert_eq!(story.active(), Some(1));
    story.open(2, RELAYED);
    story.peer.handle_ready(PathId(2), story.now);
    story.peer.handle_retired(PathId(1), story.now);
    assert_eq!(story.active(), Some(2));
}
