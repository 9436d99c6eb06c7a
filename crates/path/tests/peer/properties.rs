//! What holds whatever happens.

use std::time::{Duration, Instant};

use peerup_path::{Action, Event, Reason, Switch};
use peerup_types::{PathClass, PathId};
use proptest::prelude::*;

use crate::{DIRECT_TCP, DIRECT_V4, DIRECT_V6, PEER_RELAYED, RELAYED, Story, TCP_V6, is_switch};

const MINUTE: Duration = Duration::from_secs(60);
/// From the last answer on the path in use to the move away from it.
const FAILOVER: Duration = Duration::from_millis(2100);
/// What stands beside is probed once a second, and the test's traffic does not tell of silence on it.
const LATER: Duration = Duration::from_millis(150);
/// After this time nothing that happened before is held against a path: the minute of the switches, and the answers
/// that a path with many strikes has to give.
const FORGIVEN: Duration = Duration::from_secs(60 + 40);

/// Minutes of virtual time each.
const CASES: u32 = 64;

/// For how many milliseconds which paths answer: bit 0 the relay, bit 1 IPv4, bit 2 IPv6.
type Steps = Vec<(u64, u8)>;

fn any_steps() -> impl Strategy<Value = Steps> {
    let step = prop_oneof![(100u64..3000, 0u8..8), (1000u64..20_000, 0u8..8), (1000u64..9000, 5u8..8)];
    prop::collection::vec(step, 1..40)
}

/// Since when each path has been answering, or has not, at a time since the start.
fn since(steps: &Steps, path: u64, at: Duration) -> (bool, Duration) {
    let bit = 1 << (path - 1);
    let (mut answers, mut since, mut end) = (true, Duration::ZERO, Duration::ZERO);
    for (millis, mask) in steps {
        if end > at {
            break;
        }
        if (mask & bit != 0) != answers {
            answers = !answers;
            since = end;
        }
        end += Duration::from_millis(*millis);
    }
    (answers, at - since)
}

/// The same with bit 3 for a peer that relays.
fn any_four_way_steps() -> impl Strategy<Value = Steps> {
    let step = prop_oneof![(100u64..3000, 0u8..16), (1000u64..20_000, 0u8..16), (1000u64..6000, 1u8..16)];
    prop::collection::vec(step, 1..40)
}

fn over_four_ways(steps: &Steps) -> (Story, Instant) {
    let kinds = [(1, RELAYED, 60), (2, DIRECT_V4, 30), (3, DIRECT_V6, 30), (4, PEER_RELAYED, 60)];
    let mut story = Story::settled(kinds);
    story.run(FORGIVEN, |_, _| Some(40));
    let begin = story.now;
    story.changes.clear();
    let total = steps.iter().map(|(millis, _)| Duration::from_millis(*millis)).sum();
    story.run(total, |path, at| {
        since(steps, path, at).0.then_some(if path == 2 || path == 3 { 30 } else { 60 })
    });
    (story, begin)
}

/// The same with bit 3 for TCP over IPv4 and bit 4 for TCP over IPv6.
fn any_carrier_steps() -> impl Strategy<Value = Steps> {
    let step = prop_oneof![(100u64..3000, 0u8..32), (1000u64..20_000, 0u8..32), (1000u64..9000, 20u8..32)];
    prop::collection::vec(step, 1..40)
}

fn with_carriers(steps: &Steps) -> (Story, Instant) {
    let kinds =
        [(1, RELAYED, 60), (2, DIRECT_V4, 30), (3, DIRECT_V6, 30), (4, DIRECT_TCP, 30), (5, TCP_V6, 30)];
    let mut story = Story::settled(kinds);
    story.run(FORGIVEN, |_, _| Some(40));
    let begin = story.now;
    story.changes.clear();
    let total = steps.iter().map(|(millis, _)| Duration::from_millis(*millis)).sum();
    let rtt = |path| if path == 1 { 60 } else { 30 };
    story.run(total, |path, at| since(steps, path, at).0.then(|| rtt(path)));
    (story, begin)
}

