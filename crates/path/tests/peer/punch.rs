//! Hole punching.

use std::time::Duration;

use peerup_path::{Action, Role};
use peerup_types::{NatMapping, PathId};

use crate::{DIRECT_V4, DIRECT_V6, RELAYED, Story, TCP_V6, addresses, ordered_peers};

/// How much later the larger peer asks.
const POLITENESS: Duration = Duration::from_millis(700);

#[test]
fn a_relayed_peer_is_punched_again_and_again_until_a_direct_path_is_ready() {
    let mut story = Story::with_ready([(1, RELAYED)]);
    let mut punches = 0;
    for _ in 0..200 {
        story.step(|peer, action, now| match action {
            Action::RequestPunch { .. } => punches += 1,
            Action::Probe { path } => peer.handle_answer(*path, Duration::from_millis(20), now),
            _ => {}
        });
    }
    assert!(punches > 5, "{punches}");
    for (path, kind) in [(2, DIRECT_V6), (3, TCP_V6)] {
        story.open(path, kind);
        story.peer.handle_ready(PathId(path), story.now);
    }
    story.drain();
    let end = story.now + Duration::from_secs(300);
    while story.now < end && story.peer.poll_timeout().is_some() {
        story.step(|peer, action, now| match action {
            Action::RequestPunch { .. } => panic!("punched although everything is there"),
            Action::Probe { path } => peer.handle_answer(*path, Duration::from_millis(20), now),
            _ => {}
        });
    }
}

#[test]
fn a_punch_request_is_answered_and_dialed_when_the_answer_has_arrived() {
    let mut story = Story::with_ready([(1, RELAYED)]);
    story.peer.handle_answer(PathId(1), Duration::from_millis(80), story.now);
    story.drain();
    let offered = addresses(["/ip4/198.51.100.7/udp/4001/quic-v1", "/ip4/198.51.100.7/tcp/4001"]);
    story.peer.handle_punch_request(PathId(1), 9, &offered, NatMapping::Unknown, story.now);
    assert_eq!(story.drain(), [Action::ReplyPunch { path: PathId(1), attempt: 9 }]);
    story.advance(Duration::from_millis(39));
    assert!(!story.drain().iter().any(|action| matches!(action, Action::Dial { .. })));
    story.advance(Duration::from_millis(251));
    let dials = story.drain();
    let roles = dials.iter().filter_map(|a| match a {
        Action::Dial { role, .. } => Some(*role),
        _ => None,
    });
    assert_eq!(roles.collect::<Vec<_>>(), [Role::Dialer, Role::Listener]);
}

#[test]
fn an_answer_that_was_not_asked_for_starts_no_dials() {
    let mut story = Story::with_ready([]);
    story.peer.handle_punch_reply(
        0,
        &addresses(["/ip4/198.51.100.7/tcp/22"]),
        NatMapping::Unknown,
        story.now,
    );
    assert_eq!(story.drain(), []);
}

#[test]
fn a_peer_that_asks_for_one_punch_after_another_is_answered_once_in_a_while() {
    let mut story = Story::with_ready([(1, RELAYED)]);
    let offered = addresses(["/ip4/198.51.100.7/udp/4001/quic-v1"]);
    for attempt in 0..50 {
        story.peer.handle_punch_request(PathId(1), attempt, &offered, NatMapping::Unknown, story.now);
        story.now += Duration::from_millis(10);
    }
    let answers = story.drain().iter().filter(|action| matches!(action, Action::ReplyPunch { .. })).count();
    assert_eq!(answers, 1);
}

/// Runs until the punch is asked for; says which attempt it is.
fn asked(story: &mut Story) -> u32 {
    loop {
        story.now = story.peer.poll_timeout().expect("a timeout").max(story.now);
        let asked = story.run_timeout().into_iter().find_map(|action| match action {
            Action::RequestPunch { attempt, .. } => Some(attempt),
            _ => None,
        });
        if let Some(attempt) = asked {
            return attempt;
        }
    }
}

/// The roles of TCP dials in the next quarter of a second.
fn tcp_roles(story: &mut Story) -> Vec<Role> {
    story.advance(Duration::from_millis(250));
    let roles = story.drain().into_iter().filter_map(|action| match action {
        Action::Dial { role, .. } => Some(role),
        _ => None,
    });
    roles.collect()
}

#[test]
fn of_two_requests_that_cross_the_one_of_the_smaller_peer_counts_for_both() {
    let offered = addresses(["/ip4/198.51.100.7/tcp/4001"]);
    let (small, large) = ordered_peers();
    for (own, other, role) in [(small, large, Role::Dialer), (large, small, Role::Listener)] {
        let mut story = Story::between(own, other);
        story.open(1, RELAYED);
        story.peer.handle_ready(PathId(1), story.now);
        let attempt = asked(&mut story);
        story.now += Duration::from_millis(20);
        story.peer.handle_punch_request(PathId(1), 9, &offered, NatMapping::Unknown, story.now);
        story.now += Duration::from_millis(20);
        story.peer.handle_punch_reply(attempt, &offered, NatMapping::Unknown, story.now);
        assert_eq!(tcp_roles(&mut story), [role]);
    }
}

