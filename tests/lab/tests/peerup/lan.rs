//! Two hosts that share a network: nothing between them needs to leave it.

use std::time::Duration;

use peerup_lab::peerup::{JOINER, Node, Pair};
use peerup_lab::tools::links::Counters;
use peerup_lab::tools::ping::{first_reply, pings};
use peerup_lab::{Lab, Nat, NatKind, Show, clock, panics};

use crate::limits::{DIRECT, FIRST_REPLY};
use crate::paths::OUTSIDE;

#[test]
fn two_hosts_behind_one_nat_go_direct_inside_it_and_the_relay_is_outside() {
    let mut home: Option<Nat> = None;
    let pair = Pair::direct("one-nat", |lab, internet, number| {
        if home.is_none() {
            let nat = lab.nat("home", NatKind::EndpointIndependent, "192.168.1.0/24")?;
            home = Some(nat.on(internet, "203.0.113.11")?);
        }
        lab.host(crate::name(number))?.behind(home.as_ref().unwrap())
    });
    let (pair, home) = (pair.unwrap(), home.unwrap());
    for (node, peer) in [(&pair.a, "b"), (&pair.b, "a")] {
        let path = node.status().unwrap().peer(peer).unwrap().path.unwrap();
        assert!(path.class == "direct" && path.addr.contains("192.168.1."), "{path:?}");
    }
    // The race is still on: circuits that lost it are opened and closed through the relay meanwhile.
    pings(pair.a.host(), JOINER, 200, Duration::from_millis(20)).unwrap().all_answered().unwrap();
    // Relays ask for tens of kilobytes per address that they are to test (AutoNAT v2), once, in the first seconds.
    let calm = || {
        let before = Counters::of(home.router(), OUTSIDE).unwrap();
        clock::pause(Duration::from_secs(2));
        Counters::of(home.router(), OUTSIDE).unwrap().bytes_since(&before) < 10_000
    };
    home.router().wait_until("the relay has tested the addresses", Duration::from_secs(30), calm).unwrap();
    // 200 kB there and 200 kB back, all of it inside. The control connections to the relay are heard outside, and once
    // more a test of an address may fall into the same two seconds; the pings would be there each time.
    let leaving = || {
        let before = Counters::of(home.router(), OUTSIDE).unwrap();
        pair.a.host().run(["ping", "-q", "-c", "200", "-i", "0.01", "-s", "1000", JOINER]).unwrap();
        Counters::of(home.router(), OUTSIDE).unwrap().bytes_since(&before)
    };
    let carried: Vec<u64> = (0..3).map(|_| leaving()).collect();
    assert!(carried.iter().any(|bytes| *bytes < 50_000), "{carried:?} bytes left the house");
}

#[test]
fn neighbours_without_any_relay_find_each_other_by_multicast_dns() {
    let mut lab = Lab::new("multicast-dns").unwrap();
    let lan = lab.segment("lan", "192.168.7.0/24").unwrap();
    let a = Node::new(lab.host("a").unwrap().on(&lan, "192.168.7.2").unwrap(), Show::Command);
    let b = Node::new(lab.host("b").unwrap().on(&lan, "192.168.7.3").unwrap(), Show::Command);
    for (node, address) in [(&a, "10.64.0.1"), (&b, "10.64.0.2")] {
        node.init_without_relay().unwrap();
        node.fix_address(address).unwrap();
    }
    // The codes of `invite` go through a relay; here two people tell each other their peer IDs.
    a.peerup(["auth", "add", &b.id().unwrap(), "--comment", "b"]).unwrap();
    b.peerup(["auth", "add", &a.id().unwrap(), "--comment", "a"]).unwrap();
    a.up().unwrap();
    b.up().unwrap();
    a.wait_for_class("b", "direct", DIRECT).unwrap();
    let known = || a.status().is_ok_and(|status| status.peer(JOINER).is_ok());
    a.host().wait_until("b's address is known", FIRST_REPLY, known).unwrap();
    let first = first_reply(a.host(), JOINER, FIRST_REPLY).unwrap();
    println!("first reply {first:?} after b was found");
    pings(b.host(), "10.64.0.1", 20, Duration::from_millis(50)).unwrap().all_answered().unwrap();
    let path = a.status().unwrap().peer("b").unwrap().path.unwrap();
    assert!(path.addr.contains("192.168.7."), "{path:?}");
    // They find each other again after one of them was away.
    b.down().unwrap();
    b.up().unwrap();
    first_reply(a.host(), JOINER, DIRECT).unwrap();
    for log in [a.log(), b.log()] {
        assert_eq!(panics(&log), [""; 0]);
    }
}
