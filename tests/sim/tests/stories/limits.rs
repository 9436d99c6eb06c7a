//! How soon, how often, how many: the bounds that people notice.

use std::time::Duration;

use peerup_sim::{HostId, NatConfig, Stop, World};
use peerup_types::PathClass;

use crate::{HOUR, MINUTE, Pair, SECOND, with_seeds};

#[test]
fn a_cut_is_left_for_the_relay_within_two_seconds() {
    with_seeds(1000..1040, |seed| {
        let mut pair = Pair::direct(seed);
        pair.traffic(SECOND / 50, MINUTE);
        let phase = Duration::from_millis(pair.world.random(1000..6000));
        pair.world.run(phase);
        pair.world.cut(pair.a, pair.b);
        pair.until_relayed(2 * SECOND);
    });
}

#[test]
fn a_cut_under_traffic_is_left_sooner_than_probes_alone_would() {
    with_seeds(1050..1090, |seed| {
        let mut pair = Pair::direct(seed);
        pair.traffic(SECOND / 50, MINUTE);
        let phase = Duration::from_millis(pair.world.random(10_000..12_000));
        pair.world.run(phase);
        pair.world.cut(pair.a, pair.b);
        let (a, b) = (pair.a, pair.b);
        let relayed = |world: &World| world.path(a, b).is_some_and(|kind| kind.class == PathClass::Relay);
        let took = pair.world.until("relayed", 2 * SECOND, relayed);
        assert!(took <= Duration::from_millis(1450), "{took:?}");
    });
}

#[test]
fn a_host_that_roams_is_reached_within_three_seconds() {
    with_seeds(1100..1130, |seed| {
        let mut pair = Pair::direct(seed);
        let elsewhere = pair.world.nat_site(NatConfig::SHIFTING);
        pair.traffic(SECOND / 20, MINUTE);
        let phase = Duration::from_millis(pair.world.random(500..3000));
        pair.world.run(phase);
        pair.world.roam(pair.b, elsewhere);
        pair.until_packets_pass(3 * SECOND);
    });
}

#[test]
fn another_network_ends_the_wait_for_a_peer_that_was_out_of_reach() {
    with_seeds(1130..1142, |seed| {
        let mut world = World::new(seed);
        let (here, there) = (world.public_site(), world.public_site());
        let (a, b) = (world.node("anna", here), world.node("ben", there));
        world.befriend(&[a, b]);
        world.start_all();
        world.discover(a, b);
        world.discover(b, a);
        world.until("direct", 5 * SECOND, |world| world.is_direct(a, b));
        world.cut(a, b);
        let long = Duration::from_secs(world.random(1200..1300));
        world.run(long);
        world.heal(a, b);
        let elsewhere = world.public_site();
        world.roam(b, elsewhere);
        world.until("direct again", 3 * SECOND, |world| world.is_direct(a, b));
    });
}

#[test]
fn a_host_that_sleeps_for_a_minute_is_reached_within_three_seconds() {
    with_seeds(1150..1170, |seed| {
        let mut pair = Pair::direct(seed);
        pair.traffic(SECOND / 10, 3 * MINUTE);
        pair.world.run(2 * SECOND);
        pair.world.suspend(pair.b);
        pair.world.run(MINUTE);
        pair.world.resume(pair.b);
        pair.until_packets_pass(3 * SECOND);
    });
}

#[test]
fn a_nat_that_opens_after_an_hour_of_relaying_is_used_within_a_minute() {
    with_seeds(1200..1206, |seed| {
        let closed = NatConfig::SYMMETRIC;
        let mut pair = Pair::behind(seed, closed, closed);
        pair.until_relayed(5 * SECOND);
        pair.world.run(HOUR);
        assert!(pair.world.is_relayed(pair.a, pair.b));
        let sites = [pair.world.site(pair.a), pair.world.site(pair.b)];
        sites.into_iter().for_each(|site| pair.world.reconfigure_router(site, NatConfig::HOME));
        pair.until_direct(MINUTE);
    });
}

