//! Bulk transfers, compared by checksum: through every carrier, and while carriers and paths change below.
//!
//! PEERUP_LAB_BULK says how many bytes each has, such as 10000000000.

use std::time::Duration;

use peerup_lab::clock;
use peerup_lab::peerup::{JOINER, Pair};
use peerup_lab::tools::links::Counters;
use peerup_lab::tools::transfer::Bulk;

use crate::rootless::bulk;

/// For any number of bytes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(900);
/// Longer than a change of path ever takes; after four in a minute the next one waits for the minute's end.
const CHANGE: Duration = Duration::from_secs(90);
const MEGABYTE: u64 = 1_000_000;

/// What is dropped between the two hosts; the relay stays in reach.
#[derive(Clone, Copy)]
enum Blocked {
    Nothing,
    Udp,
    Tcp,
    Everything,
}

fn block(pair: &Pair, blocked: Blocked) {
    let protocols = match blocked {
        Blocked::Nothing => None,
        Blocked::Udp => Some("udp"),
        Blocked::Tcp => Some("tcp"),
        Blocked::Everything => Some("{ tcp, udp }"),
    };
    for (node, other) in [(&pair.a, "203.0.113.22"), (&pair.b, "203.0.113.21")] {
        let host = node.host();
        host.run(["nft", "add table inet between"]).unwrap();
        host.run(["nft", "add chain inet between out { type filter hook output priority 0; }"]).unwrap();
        host.run(["nft", "flush chain inet between out"]).unwrap();
        if let Some(protocols) = protocols {
            let rule = format!("add rule inet between out ip daddr {other} meta l4proto {protocols} drop");
            host.run(["nft", &rule]).unwrap();
        }
    }
}

/// Two hosts on one segment, paired, that are not up yet; `carrier` is `vpn.carrier` of both.
fn pair(name: &str, carrier: &str) -> Pair {
    let pair = Pair::new(name, peerup_lab::Show::Nothing, |lab, internet, number| {
        lab.host(crate::name(number))?.on(internet, &format!("203.0.113.2{number}"))
    });
    let pair = pair.unwrap();
    pair.pair().unwrap();
    for node in [&pair.a, &pair.b] {
        node.peerup(["config", "set", "vpn.carrier", carrier]).unwrap();
    }
    pair
}

fn carrier(pair: &Pair) -> String {
    pair.a.status().unwrap().peer("b").unwrap().path.unwrap_or_default().carrier
}

fn start(pair: &Pair) -> Bulk {
    Bulk::start(pair.a.host(), pair.b.host(), JOINER, bulk() / MEGABYTE).unwrap()
}

/// A transfer over one kind of path, which both ends still use when it is over.
fn arrives_whole_over(name: &str, choice: &str, blocked: Blocked, path: (&str, &str)) -> Pair {
    let pair = pair(name, choice);
    block(&pair, blocked);
    pair.up().unwrap();
    let (class, expected) = path;
    pair.wait_for_class(class, CHANGE).unwrap();
    pair.a.host().wait_until(expected, CHANGE, || carrier(&pair) == expected).unwrap();
    let transfer = start(&pair);
    transfer.enough().unwrap();
    let megabytes = transfer.arrives_whole(PATIENCE).unwrap();
    assert_eq!((pair.a.class("b").as_str(), carrier(&pair).as_str()), path);
    println!("{megabytes} MB arrived whole over {class}, {expected}, vpn.carrier {choice}");
    pair
}

#[test]
fn a_transfer_arrives_whole_over_tcp() {
    arrives_whole_over("whole-tcp", "auto", Blocked::Udp, ("direct", "tcp-stream"));
}

#[test]
fn a_transfer_arrives_whole_over_quic_streams() {
    arrives_whole_over("whole-quic", "stream", Blocked::Tcp, ("direct", "quic-stream"));
}

/// Reliable frames and datagrams have a congestion window and a pacer each, also where only QUIC passes.
#[test]
fn where_no_tcp_passes_a_transfer_arrives_whole_beside_a_second_quic_connection() {
    let pair = pair("whole-two", "auto");
    block(&pair, Blocked::Tcp);
    pair.up().unwrap();
    pair.wait_for_class("direct", CHANGE).unwrap();
    let a = pair.a.host();
    let pings = a.cmd("ping").args(["-i", "0.1", JOINER]).spawn().unwrap();
    a.wait_until("two QUIC connections", CHANGE, || pair.a.quic_connections().unwrap() == 2).unwrap();
    let transfer = start(&pair);
    transfer.enough().unwrap();
    let megabytes = transfer.arrives_whole(PATIENCE).unwrap();
    assert!(pings.is_running() && carrier(&pair) == "quic-stream");
    assert_eq!(pair.a.quic_connections().unwrap(), 2);
    println!("{megabytes} MB arrived whole over QUIC beside a second connection");
}

#[test]
fn a_transfer_arrives_whole_in_quic_datagrams() {
    let pair = arrives_whole_over("whole-datagrams", "datagram", Blocked::Nothing, ("direct", "tcp-stream"));
    // The host gets what came one by one put together: a datagram holds less than 1,500 bytes.
    let got = Counters::of(pair.b.host(), "peerup0").unwrap();
    println!("{} bytes to the host in {} packets", got.rx_bytes, got.rx_packets);
    assert!(got.rx_bytes / got.rx_packets > 3000, "{got:?}");
}

#[test]
fn a_transfer_arrives_whole_through_the_relay() {
    arrives_whole_over("whole-relay", "auto", Blocked::Everything, ("relay", "relay-stream"));
}

#[test]
fn a_transfer_arrives_whole_while_carriers_and_paths_change_below_it() {
    let pair = pair("whole-changes", "auto");
    pair.up().unwrap();
    pair.wait_for_class("direct", CHANGE).unwrap();
    let transfer = start(&pair);
    let mut changes = 0;
    while changes == 0 || transfer.megabytes().unwrap() < bulk() / MEGABYTE {
        block(&pair, Blocked::Tcp);
        pair.a.host().wait_until("QUIC", CHANGE, || carrier(&pair) == "quic-stream").unwrap();
        clock::pause(Duration::from_secs(1));
        block(&pair, Blocked::Everything);
        pair.wait_for_class("relay", CHANGE).unwrap();
        clock::pause(Duration::from_secs(1));
        block(&pair, Blocked::Nothing);
        pair.wait_for_class("direct", CHANGE).unwrap();
        clock::pause(Duration::from_secs(1));
        changes += 3;
        assert!(transfer.is_running());
    }
    transfer.enough().unwrap();
    println!("{} MB arrived whole across {changes} changes", transfer.arrives_whole(PATIENCE).unwrap());
}
