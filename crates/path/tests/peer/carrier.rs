//! TCP for reliable frames, QUIC beside it.

use std::time::Duration;

use peerup_path::{Action, Event, Reason, Rule, Verdict};
use peerup_types::PathId;

use crate::{DIRECT_TCP, DIRECT_V4, DIRECT_V6, RELAYED, Story, TCP_V6};

fn both() -> Story {
    Story::settled([(1, RELAYED, 60), (2, DIRECT_V4, 30), (3, DIRECT_TCP, 30)])
}

fn verdict(story: &Story, path: u64) -> Verdict {
    let reports = story.peer.explain(story.now).paths;
    reports.into_iter().find(|report| report.opened.path == PathId(path)).unwrap().verdict
}

fn open(story: &mut Story, path: u64, kind: peerup_types::PathKind) {
    story.open(path, kind);
    story.peer.handle_ready(PathId(path), story.now);
}

#[test]
fn packets_leave_a_relay_for_tcp_and_quic_together_in_one_change() {
    let mut story = Story::settled([(1, RELAYED, 60)]);
    let before = story.changes.len();
    open(&mut story, 2, DIRECT_V4);
    story.run(Duration::from_millis(110), |_, _| Some(30));
    assert_eq!(story.used(), (Some(1), None), "the first packets go on over the relay");
    open(&mut story, 3, DIRECT_TCP);
    story.run(Duration::from_secs(30), |_, _| Some(30));
    assert_eq!(story.used(), (Some(3), Some(2)));
    assert_eq!(story.changes.len() - before, 1, "{:?}", story.changes);
}

#[test]
fn the_first_path_is_used_at_once_and_tcp_takes_over_without_a_change_of_path() {
    let mut story = Story::with_ready([(2, DIRECT_V4)]);
    let since = story.peer.active().unwrap().2;
    assert_eq!(story.used(), (Some(2), Some(2)));
    story.run(Duration::from_secs(3), |_, _| Some(30));
    open(&mut story, 3, DIRECT_TCP);
    assert_eq!(story.used(), (Some(2), Some(2)), "not before it is measured");
    story.run(Duration::from_secs(2), |_, _| Some(30));
    assert_eq!(story.used(), (Some(3), Some(2)));
    assert_eq!((story.changes.len(), story.peer.reason()), (1, Some(Reason::FirstPath)));
    assert_eq!(story.peer.active().unwrap().2, since);
    assert_eq!(story.peer.explain(story.now).switches_last_minute, 0);
    assert_eq!(verdict(&story, 2), Verdict::Rejected(Rule::Beside));
}

#[test]
fn when_tcp_dies_frames_go_over_quic_and_return_after_a_while() {
    let mut story = both();
    assert_eq!(story.used(), (Some(3), Some(2)));
    let changes = story.changes.len();
    story.run(Duration::from_secs(3), |path, _| (path != 3).then_some(30));
    assert_eq!(story.used(), (Some(2), Some(2)));
    story.run(Duration::from_secs(20), |_, _| Some(30));
    assert_eq!(story.used(), (Some(2), Some(2)));
    assert!(matches!(verdict(&story, 3), Verdict::Rejected(Rule::CarrierRests { .. })));
    story.run(Duration::from_secs(15), |_, _| Some(30));
    assert_eq!((story.used(), story.changes.len()), ((Some(3), Some(2)), changes));
}

#[test]
fn when_quic_dies_nothing_stands_beside_tcp_and_frames_stay() {
    let mut story = both();
    let (changes, cut) = (story.changes.len(), story.now);
    story.run(Duration::from_secs(5), |path, _| (path != 2).then_some(30));
    assert_eq!((story.used(), story.changes.len()), ((Some(3), None), changes));
    let told = story.used.last().unwrap().0;
    assert!(told - cut <= Duration::from_millis(2000), "{:?}", told - cut);
    story.run(Duration::from_secs(5), |_, _| Some(30));
    assert_eq!(story.used(), (Some(3), Some(2)));
}

