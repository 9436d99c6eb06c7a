//! What dies, what only seems to, and what comes back.

use std::time::Duration;

use peerup_path::Action;
use peerup_types::PathId;

use crate::{DIRECT_TCP, DIRECT_V4, DIRECT_V6, RELAYED, Story, circuit};

/// When packets left the direct path for the relay after everything of `dead` fell silent.
fn failover(mut story: Story, dead: &[u64]) -> Duration {
    let cut = story.now;
    while story.active() != Some(1) {
        story.run(Duration::from_millis(10), |path, _| (!dead.contains(&path)).then_some(40));
        assert!(story.now - cut < Duration::from_secs(10), "stays on {:?}", story.active());
    }
    assert_eq!(story.switches(), 1, "straight to the one that answers");
    story.now - cut
}

#[test]
fn a_silent_direct_path_gives_way_to_the_relay_within_two_seconds_at_any_phase_of_the_probes() {
    for phase in 0..40 {
        let mut story = Story::settled([(1, RELAYED, 40), (2, DIRECT_V4, 30)]);
        story.run(Duration::from_millis(phase * 25), |_, _| Some(35));
        let took = failover(story, &[2]);
        assert!(took <= Duration::from_millis(1500), "{took:?}");
    }
}

#[test]
fn a_path_with_a_long_and_unsteady_round_trip_is_left_within_two_seconds() {
    for phase in 0..20 {
        let mut story = Story::settled([(1, RELAYED, 40), (2, DIRECT_V4, 200)]);
        let unsteady =
            |path, at: Duration| Some(if path == 1 { 40 } else { 150 + at.as_millis() as u64 % 150 });
        story.run(Duration::from_millis(20_000 + phase * 50), unsteady);
        let took = failover(story, &[2]);
        assert!(took <= Duration::from_millis(2050), "{took:?}");
    }
}

#[test]
fn when_several_paths_die_at_once_packets_go_straight_to_the_one_that_answers() {
    for phase in 0..20 {
        let mut story =
            Story::settled([(1, RELAYED, 40), (2, DIRECT_V4, 30), (3, DIRECT_TCP, 30), (4, DIRECT_V6, 30)]);
        story.run(Duration::from_millis(phase * 50), |_, _| Some(35));
        let took = failover(story, &[2, 3, 4]);
        assert!(took <= Duration::from_millis(2000), "{took:?}");
    }
}

#[test]
fn a_lane_whose_bytes_still_advance_is_alive_however_late_its_probes_are() {
    let mut story = Story::settled([(1, RELAYED, 40), (2, DIRECT_V4, 30)]);
    for _ in 0..600 {
        story.run(Duration::from_millis(100), |path, _| (path == 1).then_some(40));
        story.peer.handle_heard(PathId(2), story.now);
    }
    assert_eq!((story.active(), story.switches()), (Some(2), 0));
}

#[test]
fn a_path_that_loses_more_than_a_third_of_its_probes_is_not_live() {
    let mut story = Story::settled([(1, RELAYED, 40), (2, DIRECT_V4, 30)]);
    let lossy = |path, at: Duration| (path == 1 || (at.as_millis() / 300).is_multiple_of(2)).then_some(30);
    story.run(Duration::from_secs(30), lossy);
    assert_eq!(story.active(), Some(1));
}

#[test]
fn a_path_on_which_a_hello_takes_its_time_is_not_measured_by_it() {
    let mut story = Story::with_ready([(1, DIRECT_V4)]);
    story.run(Duration::from_secs(1), |_, _| Some(20));
    let probes = story.peer.ready()[0].1;
    assert_eq!(probes, Some(Duration::from_millis(20)));
}

#[test]
fn answers_that_a_stalled_stream_held_back_do_not_lift_a_suspicion() {
    let mut story = Story::settled([(1, RELAYED, 40), (2, DIRECT_V4, 30)]);
    story.run(Duration::from_secs(3), |path, _| (path == 1).then_some(40));
    assert_eq!(story.active(), Some(1));
    for held_back in (2..8).rev() {
        story.peer.handle_answer(PathId(2), Duration::from_secs(held_back), story.now);
    }
    assert_eq!(story.active(), Some(1));
    for _ in 0..2 {
        story.peer.handle_answer(PathId(2), Duration::from_millis(40), story.now);
    }
    assert_eq!(story.active(), Some(2));
}

