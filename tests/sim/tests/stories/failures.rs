//! What breaks, and how soon packets pass again.

use peerup_sim::{NatConfig, Stop};

use crate::{HOUR, MINUTE, Pair, SECOND, with_seeds};

#[test]
fn the_relay_takes_over_within_four_seconds_of_a_cut_and_the_direct_path_comes_back() {
    with_seeds(0..6, |seed| {
        let mut pair = Pair::direct(seed);
        pair.traffic(SECOND / 50, 3 * MINUTE);
        pair.world.run(SECOND);
        pair.world.cut(pair.a, pair.b);
        pair.until_relayed(4 * SECOND);
        pair.world.run(20 * SECOND);
        pair.world.heal(pair.a, pair.b);
        pair.until_direct(80 * SECOND);
    });
}

#[test]
fn after_a_relay_restart_the_reservation_is_back_within_ten_seconds() {
    for stop in [Stop::Kill, Stop::Goodbye, Stop::PowerCut] {
        with_seeds(0..3, |seed| {
            let mut pair = Pair::relayed(seed);
            pair.world.stop(pair.relay, stop);
            pair.world.run(3 * SECOND);
            pair.world.start(pair.relay);
            let (a, b) = (pair.a, pair.b);
            let held = |world: &peerup_sim::World| world.has_reservation(a) && world.has_reservation(b);
            pair.world.run(SECOND / 10);
            pair.world.until("reserved", 10 * SECOND, held);
            pair.until_relayed(5 * SECOND);
        });
    }
}

#[test]
fn a_relay_that_was_away_for_an_hour_is_used_again_within_ten_seconds() {
    with_seeds(0..3, |seed| {
        let mut pair = Pair::relayed(seed);
        pair.world.stop(pair.relay, Stop::PowerCut);
        pair.world.run(HOUR);
        pair.world.start(pair.relay);
        pair.until_relayed(12 * SECOND);
    });
}

#[test]
fn a_direct_path_outlives_its_relay() {
    with_seeds(0..3, |seed| {
        let mut pair = Pair::direct(seed);
        pair.traffic(SECOND, 5 * MINUTE);
        pair.world.stop(pair.relay, Stop::Kill);
        pair.world.run(4 * MINUTE);
        assert!(pair.world.is_direct(pair.a, pair.b));
    });
}

#[test]
fn after_both_nodes_restart_they_have_their_addresses_and_a_direct_path_again() {
    for stop in [Stop::Goodbye, Stop::Kill, Stop::PowerCut] {
        with_seeds(0..3, |seed| {
            let mut pair = Pair::direct(seed);
            let hosts = [pair.a, pair.b];
            let before = hosts.map(|host| pair.world.host(host).overlay_v4());
            hosts.into_iter().for_each(|host| pair.world.stop(host, stop));
            pair.world.run(2 * SECOND);
            hosts.into_iter().for_each(|host| pair.world.start(host));
            pair.until_direct(20 * SECOND);
            assert_eq!(hosts.map(|host| pair.world.host(host).overlay_v4()), before);
        });
    }
}

#[test]
fn a_peer_that_restarts_is_reached_again_at_once() {
    for stop in [Stop::Goodbye, Stop::Kill] {
        with_seeds(0..4, |seed| {
            let mut pair = Pair::direct(seed);
            pair.traffic(SECOND / 10, MINUTE);
            pair.world.stop(pair.b, stop);
            pair.world.run(SECOND);
            pair.world.start(pair.b);
            pair.until_packets_pass(5 * SECOND);
            pair.until_direct(15 * SECOND);
        });
    }
}

#[test]
fn a_host_that_slept_is_reached_again_within_seconds() {
    with_seeds(0..4, |seed| {
        let mut pair = Pair::direct(seed);
        pair.world.suspend(pair.b);
        pair.world.run(10 * MINUTE);
        pair.world.resume(pair.b);
        pair.traffic(SECOND / 10, MINUTE);
        pair.until_packets_pass(5 * SECOND);
        pair.until_direct(MINUTE);
    });
}

#[test]
fn a_host_that_changes_its_network_is_reached_again_within_seconds() {
    with_seeds(0..4, |seed| {
        let mut pair = Pair::direct(seed);
        let elsewhere = pair.world.nat_site(NatConfig::SHIFTING);
        pair.traffic(SECOND / 10, 2 * MINUTE);
        pair.world.run(SECOND);
        pair.world.roam(pair.b, elsewhere);
        pair.until_packets_pass(5 * SECOND);
        pair.until_direct(80 * SECOND);
    });
}

#[test]
fn a_router_that_forgets_its_mappings_costs_seconds() {
    with_seeds(0..4, |seed| {
        let mut pair = Pair::behind(seed, NatConfig::SHIFTING, NatConfig::SHIFTING);
        pair.until_direct(10 * SECOND);
        pair.traffic(SECOND / 10, 3 * MINUTE);
        pair.world.run(30 * SECOND);
        let site = pair.world.site(pair.b);
        pair.world.reboot_router(site);
        pair.until_packets_pass(10 * SECOND);
        pair.until_direct(2 * MINUTE);
    });
}

#[test]
fn a_removed_key_ends_the_connection_and_a_key_that_comes_back_is_dialed() {
    with_seeds(0..2, |seed| {
        let mut pair = Pair::direct(seed);
        pair.world.unfriend(pair.a, pair.b);
        pair.world.run(SECOND);
        assert!(!pair.world.is_connected(pair.b, pair.a));
        pair.world.befriend(&[pair.a, pair.b]);
        pair.world.apply_members(pair.a);
        pair.until_connected(30 * SECOND);
    });
}

/// A bad moment on the radio.
#[test]
fn a_direct_path_that_was_silent_for_some_seconds_is_used_again_without_a_new_connection() {
    with_seeds(0..8, |seed| {
        let mut pair = Pair::direct(seed);
        let (a, b) = (pair.a, pair.b);
        pair.traffic(SECOND / 10, 2 * MINUTE);
        pair.world.run(20 * SECOND);
        let opened = |pair: &Pair| [pair.world.opened(a), pair.world.opened(b)];
        let before = opened(&pair);
        pair.world.cut(a, b);
        pair.until_relayed(5 * SECOND);
        pair.world.heal(a, b);
        pair.until_direct(30 * SECOND);
        assert_eq!(opened(&pair), before);
    });
}

/// The silence of the old path alone would tell later.
#[test]
fn packets_take_no_path_of_an_earlier_start_of_the_peer_once_a_new_one_is_there() {
    let took = |seed| {
        let mut pair = Pair::direct(seed);
        let (a, b) = (pair.a, pair.b);
        pair.traffic(SECOND / 20, MINUTE);
        pair.world.run(5 * SECOND);
        pair.world.stop(b, Stop::PowerCut);
        pair.world.start(b);
        let restarted = pair.world.now();
        pair.world.until("packets pass", 10 * SECOND, |world| world.newest(a, b) > Some(restarted))
    };
    let mut times: Vec<_> = (0..9).map(took).collect();
    times.sort();
    assert!(times[4] <= SECOND / 2, "{times:?}");
}
