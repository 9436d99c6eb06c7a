//! The life of the paths to one peer, told as events on a clock that the test owns.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test needs some first instant")]

use std::time::{Duration, Instant};

use peerup_path::{Action, Event, Opened, PeerPaths, Reason, Role};
use peerup_types::{CarrierKind, Family, Multiaddr, PathClass, PathId, PathKind, PeerId};
use proptest::prelude::*;

const RELAYED: PathKind =
    PathKind { class: PathClass::Relay, family: Family::Ipv4, carrier: CarrierKind::RelayStream };
const DIRECT_V4: PathKind =
    PathKind { class: PathClass::Direct, family: Family::Ipv4, carrier: CarrierKind::QuicStream };
const DIRECT_TCP: PathKind =
    PathKind { class: PathClass::Direct, family: Family::Ipv4, carrier: CarrierKind::TcpStream };
const DIRECT_V6: PathKind =
    PathKind { class: PathClass::Direct, family: Family::Ipv6, carrier: CarrierKind::QuicStream };

// Reaching

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

// Selecting

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
fn packets_move_to_a_direct_path_and_back_to_the_relay_when_it_closes() {
    let mut story = Story::with_ready([(1, RELAYED), (2, DIRECT_V4)]);
    assert_eq!(story.active(), Some(2));
    story.peer.handle_closed(PathId(2), story.now);
    assert_eq!(story.active(), Some(1));
    let changes: Vec<_> = std::iter::from_fn(|| story.peer.poll_event()).collect();
    let reasons: Vec<_> = changes.iter().map(|Event::PathChanged { reason, .. }| *reason).collect();
    assert_eq!(reasons, [Reason::FirstPath, Reason::BetterPath, Reason::PathClosed]);
}