fn troubled(steps: &Steps) -> (Story, Instant) {
    let mut story = Story::settled([(1, RELAYED, 60), (2, DIRECT_V4, 30), (3, DIRECT_V6, 30)]);
    story.run(FORGIVEN, |_, _| Some(40));
    let begin = story.now;
    story.changes.clear();
    let total = steps.iter().map(|(millis, _)| Duration::from_millis(*millis)).sum();
    let rtt = |path| if path == 1 { 60 } else { 30 };
    story.run(total, |path, at| since(steps, path, at).0.then(|| rtt(path)));
    (story, begin)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn no_sequence_of_answers_and_silence_brings_more_than_four_switches_a_minute(steps in any_steps()) {
        let (story, _) = troubled(&steps);
        // A path that was silent for so long that it was closed has to be left.
        let closed = |at: &Instant| story.closed.values().any(|closed| closed == at);
        let switches = story.changes.iter().filter(|(at, change)| is_switch(change) && !closed(at));
        let switches: Vec<_> = switches.collect();
        for few in switches.windows(5) {
            prop_assert!(few[4].0 - few[0].0 >= MINUTE, "{few:?}");
        }
    }

    #[test]
    fn with_four_ways_a_fifth_switch_in_a_minute_leaves_a_path_that_died_and_there_is_no_sixth(
        steps in any_four_way_steps()
    ) {
        let (story, _) = over_four_ways(&steps);
        let closed = |at: &Instant| story.closed.values().any(|closed| closed == at);
        let switches = story.changes.iter().filter(|(at, change)| is_switch(change) && !closed(at));
        let switches: Vec<_> = switches.collect();
        for few in switches.windows(5).filter(|few| few[4].0 - few[0].0 < MINUTE) {
            let Event::PathChanged { reason, .. } = few[4].1;
            prop_assert!(!reason.is_voluntary(), "{few:?}");
        }
        for few in switches.windows(6) {
            prop_assert!(few[5].0 - few[0].0 >= MINUTE, "{few:?}");
        }
    }

    #[test]
    fn a_dead_path_is_left_while_one_is_alive_and_a_live_direct_path_is_not_left_for_a_relay(steps in any_steps()) {
        let (story, begin) = troubled(&steps);
        let mut active = 3;
        let mut changes = story.changes.iter().peekable();
        let total: u64 = steps.iter().map(|(millis, _)| millis).sum();
        for at in (0..total).step_by(50).map(Duration::from_millis) {
            while let Some((when, Event::PathChanged { to, reason, .. })) =
                changes.next_if(|(when, _)| *when - begin <= at)
            {
                // Everything was silent for so long that it was closed.
                let Some(to) = to else { return Ok(()) };
                active = match (to.class, to.family) {
                    (PathClass::Direct, peerup_types::Family::Ipv6) => 3,
                    (PathClass::Direct, peerup_types::Family::Ipv4) => 2,
                    (PathClass::PeerRelay | PathClass::Relay, _) => 1,
                };
                let alive = |path| {
                    let (answers, long) = since(&steps, path, *when - begin);
                    let closed = story.closed.get(&path).is_some_and(|at| at <= when);
                    answers && long > FORGIVEN && !closed
                };
                prop_assert!(active != 1 || !(alive(2) || alive(3)), "at {:?}: {reason:?}", *when - begin);
            }
            let (answers, long) = since(&steps, active, at);
            let refuge = (1..=3).any(|path| {
                let (answers, long) = since(&steps, path, at);
                let closed = story.closed.get(&path).is_some_and(|closed| *closed <= begin + at);
                path != active && answers && long > FORGIVEN && !closed
            });
            prop_assert!(answers || long <= FAILOVER || !refuge, "on dead path {active} at {at:?}");
        }
    }

    #[test]
    fn carriers_are_not_changed_for_gain_more_than_twice_a_minute_and_the_limit_on_switches_holds_with_them(
        steps in any_carrier_steps()
    ) {
        let (story, begin) = with_carriers(&steps);
        let closed = |at: &Instant| story.closed.values().any(|closed| closed == at);
        let switches = story.changes.iter().filter(|(at, change)| is_switch(change) && !closed(at));
        for few in switches.collect::<Vec<_>>().windows(5) {
            prop_assert!(few[4].0 - few[0].0 >= MINUTE, "{few:?}");
        }
        let explained = story.peer.explain(story.now);
        let gained = explained.history.iter().filter(|(_, switch)| switch.reason == Reason::BetterCarrier);
        let gained: Vec<_> = gained.filter(|(age, _)| *age < story.now - begin).collect();
        // Another way in between starts the count anew, and that is limited itself.
        let moves = |within: &[&(Duration, Switch)]| {
            let (first, last) = (within[0].0, within[within.len() - 1].0);
            first - last < MINUTE && !explained.history.iter().any(|(age, switch)| {
                (last..=first).contains(age) && switch.from.zip(switch.to).is_none_or(|(a, b)| !a.is_same_way(&b))
            })
        };
        prop_assert!(!gained.windows(3).any(moves), "{gained:?}");
    }

    #[test]
    fn nothing_that_fell_silent_stands_beside_reliable_frames(steps in any_carrier_steps()) {
        let (story, begin) = with_carriers(&steps);
        let total: u64 = steps.iter().map(|(millis, _)| millis).sum();
        let mut told = story.used.iter().filter(|(at, ..)| *at >= begin).peekable();
        let mut chosen = begin;
        let mut beside = story.used.iter().rfind(|(at, ..)| *at < begin).and_then(|(.., beside)| *beside);
        for at in (0..total).step_by(50).map(Duration::from_millis) {
            while let Some((when, _, other)) = told.next_if(|(when, ..)| *when - begin <= at) {
                chosen = if beside == *other { chosen } else { *when };
                beside = *other;
                prop_assert!(beside.is_none_or(|path| path == 2 || path == 3), "TCP takes no datagrams");
            }
            if let Some(path) = beside {
                let (answers, long) = since(&steps, path, at);
                let there = (begin + at).saturating_duration_since(chosen);
                let late = long.min(there) > FAILOVER + LATER;
                prop_assert!(answers || !late, "{path} is silent for {long:?} at {at:?}");
            }
        }
    }

    #[test]
    fn the_machine_never_asks_to_be_woken_in_the_past_twice(steps in prop::collection::vec((0u8..7, 0u64..4), 1..60)) {
        let mut story = Story::new();
        story.peer.handle_circuits(vec![crate::circuit(1)], story.now);
        for (what, path) in steps {
            match what {
                0 => story.open(path, if path % 2 == 0 { RELAYED } else { DIRECT_V4 }),
                1 => story.peer.handle_ready(PathId(path), story.now),
                2 => story.peer.handle_traffic(story.now),
                3 => story.peer.handle_closed(PathId(path), story.now),
                4 => story.peer.handle_answer(PathId(path), Duration::from_millis(30), story.now),
                5 => story.peer.handle_unanswered(PathId(path), story.now),
                _ => story.peer.handle_network_changed(story.now),
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

    #[test]
    fn what_is_kept_stays_small_whatever_the_peer_sends(seed in any::<u64>()) {
        let mut story = Story::with_ready([(1, RELAYED)]);
        for round in 0..200u64 {
            let port = 1024 + (seed.wrapping_add(round * 7919) % 60_000) as u16;
            let offered: Vec<_> =
                (0..40).map(|i| format!("/ip4/198.51.{i}.7/udp/{port}/quic-v1").parse().unwrap()).collect();
            let attempt = round as u32;
            story.peer.handle_punch_request(PathId(1), attempt, &offered, Default::default(), story.now);
            story.peer.handle_address(offered[0].clone(), story.now);
            story.advance(Duration::from_secs(6));
            let dials = story.drain().into_iter().filter(|action| matches!(action, Action::Dial { .. })).count();
            prop_assert!(dials <= 40, "{dials} dials in one go");
        }
        let explained = story.peer.explain(story.now);
        prop_assert!(explained.candidates.len() <= 64 && explained.history.len() <= 64);
    }
}
