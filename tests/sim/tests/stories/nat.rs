//! From the first relayed packet to a direct path, for every pair of routers that allows one.

use peerup_sim::{NatConfig, World};
use peerup_types::Family;

use crate::{HOUR, MINUTE, Pair, SECOND, with_seeds};

#[test]
fn two_hosts_behind_home_routers_are_relayed_first_and_direct_within_ten_seconds() {
    with_seeds(0..6, |seed| relayed_then_direct(seed, NatConfig::HOME, NatConfig::HOME));
}

#[test]
fn routers_that_shift_ports_are_punched_just_as_fast() {
    with_seeds(0..6, |seed| relayed_then_direct(seed, NatConfig::SHIFTING, NatConfig::SHIFTING));
    with_seeds(0..3, |seed| relayed_then_direct(seed, NatConfig::SHIFTING, NatConfig::HOME));
}

fn relayed_then_direct(seed: u64, left: NatConfig, right: NatConfig) {
    let mut pair = Pair::behind(seed, left, right);
    pair.until_relayed(2 * SECOND);
    pair.until_direct(8 * SECOND);
}

#[test]
fn a_lossy_line_is_punched_too() {
    with_seeds(0..4, |seed| {
        let mut world = World::new(seed);
        world.relay();
        let (left, right) = (world.nat_site(NatConfig::HOME), world.nat_site(NatConfig::SHIFTING));
        world.set_loss(left, 0.05);
        let (a, b) = (world.node("anna", left), world.node("ben", right));
        world.befriend(&[a, b]);
        world.start_all();
        world.until("direct", 15 * SECOND, |world| world.is_direct(a, b));
    });
}

#[test]
fn where_no_punch_can_succeed_the_peers_stay_relayed_and_punch_about_once_a_minute() {
    with_seeds(0..2, |seed| {
        let mut pair = Pair::relayed(seed);
        pair.world.run(HOUR);
        assert!(pair.world.is_relayed(pair.a, pair.b));
        let punches = [pair.a, pair.b].map(|host| pair.world.host(host).tally.punches);
        assert!((30..=100).contains(&punches.iter().sum::<u64>()), "{punches:?}");
    });
}

#[test]
fn hosts_of_one_network_find_each_other_by_multicast_without_a_relay() {
    with_seeds(0..4, |seed| {
        let mut world = World::new(seed);
        let home = world.nat_site(NatConfig::HOME);
        let (a, b) = (world.node("anna", home), world.node("ben", home));
        world.befriend(&[a, b]);
        world.start_all();
        world.run(SECOND);
        world.discover(a, b);
        world.discover(b, a);
        world.until("direct", 2 * SECOND, |world| world.is_direct(a, b));
    });
}

#[test]
fn hosts_of_one_network_find_each_other_through_the_relay_where_multicast_is_blocked() {
    with_seeds(0..4, |seed| {
        let mut world = World::new(seed);
        world.relay();
        let home = world.nat_site(NatConfig::SYMMETRIC);
        let (a, b) = (world.node("anna", home), world.node("ben", home));
        world.befriend(&[a, b]);
        world.start_all();
        world.until("direct", 10 * SECOND, |world| world.is_direct(a, b));
    });
}

#[test]
fn where_both_have_ipv6_it_carries_the_packets() {
    with_seeds(0..4, |seed| {
        let mut world = World::new(seed);
        world.relay();
        let (left, right) = (world.nat_site(NatConfig::HOME), world.nat_site(NatConfig::SYMMETRIC));
        let (a, b) = (world.node("anna", left), world.node("ben", right));
        world.add_ipv6(a);
        world.add_ipv6(b);
        world.befriend(&[a, b]);
        world.start_all();
        let v6 = |kind: Option<peerup_types::PathKind>| kind.is_some_and(|kind| kind.family == Family::Ipv6);
        world.until("over IPv6", MINUTE, |world| {
            world.is_direct(a, b) && v6(world.path(a, b)) && v6(world.path(b, a))
        });
    });
}
