//! Whole networks: everybody reaches everybody, addresses become unique, silence costs nothing.

use std::{collections::BTreeSet, time::Duration};

use peerup_sim::{HostId, NatConfig, World};

use crate::{HOUR, MINUTE, Pair, SECOND, with_seeds};

#[test]
fn ten_nodes_behind_ten_routers_all_reach_each_other_through_one_relay() {
    with_seeds(0..2, |seed| {
        let (mut world, hosts) = network(seed, 10);
        for host in &hosts {
            world.start(*host);
            world.run(SECOND);
        }
        world.until("all connected", 30 * SECOND, |world| all(&hosts, |a, b| world.is_connected(a, b)));
    });
}

#[test]
fn ten_hosts_that_all_claimed_the_first_address_end_with_ten_addresses() {
    with_seeds(0..2, |seed| {
        let (mut world, hosts) = network(seed, 10);
        let late = 7 - usize::try_from(seed).unwrap();
        for host in hosts.iter().take(late) {
            world.start(*host);
            let pause = Duration::from_millis(world.random(0..3000));
            world.run(pause);
        }
        world.run(MINUTE);
        world.start_all();
        world.until("addresses are unique and known", 2 * MINUTE, |world| settled(world, &hosts));
        let before = addresses(&world, &hosts);
        world.run(5 * MINUTE);
        assert_eq!(addresses(&world, &hosts), before, "they stay");
    });
}

#[test]
fn the_older_member_keeps_its_address_when_a_stranger_to_it_claims_the_same() {
    with_seeds(0..4, |seed| {
        let mut world = World::new(seed);
        world.relay();
        let (left, right) = (world.nat_site(NatConfig::HOME), world.nat_site(NatConfig::HOME));
        let (a, b) = (world.node("anna", left), world.node("ben", right));
        world.befriend(&[a, b]);
        world.start(a);
        let first = world.host(a).overlay_v4();
        world.run(MINUTE);
        world.start(b);
        world.until("settled", 10 * SECOND, |world| settled(world, &[a, b]));
        assert_eq!(world.host(a).overlay_v4(), first);
    });
}

#[test]
fn an_idle_network_is_not_probed_and_its_nodes_hardly_wake() {
    with_seeds(0..2, |seed| {
        let mut pair = Pair::direct(seed);
        pair.world.run(MINUTE);
        let hosts = [pair.a, pair.b];
        let count = |world: &World| {
            hosts.map(|host| (world.host(host).tally.probes, world.host(host).tally.timeouts))
        };
        let before = count(&pair.world);
        pair.world.run(HOUR);
        for ((probes, timeouts), (probes_before, timeouts_before)) in
            count(&pair.world).into_iter().zip(before)
        {
            assert_eq!(probes, probes_before, "an idle peer is not probed");
            // The relay's second transport is looked after once a minute.
            assert!(timeouts - timeouts_before <= 100, "{}", timeouts - timeouts_before);
        }
    });
}

#[test]
fn waiting_for_an_absent_peer_and_an_absent_relay_is_no_busy_loop() {
    with_seeds(0..2, |seed| {
        let mut world = World::new(seed);
        let relay = world.relay();
        let site = world.nat_site(NatConfig::HOME);
        let (a, b) = (world.node("anna", site), world.node("ben", site));
        world.befriend(&[a, b]);
        world.stop(relay, peerup_sim::Stop::PowerCut);
        world.start(a);
        world.run(HOUR);
        let timeouts = world.host(a).tally.timeouts;
        // The relay is tried every few seconds, the peer once a minute; each attempt also times out.
        assert!(timeouts <= 2500, "{timeouts}");
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let (mut world, _) = network(seed, 4);
        world.start_all();
        world.run(2 * MINUTE);
        world.log().to_vec()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

fn network(seed: u64, size: usize) -> (World, Vec<HostId>) {
    let mut world = World::new(seed);
    world.relay();
    let kinds = [NatConfig::HOME, NatConfig::SHIFTING, NatConfig::SYMMETRIC];
    let hosts: Vec<HostId> = (0..size)
        .map(|i| {
            let site = world.nat_site(kinds[i % kinds.len()]);
            world.node(&format!("node-{i}"), site)
        })
        .collect();
    world.befriend(&hosts);
    (world, hosts)
}

fn all(hosts: &[HostId], holds: impl Fn(HostId, HostId) -> bool) -> bool {
    hosts.iter().all(|a| hosts.iter().all(|b| a == b || holds(*a, *b)))
}

fn addresses(world: &World, hosts: &[HostId]) -> Vec<std::net::Ipv4Addr> {
    hosts.iter().filter_map(|host| world.host(*host).overlay_v4()).collect()
}

/// Nobody shares an address, and everybody knows everybody's.
fn settled(world: &World, hosts: &[HostId]) -> bool {
    let own = addresses(world, hosts);
    let unique: BTreeSet<_> = own.iter().collect();
    let knows = |a: HostId, b: HostId| {
        let Some(node) = world.host(a).node() else { return false };
        node.membership().addrs_of(&world.host(b).peer).v4 == world.host(b).overlay_v4()
    };
    unique.len() == hosts.len() && all(hosts, knows)
}