#[test]
fn a_request_on_a_path_that_is_not_ready_here_is_left_to_the_next_one() {
    let mut story = Story::new();
    story.open(1, RELAYED);
    story.drain();
    let offered = addresses(["/ip4/198.51.100.7/tcp/4001"]);
    story.peer.handle_punch_request(PathId(1), 9, &offered, NatMapping::Unknown, story.now);
    assert_eq!(story.drain(), []);
    story.peer.handle_ready(PathId(1), story.now);
    story.drain();
    story.peer.handle_punch_request(PathId(1), 10, &offered, NatMapping::Unknown, story.now);
    assert_eq!(story.drain(), [Action::ReplyPunch { path: PathId(1), attempt: 10 }]);
}

#[test]
fn the_request_of_the_other_side_is_answered_where_our_own_got_lost() {
    let mut story = Story::with_ready([(1, RELAYED)]);
    asked(&mut story);
    story.now += POLITENESS;
    let offered = addresses(["/ip4/198.51.100.7/tcp/4001"]);
    story.peer.handle_punch_request(PathId(1), 9, &offered, NatMapping::Unknown, story.now);
    assert!(story.drain().contains(&Action::ReplyPunch { path: PathId(1), attempt: 9 }));
}

#[test]
fn parts_in_a_simultaneous_open_are_kept_while_dials_may_be_under_way_whoever_asks_again() {
    let mut story = Story::with_ready([(1, RELAYED)]);
    let first = addresses(["/ip4/198.51.100.7/tcp/4001"]);
    let attempt = asked(&mut story);
    story.peer.handle_punch_reply(attempt, &first, NatMapping::Unknown, story.now);
    assert_eq!(tcp_roles(&mut story), [Role::Dialer]);
    let second = addresses(["/ip4/198.51.100.7/tcp/4002"]);
    story.now += Duration::from_secs(2);
    story.peer.handle_punch_request(PathId(1), 9, &second, NatMapping::Unknown, story.now);
    assert_eq!(tcp_roles(&mut story), [Role::Dialer]);
    let third = addresses(["/ip4/198.51.100.7/tcp/4003"]);
    story.now += Duration::from_secs(7);
    story.peer.handle_punch_request(PathId(1), 10, &third, NatMapping::Unknown, story.now);
    assert_eq!(tcp_roles(&mut story), [Role::Listener]);
}

#[test]
fn a_request_that_comes_a_little_sooner_after_the_last_one_than_it_was_sent_is_answered() {
    let mut story = Story::with_ready([(1, RELAYED)]);
    let offered = addresses(["/ip4/198.51.100.7/udp/4001/quic-v1"]);
    for attempt in 0..3 {
        story.peer.handle_punch_request(PathId(1), attempt, &offered, NatMapping::Unknown, story.now);
        assert!(story.drain().contains(&Action::ReplyPunch { path: PathId(1), attempt }));
        story.now += Duration::from_millis(1_990);
    }
}

#[test]
fn an_address_that_is_being_dialed_is_not_dialed_again() {
    let mut story = Story::with_ready([(1, RELAYED)]);
    let offered = addresses(["/ip4/198.51.100.7/tcp/4001"]);
    let mut dials = 0;
    for attempt in 0..5 {
        story.peer.handle_punch_request(PathId(1), attempt, &offered, NatMapping::Unknown, story.now);
        dials += tcp_roles(&mut story).len();
        story.now += Duration::from_secs(1);
    }
    assert_eq!(dials, 1);
    let address = offered[0].clone();
    story.peer.handle_dial_failed(address, "refused".to_owned(), story.now);
    story.peer.handle_punch_request(PathId(1), 9, &offered, NatMapping::Unknown, story.now);
    assert_eq!(tcp_roles(&mut story), [Role::Listener]);
}

#[test]
fn only_the_first_answer_to_a_punch_request_starts_dials() {
    let mut story = Story::with_ready([(1, RELAYED)]);
    let attempt = asked(&mut story);
    let offered = addresses(["/ip4/198.51.100.7/udp/4001/quic-v1"]);
    story.peer.handle_punch_reply(attempt, &offered, NatMapping::Unknown, story.now);
    story.advance(Duration::from_millis(50));
    assert_eq!(story.drain().iter().filter(|action| matches!(action, Action::Dial { .. })).count(), 1);
    story.peer.handle_punch_reply(attempt, &offered, NatMapping::Unknown, story.now);
    story.advance(Duration::from_millis(50));
    assert!(!story.drain().iter().any(|action| matches!(action, Action::Dial { .. })));
}

