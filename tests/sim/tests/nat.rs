//! From the first relayed packet to a direct path, for every pair of routers that allows one.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use peerup_sim::{HostId, NatConfig, World, with_seeds};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn two_hosts_behind_home_routers_are_relayed_first_and_direct_within_ten_seconds() {
    with_seeds(0..8, |seed| direct_within_ten_seconds(seed, NatConfig::HOME, NatConfig::HOME));
}

#[test]
fn routers_that_shift_ports_are_punched_just_as_fast() {
    with_seeds(0..8, |seed| direct_within_ten_seconds(seed, NatConfig::SHIFTING, NatConfig::SHIFTING));
    with_seeds(0..4, |seed| direct_within_ten_seconds(seed, NatConfig::SHIFTING, NatConfig::HOME));
}

fn direct_within_ten_seconds(seed: u64, left: NatConfig, right: NatConfig) {
    let (mut world, a, b) = behind(seed, left, right);
    world.until("relayed", 2 * SECOND, |world| world.is_relayed(a, b));
    world.until("direct", 10 * SECOND, |world| world.is_direct(a, b));
}

fn behind(seed: u64, left: NatConfig, right: NatConfig) -> (World, HostId, HostId) {
    let mut world = World::new(seed);
    world.relay();
    let (left, right) = (world.nat_site(left), world.nat_site(right));
    let (a, b) = (world.node("anna", left), world.node("ben", right));
    world.befriend(&[a, b]);
    world.start_all();
    (world, a, b)
}
