//! Which path the packets take: relayed first, direct when the NATs allow it, and no packet lost in between.

use std::time::Duration;

use peerup_lab::peerup::{INVITER, JOINER, Pair, natted};
use peerup_lab::tools::links::Counters;
use peerup_lab::tools::ping::{Pings, first_reply, ping, pings};
use peerup_lab::{Nat, NatKind, Show};

use crate::limits::{DIRECT, FIRST_REPLY};

/// The outside of a NAT; its inside was plugged in first.
pub const OUTSIDE: &str = "eth1";

#[test]
fn two_homes_meet_over_the_relay_and_go_direct_without_losing_a_ping() {
    relay_first_then_direct("two-homes", NatKind::EndpointIndependent);
}

#[test]
fn two_homes_whose_nats_change_ports_go_direct_too() {
    relay_first_then_direct("port-shifting", NatKind::PortShifting);
}

#[test]
fn two_symmetric_nats_stay_on_the_relay_and_work() {
    let (pair, _nats) = behind("symmetric", NatKind::Symmetric);
    let first = first_reply(pair.a.host(), JOINER, FIRST_REPLY * 3).unwrap();
    assert!(first <= FIRST_REPLY, "{first:?}");
    // Long enough for several attempts to punch.
    let patient = pings(pair.a.host(), JOINER, 150, Duration::from_millis(100)).unwrap();
    patient.all_answered().unwrap();
    assert_eq!((pair.a.class("b"), pair.b.class("a")), ("relay".into(), "relay".into()));
    pings(pair.b.host(), INVITER, 10, Duration::from_millis(50)).unwrap().all_answered().unwrap();
}

#[test]
fn a_host_behind_a_carriers_nat_and_its_own_goes_direct() {
    let pair = Pair::direct("cgnat", |lab, internet, number| {
        if number == 2 {
            return Ok(natted(lab, internet, number, NatKind::EndpointIndependent)?.1);
        }
        let carrier =
            lab.nat("carrier", NatKind::PortShifting, "100.64.0.0/24")?.on(internet, "203.0.113.9")?;
        let home = lab.nat("home", NatKind::EndpointIndependent, "192.168.1.0/24")?.behind(&carrier)?;
        lab.host("a")?.behind(&home)
    });
    let pair = pair.unwrap();
    pings(pair.b.host(), INVITER, 20, Duration::from_millis(50)).unwrap().all_answered().unwrap();
}

#[test]
fn where_udp_is_blocked_peers_meet_over_tcp() {
    let (pair, first) = Pair::running("udp-blocked", |lab, internet, number| {
        let (nat, host) = natted(lab, internet, number, NatKind::EndpointIndependent)?;
        nat.block_udp()?;
        Ok(host)
    })
    .unwrap();
    assert!(first <= FIRST_REPLY, "{first:?}");
    pings(pair.a.host(), JOINER, 200, Duration::from_millis(20)).unwrap().all_answered().unwrap();
    let path = pair.a.status().unwrap().peer("b").unwrap().path.unwrap();
    assert!(["tcp-stream", "relay-stream"].contains(&path.carrier.as_str()), "{path:?}");
}

#[test]
fn ipv6_is_preferred_to_ipv4_where_both_work() {
    // Multicast DNS finds by IPv4 only, and peers with a direct path have nothing to ask each other.
    let pair = Pair::new("dual-stack", Show::Command, crate::neighbours).unwrap();
    pair.pair().unwrap();
    for node in [&pair.a, &pair.b] {
        node.peerup(["config", "set", "discovery.mdns", "off"]).unwrap();
    }
    pair.up().unwrap();
    pair.wait_for_class("direct", DIRECT).unwrap();
    let family = || pair.a.status().unwrap().peer("b").unwrap().path.unwrap_or_default().family;
    pair.a.host().wait_until("the path is IPv6", DIRECT, || family() == "ipv6").unwrap();
}

fn relay_first_then_direct(name: &str, kind: NatKind) {
    let (pair, nats) = behind(name, kind);
    let relay = pair.relay.host();
    let quiet = Counters::of(relay, "eth0").unwrap();
    let first = first_reply(pair.a.host(), JOINER, FIRST_REPLY * 3).unwrap();
    println!("first reply {first:?} after the second up");
    assert!(first <= FIRST_REPLY, "first reply after {first:?}");
    assert!(Counters::of(relay, "eth0").unwrap().bytes_since(&quiet) > 0, "the relay saw nothing");

    // 12 s of pings at 20 ms: begun on the relay, they are still under way 2 s after the latest allowed switch.
    let stream = ping(pair.a.host(), JOINER, 600, Duration::from_millis(20)).spawn();
    let mut stream = stream.unwrap();
    let switched = pair.wait_for_class("direct", DIRECT).unwrap();
    println!("direct {switched:?} after the first reply");
    let pings = Pings::parse(&stream.wait(Duration::from_secs(30)).unwrap(), 600).unwrap();
    pings.all_answered().unwrap();

    traffic_is_on_the_direct_path(&pair, &nats);
}

/// The wire's own word: what the NATs carry, the relay does not see.
fn traffic_is_on_the_direct_path(pair: &Pair, nats: &[Nat]) {
    let relay = pair.relay.host();
    let at_relay = Counters::of(relay, "eth0").unwrap();
    let at_nats: Vec<_> = nats.iter().map(|nat| Counters::of(nat.router(), OUTSIDE).unwrap()).collect();
    pair.a.host().run(["ping", "-q", "-c", "200", "-i", "0.01", "-s", "1000", JOINER]).unwrap();
    // 200 kB there and 200 kB back, and what the control connections say meanwhile.
    for (nat, before) in nats.iter().zip(&at_nats) {
        let carried = Counters::of(nat.router(), OUTSIDE).unwrap().bytes_since(before);
        assert!(carried > 400_000, "{} carried {carried} bytes", nat.name());
    }
    let relayed = Counters::of(relay, "eth0").unwrap().bytes_since(&at_relay);
    assert!(relayed < 50_000, "the relay carried {relayed} bytes");
}

/// A pair behind NATs of one kind, paired and up.
fn behind(name: &str, kind: NatKind) -> (Pair, Vec<Nat>) {
    let mut nats = Vec::new();
    let pair = Pair::new(name, Show::Command, |lab, internet, number| {
        let (nat, host) = natted(lab, internet, number, kind)?;
        nats.push(nat);
        Ok(host)
    });
    let pair = pair.unwrap();
    pair.pair().unwrap();
    pair.up().unwrap();
    (pair, nats)
}