#[test]
fn quic_of_another_family_stands_beside_tcp_when_that_of_its_own_is_gone() {
    let mut story = Story::settled([(2, DIRECT_V4, 30), (3, DIRECT_V6, 30), (5, TCP_V6, 30)]);
    assert_eq!(story.used(), (Some(5), Some(3)));
    story.peer.handle_closed(PathId(3), story.now);
    assert_eq!(story.used(), (Some(5), Some(2)));
}

#[test]
fn a_connection_that_closes_is_replaced_by_the_other_carrier_of_its_way() {
    // IPv4 is in use because IPv6 is slow.
    let mut story =
        Story::settled([(2, DIRECT_V4, 10), (3, DIRECT_V6, 90), (4, DIRECT_TCP, 10), (5, TCP_V6, 90)]);
    assert_eq!(story.used(), (Some(4), Some(2)));
    story.peer.handle_closed(PathId(4), story.now);
    assert_eq!(story.used(), (Some(2), Some(2)));
}

#[test]
fn nothing_stands_beside_a_relayed_path() {
    let mut story = Story::settled([(1, RELAYED, 60), (2, DIRECT_V4, 30)]);
    assert_eq!(story.used(), (Some(2), Some(2)));
    story.peer.handle_closed(PathId(2), story.now);
    assert_eq!(story.used(), (Some(1), None));
}

#[test]
fn a_queue_in_front_of_the_loaded_connection_makes_neither_the_other_carrier_nor_the_other_family_better() {
    let kinds = [(2, DIRECT_V4, 30), (3, DIRECT_V6, 30), (4, DIRECT_TCP, 30), (5, TCP_V6, 30)];
    let mut story = Story::settled(kinds);
    assert_eq!(story.used(), (Some(5), Some(3)));
    let told = story.used.len();
    story.run(Duration::from_secs(300), |path, _| Some(if path == 5 { 200 } else { 30 }));
    assert_eq!((story.used(), story.used.len()), ((Some(5), Some(3)), told));
}

#[test]
fn what_stands_beside_is_probed_as_often_as_the_path_in_use_and_nobody_when_idle() {
    let mut story = both();
    let mut probes = [0; 4];
    let end = story.now + Duration::from_secs(30);
    while story.now < end {
        story.step(|peer, action, now| {
            if let Action::Probe { path } = action {
                probes[path.0 as usize] += 1;
                peer.handle_answer(*path, Duration::from_millis(30), now);
            }
        });
        story.peer.handle_traffic(story.now);
    }
    assert!(probes[2] >= 28 && probes[3] >= 28 && probes[1] <= 8, "{probes:?}");
}

#[test]
fn where_no_tcp_passes_a_second_quic_connection_stands_beside_and_takes_over_when_the_first_dies() {
    let mut story = Story::settled([(2, DIRECT_V4, 30)]);
    assert_eq!(story.used(), (Some(2), Some(2)));
    let changes = story.changes.len();
    open(&mut story, 3, DIRECT_V4);
    story.run(Duration::from_secs(20), |_, _| Some(30));
    assert_eq!(story.used(), (Some(2), Some(3)));
    assert_eq!(verdict(&story, 3), Verdict::Rejected(Rule::Beside));
    story.run(Duration::from_secs(3), |path, _| (path != 2).then_some(30));
    assert_eq!((story.used(), story.changes.len()), ((Some(3), Some(3)), changes));
}

#[test]
fn a_tcp_connection_is_no_twin_of_a_quic_connection() {
    let mut story = both();
    story.run(Duration::from_secs(60), |_, _| Some(30));
    assert!(story.closed.is_empty());
    let moved = |(_, event): &(_, Event)| matches!(event, Event::PathChanged { from: Some(_), .. });
    assert_eq!(story.changes.iter().filter(|change| moved(change)).count(), 1);
}