#[test]
fn addresses_are_dialed_one_at_a_time_what_needs_no_nat_first_and_tcp_last() {
    let mut story = Story::with_ready([(1, RELAYED)]);
    let offered = addresses([
        "/ip4/198.51.100.7/tcp/4001",
        "/ip4/198.51.100.7/udp/4001/quic-v1",
        "/ip6/2001:db8::7/udp/4001/quic-v1",
        "/ip4/192.168.1.7/udp/4001/quic-v1",
    ]);
    story.peer.handle_punch_request(PathId(1), 9, &offered, NatMapping::Unknown, story.now);
    let begin = story.now;
    let mut dialed = Vec::new();
    while story.now < begin + Duration::from_millis(400) {
        story.now += Duration::from_millis(10);
        for action in story.run_timeout() {
            if let Action::Dial { address, .. } = action {
                dialed.push(((story.now - begin).as_millis(), address.to_string()));
            }
        }
    }
    let expected = [
        (10, "/ip6/2001:db8::7/udp/4001/quic-v1"),
        (10, "/ip4/192.168.1.7/udp/4001/quic-v1"),
        (50, "/ip4/198.51.100.7/udp/4001/quic-v1"),
        (100, "/ip4/198.51.100.7/tcp/4001"),
    ];
    assert_eq!(dialed, expected.map(|(at, address)| (at, address.to_owned())));
}

#[test]
fn kinds_of_path_that_are_there_by_then_are_not_dialed() {
    let mut story = Story::with_ready([(1, RELAYED)]);
    let offered = addresses(["/ip4/198.51.100.7/udp/4001/quic-v1", "/ip4/198.51.100.7/tcp/4001"]);
    story.peer.handle_punch_request(PathId(1), 9, &offered, NatMapping::Unknown, story.now);
    story.open_as(2, DIRECT_V4, false);
    story.peer.handle_ready(PathId(2), story.now);
    story.drain();
    story.advance(Duration::from_millis(300));
    let dials: Vec<_> =
        story.drain().into_iter().filter(|action| matches!(action, Action::Dial { .. })).collect();
    assert_eq!(dials.len(), 1, "{dials:?}");
}

/// Answers every punch request with this offer for a while, and counts requests and dials.
fn punched(
    own: NatMapping,
    theirs: NatMapping,
    offered: &[&str],
    duration: Duration,
) -> (usize, Vec<String>) {
    let mut story = Story::with_ready([(1, RELAYED)]);
    story.peer.handle_mapping(own, story.now);
    let offered: Vec<_> = offered.iter().map(|text| text.parse().unwrap()).collect();
    let end = story.now + duration;
    let (mut requests, mut dials) = (0, Vec::new());
    while story.now < end {
        story.step(|peer, action, now| match action {
            Action::RequestPunch { attempt, .. } => {
                requests += 1;
                peer.handle_punch_reply(*attempt, &offered, theirs, now);
            }
            Action::Probe { path } => peer.handle_answer(*path, Duration::from_millis(20), now),
            Action::Dial { address, .. } => dials.push(address.to_string()),
            _ => {}
        });
        story.peer.handle_traffic(story.now);
    }
    (requests, dials)
}

const MAPPED: &str = "/ip4/198.51.100.7/udp/20000/quic-v1";
const MAPPED_TOO: &str = "/ip4/198.51.100.7/udp/20007/quic-v1";
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn two_symmetric_nats_are_not_hammered_but_what_needs_no_nat_is_tried() {
    let symmetric = NatMapping::AddressAndPortDependent;
    let lan = "/ip4/192.168.1.7/udp/4001/quic-v1";
    let (requests, dials) = punched(symmetric, symmetric, &[MAPPED, lan], HOUR);
    assert!((4..=9).contains(&requests), "{requests} attempts in an hour");
    assert!(dials.iter().all(|dial| dial == lan), "{dials:?}");
}

#[test]
fn ports_of_one_symmetric_nat_are_guessed_a_few_times_and_then_seldom_tried() {
    let (requests, dials) = punched(
        NatMapping::EndpointIndependent,
        NatMapping::AddressAndPortDependent,
        &[MAPPED, MAPPED_TOO],
        HOUR,
    );
    assert!(dials.iter().any(|dial| dial == "/ip4/198.51.100.7/udp/20014/quic-v1"), "{dials:?}");
    let guesses = dials.iter().filter(|dial| **dial != MAPPED && **dial != MAPPED_TOO).count();
    assert_eq!(guesses, 30);
    assert!((8..=15).contains(&requests), "{requests} attempts in an hour");
}

#[test]
fn the_symmetric_side_itself_dials_what_it_is_offered_and_keeps_at_it() {
    let (requests, dials) =
        punched(NatMapping::AddressAndPortDependent, NatMapping::EndpointIndependent, &[MAPPED], HOUR);
    assert!(requests >= 45, "{requests} attempts in an hour");
    assert!(dials.iter().all(|dial| dial == MAPPED));
}

#[test]
fn a_nat_that_turns_out_well_behaved_is_punched_at_once() {
    let symmetric = NatMapping::AddressAndPortDependent;
    let mut story = Story::with_ready([(1, RELAYED)]);
    story.peer.handle_mapping(symmetric, story.now);
    let offered = addresses([MAPPED]);
    story.peer.handle_punch_request(PathId(1), 1, &offered, symmetric, story.now);
    story.advance(Duration::from_secs(60));
    story.drain();
    story.peer.handle_mapping(NatMapping::EndpointIndependent, story.now);
    let asked = story.run_timeout();
    assert!(asked.iter().any(|action| matches!(action, Action::RequestPunch { .. })), "{asked:?}");
}