#[test]
fn one_silent_path_is_not_left_for_another() {
    let mut story = Story::with_ready([(2, DIRECT_V4), (3, DIRECT_TCP)]);
    story.switches();
    let cut = story.now;
    while story.now < cut + Duration::from_secs(8) {
        story.peer.handle_traffic(story.now);
        story.step(|_, _, _| {});
    }
    assert_eq!((story.active(), story.switches()), (Some(3), 0));
}

#[test]
fn when_a_connection_to_an_idle_peer_closes_the_others_are_looked_at() {
    let mut story = Story::settled([(1, RELAYED, 40), (2, DIRECT_V4, 30), (3, DIRECT_TCP, 30)]);
    story.now += Duration::from_secs(3600);
    story.run_timeout();
    let closed = story.now;
    story.peer.handle_closed(PathId(2), story.now);
    while story.active() != Some(1) && story.now - closed < Duration::from_secs(60) {
        story.step(|peer, action, now| {
            if *action == (Action::Probe { path: PathId(1) }) {
                peer.handle_answer(PathId(1), Duration::from_millis(40), now);
            }
        });
    }
    assert!(story.now - closed <= Duration::from_secs(3), "{:?}", story.now - closed);
}

#[test]
fn an_idle_peer_is_not_probed() {
    let mut story = Story::with_ready([(1, DIRECT_V4)]);
    let start = story.now;
    let mut last_probe = start;
    while story.now < start + Duration::from_secs(600) && story.peer.poll_timeout().is_some() {
        story.step(|peer, action, now| {
            if let Action::Probe { path } = action {
                last_probe = now;
                peer.handle_answer(*path, Duration::from_millis(20), now);
            }
        });
    }
    assert!(last_probe - start <= Duration::from_secs(46), "{:?}", last_probe - start);
    assert_eq!(story.active(), Some(1));
}

#[test]
fn a_suspect_path_is_used_again_when_it_answers_and_closed_when_it_stays_silent() {
    for returns in [true, false] {
        let mut story = Story::with_ready([(1, RELAYED), (2, DIRECT_V4)]);
        let cut = story.now;
        let mut closed = false;
        while story.now < cut + Duration::from_secs(30) {
            story.peer.handle_traffic(story.now);
            let back = returns && story.now > cut + Duration::from_secs(5);
            story.step(|peer, action, now| match action {
                Action::Probe { path } if back || *path == PathId(1) => {
                    peer.handle_answer(*path, Duration::from_millis(40), now);
                }
                Action::Close { path } => closed |= *path == PathId(2),
                _ => {}
            });
        }
        assert_eq!(closed, !returns);
        assert_eq!(story.active(), Some(if returns { 2 } else { 1 }));
    }
}

#[test]
fn a_host_that_was_too_busy_to_read_answers_does_not_blame_its_paths() {
    let mut story = Story::with_ready([(1, RELAYED), (2, DIRECT_V4)]);
    let mut outstanding = Vec::new();
    for _ in 0..100 {
        story.peer.handle_traffic(story.now);
        // Every timer fires two seconds late, and the answers are read right after it.
        story.now = story.peer.poll_timeout().expect("a timeout").max(story.now) + Duration::from_secs(2);
        for action in story.run_timeout() {
            if let Action::Probe { path } = action {
                outstanding.push(path);
            }
        }
        for path in outstanding.drain(..) {
            story.peer.handle_answer(path, Duration::from_millis(30), story.now);
        }
    }
    assert_eq!(story.active(), Some(2));
}

#[test]
fn a_peer_whose_only_path_stops_answering_is_dialed_while_the_path_may_still_return() {
    let mut story = Story::with_ready([(1, RELAYED)]);
    story.peer.handle_circuits(vec![circuit(1)], story.now);
    let mut dialed = false;
    let end = story.now + Duration::from_secs(8);
    while story.now < end {
        story.peer.handle_traffic(story.now);
        story.step(|_, action, _| dialed |= matches!(action, Action::Dial { .. }));
    }
    assert!(dialed);
    assert_eq!(story.active(), Some(1));
}
