//! Packets while paths change under them.

use peerup_sim::{NatConfig, World};

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

#[test]
fn reliable_frames_take_tcp_with_quic_beside_and_udp_that_stops_passing_takes_nothing_else_with_it() {
    use peerup_types::CarrierKind::{QuicStream, TcpStream};
    with_seeds(0..8, |seed| {
        let mut pair = Pair::behind(seed, NatConfig::HOME, NatConfig::SHIFTING);
        let (a, b, site) = (pair.a, pair.b, pair.world.site(pair.b));
        pair.traffic(SECOND / 10, 5 * MINUTE);
        let both = |world: &World| {
            [(a, b), (b, a)].map(|(from, to)| world.carriers(from, to))
                == [(Some(TcpStream), Some(QuicStream)); 2]
        };
        pair.world.until("both carriers", 20 * SECOND, both);
        let changes = |pair: &Pair| pair.world.host(a).tally.path_changes.len();
        let before = changes(&pair);
        pair.world.set_udp(site, false);
        pair.world.until("nothing beside", 3 * SECOND, |world| {
            [world.carriers(a, b), world.carriers(b, a)] == [(Some(TcpStream), None); 2]
        });
        pair.world.run(20 * SECOND);
        pair.world.set_udp(site, true);
        pair.world.until("both carriers again", 45 * SECOND, both);
        assert_eq!(changes(&pair), before, "nobody would call that another path");
    });
}
