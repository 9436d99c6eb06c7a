//! Random troubles for a pair that always talks: the rules that hold whatever happens.

use std::time::Duration;

use peerup_sim::{HostId, NatConfig, PathChange, Stop, World};

use crate::{MINUTE, Pair, SECOND, with_seeds};

const STEP: Duration = Duration::from_millis(250);
/// A path may have died this long ago without anybody having noticed.
const DETECTION: Duration = Duration::from_secs(5);
const SWITCHES_PER_MINUTE: usize = 4;

#[test]
fn no_peer_switches_more_than_four_times_a_minute_unless_it_leaves_a_dead_path() {
    with_seeds(100..115, |seed| {
        let mut pair = troubled(seed);
        for _ in 0..4 * 60 * 4 {
            trouble(&mut pair);
            pair.world.run(STEP);
        }
        for host in [pair.a, pair.b] {
            let switches = switches(&pair.world, host);
            let crowded = switches.windows(SWITCHES_PER_MINUTE + 1).find(|few| {
                let [first, .., last] = few else { return false };
                let mut fresh = pair.world.host(host).tally.fresh_starts.iter();
                let forgotten = fresh.any(|at| (first.at..=last.at).contains(at));
                last.reason.is_voluntary() && last.at.duration_since(first.at) < MINUTE && !forgotten
            });
            assert!(crowded.is_none(), "{}: {crowded:?}", pair.world.host(host).name);
        }
    });
}

#[test]
fn a_live_direct_path_is_not_left_for_a_relay() {
    with_seeds(200..210, |seed| {
        let mut pair = troubled(seed);
        for _ in 0..4 * 60 * 4 {
            trouble(&mut pair);
            pair.world.run(STEP);
            // A line that came back a moment ago may have been given up just before.
            if pair.world.calm() > DETECTION {
                let left = pair.world.left_live_direct(STEP);
                assert!(!left, "a working direct path was left for a relay");
            }
        }
    });
}

#[test]
fn a_dead_path_is_left_within_five_seconds_where_another_one_is_alive() {
    with_seeds(300..310, |seed| {
        let mut pair = troubled(seed);
        let mut since = [Duration::ZERO; 2];
        for _ in 0..4 * 60 * 4 {
            trouble(&mut pair);
            pair.world.run(STEP);
            for (clinging, [from, to]) in since.iter_mut().zip([[pair.a, pair.b], [pair.b, pair.a]]) {
                let dead = pair.world.clings_to_dead_path(from, to);
                *clinging = if dead { *clinging + STEP } else { Duration::ZERO };
                assert!(*clinging <= DETECTION, "packets on a dead path for {clinging:?}");
            }
        }
    });
}

#[test]
fn nothing_dead_stands_beside_reliable_frames_for_long() {
    with_seeds(500..510, |seed| {
        let mut pair = troubled(seed);
        let mut since = [Duration::ZERO; 2];
        for _ in 0..4 * 60 * 4 {
            match pair.world.random(0..120) {
                0 => pair.world.set_udp(pair.world.site(pair.b), false),
                1..=3 => pair.world.set_udp(pair.world.site(pair.b), true),
                _ => trouble(&mut pair),
            }
            pair.world.run(STEP);
            for (kept, [from, to]) in since.iter_mut().zip([[pair.a, pair.b], [pair.b, pair.a]]) {
                let awake = pair.world.host(from).is_awake();
                let dead = awake && pair.world.keeps_dead_beside(from, to);
                *kept = if dead { *kept + STEP } else { Duration::ZERO };
                assert!(*kept <= DETECTION, "a dead connection stood there for {kept:?}");
            }
        }
    });
}

#[test]
fn when_troubles_end_the_best_path_comes_back() {
    with_seeds(400..410, |seed| {
        let mut pair = troubled(seed);
        for _ in 0..2 * 60 * 4 {
            trouble(&mut pair);
            pair.world.run(STEP);
        }
        pair.world.heal(pair.a, pair.b);
        for host in [pair.a, pair.b, pair.relay] {
            pair.world.heal(host, pair.relay);
            pair.world.resume(host);
        }
        pair.world.start_all();
        pair.until_direct(3 * MINUTE);
    });
}

fn troubled(seed: u64) -> Pair {
    let kinds = [NatConfig::HOME, NatConfig::SHIFTING];
    let mut pair = Pair::behind(seed, kinds[seed as usize % 2], kinds[seed as usize / 2 % 2]);
    pair.world.run(20 * SECOND);
    pair.traffic(SECOND / 10, 20 * MINUTE);
    pair
}

/// Now and then something breaks or is mended.
fn trouble(pair: &mut Pair) {
    let Pair { ref mut world, relay, a, b } = *pair;
    if !world.chance(0.05) {
        return;
    }
    match world.random(0..12) {
        0 | 1 => world.cut(a, b),
        2..=4 => world.heal(a, b),
        5 => world.cut(a, relay),
        6 | 7 => world.heal(a, relay),
        8 => world.reboot_router(world.site(b)),
        9 => restart(world, relay, Stop::Kill),
        10 => world.suspend(b),
        _ => world.resume(b),
    }
}

fn restart(world: &mut World, host: HostId, how: Stop) {
    world.stop(host, how);
    world.start(host);
}

/// When `host` moved packets from one kind of path to another.
fn switches(world: &World, host: HostId) -> Vec<PathChange> {
    let moved =
        |change: &&PathChange| change.from.is_some() && change.to.is_some() && change.from != change.to;
    world.host(host).tally.path_changes.iter().filter(moved).cloned().collect()
}
