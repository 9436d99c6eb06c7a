//! Packets while paths change under them.

use peerup_sim::{NatConfig, Stop, World};
use peerup_types::CarrierKind::{QuicStream, TcpStream};

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
        let (a, b) = (pair.a, pair.b);
        for _ in 0..30 {
            pair.world.run(SECOND);
            assert_eq!([pair.world.carriers(a, b).1, pair.world.carriers(b, a).1], [Some(QuicStream); 2]);
        }
        for host in [pair.a, pair.b] {
            assert_unique(pair.world.kinds_of_paths(host));
        }
    });
}

#[test]
fn of_circuits_that_both_sides_opened_at_once_one_is_left() {
    with_seeds(0..8, |seed| {
        let mut pair = Pair::behind(seed, NatConfig::SYMMETRIC, NatConfig::SYMMETRIC);
        let (a, b) = (pair.a, pair.b);
        pair.traffic(SECOND / 10, 30 * SECOND);
        pair.until_relayed(5 * SECOND);
        for _ in 0..100 {
            pair.world.run(SECOND / 5);
            assert!(pair.world.is_relayed(a, b) && pair.world.is_relayed(b, a));
        }
        for host in [a, b] {
            assert_unique(pair.world.kinds_of_paths(host));
        }
    });
}

/// A middlebox that lets TCP pass for ten seconds, and then not for half a minute.
#[test]
fn tcp_that_comes_and_goes_brings_no_second_quic_connection_each_time() {
    with_seeds(0..4, |seed| {
        let mut pair = Pair::direct(seed);
        let (a, b, site) = (pair.a, pair.b, pair.world.site(pair.b));
        pair.traffic(SECOND / 10, 11 * MINUTE);
        let before = pair.world.opened(a);
        for _ in 0..15 {
            pair.world.set_tcp(site, false);
            pair.world.run(30 * SECOND);
            pair.world.set_tcp(site, true);
            pair.world.run(10 * SECOND);
        }
        // One of TCP each time, and one of QUIC at most every other time.
        let opened = pair.world.opened(a) - before;
        assert!(opened <= 15 + 8 && pair.world.is_direct(a, b), "{opened}");
    });
}

fn assert_unique(kinds: Vec<impl PartialEq + Clone + std::fmt::Debug>) {
    let mut unique = kinds.clone();
    unique.dedup();
    assert_eq!(kinds, unique);
}

#[test]
fn packets_for_a_peer_that_is_being_reached_wait_for_it() {
    with_seeds(0..4, |seed| {
        let mut pair = Pair::relayed(seed);
        pair.world.stop(pair.b, Stop::Goodbye);
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

#[test]
fn where_no_tcp_passes_a_second_quic_connection_stands_beside_the_first_until_tcp_passes() {
    with_seeds(0..8, |seed| {
        let mut pair = Pair::behind(seed, NatConfig::HOME, NatConfig::SHIFTING);
        let (a, b, site) = (pair.a, pair.b, pair.world.site(pair.b));
        pair.world.set_tcp(site, false);
        pair.traffic(SECOND / 5, 50 * MINUTE);
        let two_of_quic = |world: &World| {
            [(a, b), (b, a)].into_iter().all(|(from, to)| {
                world.carriers(from, to) == (Some(QuicStream), Some(QuicStream))
                    && world.has_two_in_use(from, to)
            })
        };
        pair.world.until("two QUIC connections", 40 * SECOND, two_of_quic);
        pair.world.stop(b, Stop::Kill);
        pair.world.run(SECOND);
        pair.world.start(b);
        pair.world.until("two QUIC connections again", 2 * MINUTE, two_of_quic);
        // The wait for TCP has grown by now, and this is another one.
        pair.world.run(30 * MINUTE);
        pair.world.stop(b, Stop::Kill);
        pair.world.run(SECOND);
        pair.world.start(b);
        pair.world.until("two QUIC connections once more", 40 * SECOND, two_of_quic);
        pair.world.run(MINUTE);
        let direct = |world: &World, host| {
            let kinds = world.kinds_of_paths(host);
            kinds.iter().filter(|(kind, _)| kind.carrier == QuicStream).count()
        };
        assert!(two_of_quic(&pair.world));
        assert_eq!([direct(&pair.world, a), direct(&pair.world, b)], [2, 2]);
        pair.world.set_tcp(site, true);
        pair.world.until("TCP and one of QUIC", 10 * MINUTE, |world| {
            [world.carriers(a, b), world.carriers(b, a)] == [(Some(TcpStream), Some(QuicStream)); 2]
                && [direct(world, a), direct(world, b)] == [1, 1]
        });
    });
}
