//! Packets while paths change under them.

use peerup_sim::NatConfig;

use crate::{MINUTE, Pair, SECOND, with_seeds};

#[test]
fn no_packet_is_lost_from_the_first_relayed_path_to_the_last_twin() {
    with_seeds(0..8, |seed| {
        let mut pair = Pair::behind(seed, NatConfig::HOME, NatConfig::SHIFTING);
        pair.traffic(SECOND / 50, 30 * SECOND);
        pair.world.run(35 * SECOND);
        assert!(pair.world.is_direct(pair.a, pair.b));
        let packets = pair.world.packets();
        assert_eq!(packets.delivered, packets.sent, "{packets:?}");
    });
}

#[test]
fn of_several_connections_of_one_kind_one_is_left() {
    with_seeds(0..8, |seed| {
        let mut pair = Pair::direct(seed);
        pair.world.run(30 * SECOND);
        for host in [pair.a, pair.b] {
            let kinds = pair.world.kinds_of_paths(host);
            let mut unique = kinds.clone();
            unique.dedup();
            assert_eq!(kinds, unique);
        }
    });
}

#[test]
fn packets_for_a_peer_that_is_being_reached_wait_for_it() {
    with_seeds(0..4, |seed| {
        let mut pair = Pair::relayed(seed);
        pair.world.stop(pair.b, peerup_sim::Stop::Goodbye);
        pair.world.run(10 * MINUTE);
        pair.world.start(pair.b);
        pair.world.run(SECOND / 10);
        let sent = pair.world.now();
        pair.world.send(pair.a, pair.b);
        pair.world
            .until("the packet arrives", 3 * SECOND, |world| world.newest(pair.a, pair.b) >= Some(sent));
    });
}
