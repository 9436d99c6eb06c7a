//! Which path the packets take: relayed first, direct when the NATs allow it, and no packet lost in between.

use std::time::Duration;

use peerup_lab::peerup::{INVITER, JOINER, Pair, natted};
use peerup_lab::tools::links::Counters;
use peerup_lab::tools::ping::{Pings, first_reply, ping, pings};
use peerup_lab::{Impairment, Nat, NatKind, Show};

use crate::limits::{DIRECT, FIRST_REPLY};

/// A better family is looked for after 15 s, and again after as long, and twice as long.
const LOOKED_FOR: Duration = Duration::from_secs(60);
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
    let pair = Pair::direct("dual-stack", crate::neighbours).unwrap();
    // Multicast DNS finds by IPv4 only; IPv6 is looked for a while later.
    let family = || pair.a.status().unwrap().peer("b").unwrap().path.unwrap_or_default().family;
    pair.a.host().wait_until("the path is IPv6", LOOKED_FOR, || family() == "ipv6").unwrap();
}

#[test]
fn slow_ipv6_beside_fast_ipv4_is_known_and_not_used() {
    let pair = with_cables("slow-ipv6", [5.0, 30.0]);
    let said = settled(&pair, "ipv6", "slower");
    assert_eq!(said["paths"][0]["family"], "ipv4", "{said}");
    stays(&pair, "ipv4");
}

#[test]
fn slow_ipv4_beside_fast_ipv6_is_known_and_not_used() {
    let pair = with_cables("slow-ipv4", [30.0, 5.0]);
    let said = settled(&pair, "ipv4", "ranks-lower");
    assert_eq!(said["paths"][0]["family"], "ipv6", "{said}");
    stays(&pair, "ipv6");
}

/// Two hosts with one cable for IPv4 and another for IPv6, which are so many milliseconds long one way from host to host.
fn with_cables(name: &str, one_way_ms: [f64; 2]) -> Pair {
    let pair = Pair::new(name, Show::Command, |lab, internet, number| {
        let cable = |ms: f64| Impairment { delay_ms: ms / 2.0, ..Impairment::default() };
        let [v4, v6] = one_way_ms.map(cable);
        let host = lab.host(crate::name(number))?;
        let host = host.on_impaired(internet, &format!("203.0.113.2{number}"), v4)?;
        host.on_impaired(internet, &format!("2001:db8::2{number}"), v6)
    });
    let pair = pair.unwrap();
    pair.pair().unwrap();
    for (node, number) in [(&pair.a, 1), (&pair.b, 2)] {
        // These cables end in TAP devices, which look like tunnels, whose addresses are not offered.
        let network = format!(
            "\nnetwork:\n  listen_addresses: [/ip4/0.0.0.0/udp/24001/quic-v1, /ip4/0.0.0.0/tcp/24001, /ip6/::/udp/24001/quic-v1, \
             /ip6/::/tcp/24001]\n  external_addresses: [/ip6/2001:db8::2{number}/udp/24001/quic-v1, \
             /ip6/2001:db8::2{number}/tcp/24001]\n"
        );
        let file = node.dir().join("config.yaml");
        let text = node.host().read(&file).unwrap();
        node.host().write(&file, text + &network).unwrap();
    }
    pair.up().unwrap();
    pair.wait_for_class("direct", DIRECT * 2).unwrap();
    pair
}

/// Waits until `why` says this rule of a path of this family, under traffic.
fn settled(pair: &Pair, family: &str, rule: &str) -> serde_json::Value {
    let _traffic = ping(pair.a.host(), JOINER, 6000, Duration::from_millis(100)).spawn().unwrap();
    let why = || -> serde_json::Value {
        serde_json::from_str(&pair.a.peerup(["why", "b", "--json"]).unwrap().stdout).unwrap()
    };
    let is_said = |said: &serde_json::Value| {
        let mut paths = said["paths"].as_array().unwrap().iter();
        paths.any(|path| path["class"] == "direct" && path["family"] == family && path["rule"] == rule)
    };
    let what = format!("{family} is {rule}");
    let waited = pair.a.host().wait_until(&what, LOOKED_FOR, || is_said(&why()));
    waited.unwrap_or_else(|error| panic!("{error:#}: {}", why()));
    why()
}

/// Longer than a better path has to be better.
fn stays(pair: &Pair, family: &str) {
    pings(pair.a.host(), JOINER, 240, Duration::from_millis(50)).unwrap().all_answered().unwrap();
    let path = pair.a.status().unwrap().peer("b").unwrap().path.unwrap();
    assert_eq!(path.family, family);
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