#[test]
fn ipv6_is_preferred_to_ipv4_and_a_relay_never_replaces_a_direct_path() {
    let story = Story::with_ready([(1, DIRECT_V4), (2, DIRECT_V6), (3, RELAYED)]);
    assert_eq!(story.active(), Some(2));
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

// Liveness

#[test]
fn a_silent_direct_path_gives_way_to_the_relay_within_four_seconds() {
    let mut story = Story::with_ready([(1, RELAYED), (2, DIRECT_V4)]);
    let cut = story.now;
    while story.active() == Some(2) {
        story.peer.handle_traffic(story.now);
        story.step(|peer, action, now| {
            if let Action::Probe { path: PathId(1) } = action {
                peer.handle_answer(PathId(1), Duration::from_millis(40), now);
            }
        });
    }
    assert_eq!(story.active(), Some(1));
    assert!(story.now - cut <= Duration::from_secs(4), "{:?}", story.now - cut);
}

#[test]
fn when_several_paths_die_at_once_packets_go_straight_to_the_one_that_answers() {
    let mut story = Story::with_ready([(1, RELAYED), (2, DIRECT_V4), (3, DIRECT_TCP)]);
    story.switches();
    let cut = story.now;
    while story.active() != Some(1) {
        story.peer.handle_traffic(story.now);
        story.step(|peer, action, now| {
            if let Action::Probe { path: PathId(1) } = action {
                peer.handle_answer(PathId(1), Duration::from_millis(40), now);
            }
        });
    }
    assert!(story.now - cut <= Duration::from_secs(4), "{:?}", story.now - cut);
    assert_eq!(story.switches(), 1);
}

#[test]
fn answers_that_a_stalled_stream_held_back_do_not_lift_a_suspicion() {
    let mut story = Story::with_ready([(1, RELAYED), (2, DIRECT_V4)]);
    while story.active() == Some(2) {
        story.peer.handle_traffic(story.now);
        story.step(|peer, action, now| {
            if let Action::Probe { path: PathId(1) } = action {
                peer.handle_answer(PathId(1), Duration::from_millis(40), now);
            }
        });
    }
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
fn packets_leave_a_retired_path_for_its_twin_even_if_a_better_path_has_to_wait() {
    let mut story = Story::with_ready([(1, RELAYED), (2, RELAYED)]);
    for path in 3..6 {
        story.open(path, DIRECT_V4);
        story.peer.handle_ready(PathId(path), story.now);
        story.peer.handle_closed(PathId(path), story.now);
    }
    story.open(9, DIRECT_V4);
    story.peer.handle_ready(PathId(9), story.now);
    assert_eq!(story.active(), Some(1));
    story.peer.handle_retired(PathId(1), story.now);
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
    assert_eq!((story.active(), story.switches()), (Some(2), 0));
}

#[test]
fn a_path_that_comes_and_goes_does_not_take_the_packets_with_it_every_time() {
    let mut story = Story::with_ready([(1, RELAYED)]);
    story.switches();
    let start = story.now;
    for path in 2..30 {
        story.open(path, DIRECT_V4);
        story.peer.handle_ready(PathId(path), story.now);
        story.peer.handle_closed(PathId(path), story.now + Duration::from_secs(1));
        story.now += Duration::from_secs(2);
    }
    assert!(story.now - start < Duration::from_secs(60));
    assert_eq!(story.switches(), 4);
    story.open(30, DIRECT_V4);
    story.peer.handle_ready(PathId(30), story.now);
    assert_eq!(story.active(), Some(1));
    while story.active() == Some(1) {
        story.step(|peer, action, now| {
            if let Action::Probe { path } = action {
                peer.handle_answer(*path, Duration::from_millis(40), now);
            }
        });
    }
    assert!(story.now - start <= Duration::from_secs(63), "{:?}", story.now - start);
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

// Punching

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
    story.open(2, DIRECT_V4);
    story.peer.handle_ready(PathId(2), story.now);
    story.drain();
    let end = story.now + Duration::from_secs(300);
    while story.now < end && story.peer.poll_timeout().is_some() {
        story.step(|peer, action, now| match action {
            Action::RequestPunch { .. } => panic!("punched although a direct path is there"),
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
    story.peer.handle_punch_request(PathId(1), 9, &offered, story.now);
    assert_eq!(story.drain(), [Action::ReplyPunch { path: PathId(1), attempt: 9 }]);
    story.advance(Duration::from_millis(40));
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
    story.peer.handle_punch_reply(0, &addresses(["/ip4/198.51.100.7/tcp/22"]), story.now);
    assert_eq!(story.drain(), []);
}

#[test]
fn a_peer_that_asks_for_one_punch_after_another_is_answered_once_in_a_while() {
    let mut story = Story::with_ready([(1, RELAYED)]);
    let offered = addresses(["/ip4/198.51.100.7/udp/4001/quic-v1"]);
    for attempt in 0..50 {
        story.peer.handle_punch_request(PathId(1), attempt, &offered, story.now);
        story.now += Duration::from_millis(10);
    }
    let answers = story.drain().iter().filter(|action| matches!(action, Action::ReplyPunch { .. })).count();
    assert_eq!(answers, 1);
}

#[test]
fn only_the_first_answer_to_a_punch_request_starts_dials() {
    let mut story = Story::with_ready([(1, RELAYED)]);
    let attempt = loop {
        story.now = story.peer.poll_timeout().expect("a timeout").max(story.now);
        let asked = story.run_timeout().into_iter().find_map(|action| match action {
            Action::RequestPunch { attempt, .. } => Some(attempt),
            _ => None,
        });
        if let Some(attempt) = asked {
            break attempt;
        }
    };
    let offered = addresses(["/ip4/198.51.100.7/udp/4001/quic-v1"]);
    story.peer.handle_punch_reply(attempt, &offered, story.now);
    assert_eq!(story.drain().len(), 1);
    story.peer.handle_punch_reply(attempt, &offered, story.now);
    assert_eq!(story.drain(), []);
}

// Twins

#[test]
fn of_two_connections_of_one_kind_each_side_closes_only_what_it_should() {
    let (small, large) = ordered_peers();
    for (own, peer, closes) in [(small, large, false), (large, small, true)] {
        let mut story = Story::between(own, peer);
        story.open_as(1, DIRECT_V4, true);
        story.open_as(2, DIRECT_V4, false);
        story.peer.handle_ready(PathId(1), story.now);
        story.peer.handle_ready(PathId(2), story.now);
        story.drain();
        story.advance(Duration::from_secs(4));
        let announced = story.drain();
        assert_eq!(announced.contains(&Action::Retire { path: PathId(1) }), closes);
        assert!(!announced.contains(&Action::Close { path: PathId(1) }), "in-flight packets need time");
        assert_eq!(story.active(), Some(if closes { 2 } else { 1 }));
        story.advance(Duration::from_secs(3));
        assert_eq!(story.drain().contains(&Action::Close { path: PathId(1) }), closes);
    }
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

proptest! {
    #[test]
    fn the_active_path_is_a_best_ready_one_unless_there_were_many_switches(
        steps in prop::collection::vec((0u8..3, 0u64..8, 0usize..3), 1..80),
    ) {
        let kinds = [RELAYED, DIRECT_V4, DIRECT_V6];
        let mut story = Story::new();
        let mut switches = 0;
        for (what, path, kind) in steps {
            match what {
                0 => story.open(path, kinds[kind]),
                1 => story.peer.handle_ready(PathId(path), story.now),
                _ => story.peer.handle_closed(PathId(path), story.now),
            }
            story.drain();
            switches += story.switches();
            let best = story.peer.ready().first().map(|(opened, _)| opened.kind);
            let active = story.peer.active().map(|(opened, ..)| opened.kind);
            prop_assert_eq!(active.is_some(), best.is_some());
            prop_assert!(active == best || switches >= 3, "{active:?} {best:?}");
        }
    }

    #[test]
    fn the_machine_never_asks_to_be_woken_in_the_past_twice(steps in prop::collection::vec((0u8..3, 0u64..4), 1..40)) {
        let mut story = Story::new();
        for (what, path) in steps {
            match what {
                0 => story.open(path, RELAYED),
                1 => story.peer.handle_ready(PathId(path), story.now),
                _ => story.peer.handle_traffic(story.now),
            }
            for _ in 0..30 {
                let Some(next) = story.peer.poll_timeout() else { break };
                story.now = story.now.max(next);
                story.run_timeout();
                if let Some(after) = story.peer.poll_timeout() {
                    prop_assert!(after > story.now, "spins");
                }
            }
        }
    }
}

struct Story {
    peer: PeerPaths,
    id: PeerId,
    now: Instant,
}

impl Story {
    fn new() -> Self {
        let (small, large) = ordered_peers();
        Self::between(small, large)
    }

    fn between(own: PeerId, id: PeerId) -> Self {
        let now = Instant::now();
        Self { peer: PeerPaths::new(own, id, 42, now), id, now }
    }

    fn with_ready<const N: usize>(paths: [(u64, PathKind); N]) -> Self {
        let mut story = Self::new();
        for (path, kind) in paths {
            story.open(path, kind);
            story.peer.handle_ready(PathId(path), story.now);
        }
        story.drain();
        story
    }

    fn open(&mut self, path: u64, kind: PathKind) {
        self.open_as(path, kind, true);
    }

    fn open_as(&mut self, path: u64, kind: PathKind, outbound: bool) {
        let remote = "/ip4/198.51.100.1/udp/4001/quic-v1".parse().unwrap();
        self.peer.handle_opened(Opened { path: PathId(path), kind, remote, relay: None, outbound }, self.now);
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.peer.handle_timeout(self.now);
    }

    fn run_timeout(&mut self) -> Vec<Action> {
        self.peer.handle_timeout(self.now);
        self.drain()
    }

    /// Advances to the next timeout and shows each action to `react`.
    fn step(&mut self, mut react: impl FnMut(&mut PeerPaths, &Action, Instant)) {
        self.now = self.peer.poll_timeout().expect("a timeout").max(self.now);
        for action in self.run_timeout() {
            react(&mut self.peer, &action, self.now);
        }
    }

    fn drain(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.peer.poll_action()).collect()
    }

    /// How often packets moved to another kind of path since the last call.
    fn switches(&mut self) -> usize {
        let moved =
            |Event::PathChanged { from, to, .. }: &Event| from.is_some() && to.is_some() && from != to;
        std::iter::from_fn(|| self.peer.poll_event()).filter(moved).count()
    }

    fn active(&self) -> Option<u64> {
        self.peer.active().map(|(opened, ..)| opened.path.0)
    }

    fn uses(&self, path: Option<u64>) -> Action {
        Action::Use { peer: self.id, path: path.map(PathId) }
    }
}

fn ordered_peers() -> (PeerId, PeerId) {
    let (a, b) = (PeerId::random(), PeerId::random());
    if a.to_bytes() < b.to_bytes() { (a, b) } else { (b, a) }
}

fn circuit(relay: u8) -> Multiaddr {
    format!("/ip4/203.0.113.{relay}/tcp/7777/p2p/{}/p2p-circuit", PeerId::random()).parse().unwrap()
}

fn addresses<const N: usize>(texts: [&str; N]) -> Vec<Multiaddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}