#[test]
fn after_a_relay_restart_a_relayed_path_stands_by_beside_the_direct_one() {
    with_seeds(1250..1260, |seed| {
        let mut pair = Pair::direct(seed);
        pair.traffic(SECOND / 10, 3 * MINUTE);
        pair.world.stop(pair.relay, Stop::Kill);
        pair.world.run(2 * SECOND);
        pair.world.start(pair.relay);
        pair.world.run(MINUTE);
        assert!(pair.world.is_direct(pair.a, pair.b));
        let kinds = pair.world.kinds_of_paths(pair.a);
        assert!(kinds.iter().any(|(kind, _)| kind.class == PathClass::Relay), "{kinds:?}");
        pair.world.cut(pair.a, pair.b);
        pair.until_relayed(2 * SECOND);
    });
}

#[test]
fn two_peers_meet_with_few_connections() {
    with_seeds(1300..1320, |seed| {
        let mut pair = Pair::behind(seed, NatConfig::HOME, NatConfig::SHIFTING);
        pair.until_direct(10 * SECOND);
        pair.world.run(10 * SECOND);
        for host in [pair.a, pair.b] {
            // Two to the relay; then a circuit, QUIC from both sides, TCP.
            let opened = pair.world.opened(host);
            assert!(opened <= 7, "{opened} connections");
        }
    });
}

#[test]
fn fifty_peers_become_a_full_mesh_without_a_storm_of_dials() {
    with_seeds(1400..1401, |seed| {
        let mut world = World::new(seed);
        world.relay();
        let hosts: Vec<HostId> = (0..50)
            .map(|index| {
                let site = world.nat_site(NatConfig::HOME);
                world.node(&format!("node-{index}"), site)
            })
            .collect();
        world.befriend(&hosts);
        world.assign_addresses(&hosts);
        world.start_all();
        let all = |world: &World, holds: &dyn Fn(&World, HostId, HostId) -> bool| {
            hosts.iter().all(|a| hosts.iter().all(|b| a == b || holds(world, *a, *b)))
        };
        world.until("all connected", MINUTE, |world| all(world, &|world, a, b| world.is_connected(a, b)));
        world.until("all direct", 3 * MINUTE, |world| all(world, &|world, a, b| world.is_direct(a, b)));
        for host in &hosts {
            let most = world.most_dials(*host);
            assert!((4..=16).contains(&most), "{most} dials at once");
        }
    });
}

// NATs that map per destination

fn with_two_relays(seed: u64, left: NatConfig, right: NatConfig) -> Pair {
    let mut world = World::new(seed);
    let relay = world.relay();
    world.relay();
    let (left, right) = (world.nat_site(left), world.nat_site(right));
    let (a, b) = (world.node("anna", left), world.node("ben", right));
    world.befriend(&[a, b]);
    world.start_all();
    Pair { world, relay, a, b }
}

#[test]
fn two_symmetric_nats_are_recognised_said_and_left_alone() {
    with_seeds(1500..1506, |seed| {
        let mut pair = with_two_relays(seed, NatConfig::SYMMETRIC, NatConfig::SYMMETRIC);
        pair.until_relayed(5 * SECOND);
        pair.world.run(HOUR);
        assert!(pair.world.is_relayed(pair.a, pair.b));
        let punches: u64 = [pair.a, pair.b].map(|host| pair.world.host(host).tally.punches).iter().sum();
        assert!((4..=22).contains(&punches), "{punches} punches in an hour");
        let said = pair.world.summary(pair.a, pair.b);
        assert_eq!(said.as_deref(), Some("symmetric NAT on both sides"));
    });
}

#[test]
fn one_symmetric_nat_that_gives_ports_in_sequence_is_guessed() {
    let mut direct = 0;
    for seed in 1600..1620 {
        let mut pair = with_two_relays(seed, NatConfig::SYMMETRIC, NatConfig::HOME);
        pair.until_relayed(5 * SECOND);
        pair.world.run(MINUTE);
        direct += usize::from(pair.world.is_direct(pair.a, pair.b));
    }
    assert!(direct >= 15, "{direct} of 20 pairs went direct");
}
