//! What is not let in, and says so.

use std::time::Duration;

use peerup_lab::peerup::{INVITER, JOINER, Node, Pair};
use peerup_lab::tools::capture::Capture;
use peerup_lab::tools::links::{Counters, snmp};
use peerup_lab::tools::ping::{Pings, first_reply, ping, pings};
use peerup_lab::{Host, Show, clock};

use crate::limits::{AT_ONCE, DIRECT, FIRST_REPLY, REMOVED_PEER_CLOSES, RETRIED};

#[test]
fn an_unauthorised_peer_gets_nothing_through_until_it_is_authorised() {
    let mut pair = Pair::direct("unauthorised", crate::neighbours).unwrap();
    let stranger = stranger(&mut pair);
    // It trusts a and knows a's overlay address; a has never heard of it.
    stranger.fix_address("10.64.0.77").unwrap();
    let id = pair.a.id().unwrap();
    let keys = format!("{id}  ip={INVITER}  # a\n");
    stranger.host().write(&stranger.dir().join("authorized_keys"), keys).unwrap();
    stranger.up().unwrap();
    // Its packets do have a way out, and it does knock.
    let route = stranger.host().ask(&format!("ip route get {INVITER}")).unwrap();
    assert!(route.contains("dev peerup0"), "{route}");
    let refused = || pair.a.log().contains("inbound connection refused");
    pair.a.host().wait_until("a refuses the stranger", DIRECT, refused).unwrap();
    let nothing = pings(stranger.host(), INVITER, 5, Duration::from_millis(200)).unwrap();
    assert_eq!((nothing.sent, nothing.received), (5, 0));
    let status = pair.a.status().unwrap();
    assert_eq!(status.0["peers"].as_array().unwrap().len(), 1, "{}", status.0);
    pings(pair.a.host(), JOINER, 50, Duration::from_millis(20)).unwrap().all_answered().unwrap();
    // Nothing but the key was missing.
    let id = stranger.id().unwrap();
    pair.a.peerup(["auth", "add", &id, "--comment", "stranger"]).unwrap();
    first_reply(stranger.host(), INVITER, RETRIED).unwrap();
}

#[test]
fn a_peer_the_relay_does_not_know_cannot_reserve_until_it_is_authorised() {
    let pair = Pair::new("relay-gate", Show::Command, crate::homes).unwrap();
    pair.a.init(&pair.relay.multiaddr()).unwrap();
    pair.a.up().unwrap();
    let state = || pair.a.status().unwrap().0["relays"][0]["state"].as_str().unwrap_or_default().to_owned();
    let patience = clock::now() + FIRST_REPLY;
    while clock::now() < patience {
        assert_ne!(state(), "reserved");
        clock::pause(Duration::from_millis(200));
    }
    // Live reload: the relay runs on, the node tries again by itself.
    pair.relay.authorize(&pair.a.id().unwrap(), "a").unwrap();
    pair.a.host().wait_until("a is reserved", Duration::from_secs(40), || state() == "reserved").unwrap();
}

#[test]
fn a_removed_peer_is_cut_off_within_a_second() {
    let pair = Pair::direct("removed", crate::homes).unwrap();
    let id = pair.b.id().unwrap();
    pair.a.peerup(["auth", "remove", &id]).unwrap();
    let began = clock::now();
    let answers = || pings(pair.b.host(), INVITER, 1, Duration::from_millis(10)).unwrap().received == 1;
    let alone = |node: &Node| node.class("b").is_empty();
    pair.a.host().wait_until("a closed the path", REMOVED_PEER_CLOSES, || alone(&pair.a)).unwrap();
    println!("closed after {:?}", began.elapsed());
    assert!(!answers());
}

#[test]
fn a_foreign_source_does_not_leave_the_host() {
    let pair = Pair::direct("spoofed", crate::homes).unwrap();
    let (a, b) = (pair.a.host(), pair.b.host());
    let capture = Capture::start(a, "peerup0").unwrap();
    b.run(["ip", "addr", "add", "10.64.0.99/32", "dev", "lo"]).unwrap();
    b.run(["ip", "addr", "add", "192.0.2.99/32", "dev", "lo"]).unwrap();
    for source in ["10.64.0.99", "192.0.2.99"] {
        let spoofed = b.cmd("ping").args(["-c", "3", "-i", "0.1", "-W", "1", "-I", source, INVITER]);
        assert_ne!(spoofed.try_run().unwrap().code, Some(0));
    }
    pings(b, INVITER, 3, Duration::from_millis(50)).unwrap().all_answered().unwrap();
    pair.b.report_drops();
    let counted = || pair.b.log().contains("reason=\"source-not-own\" packets=6");
    b.wait_until("the packets are counted", AT_ONCE, counted).unwrap();
    let frames = capture.stop().unwrap();
    assert!(frames.contain(&[10, 64, 0, 2, 10, 64, 0, 1]), "honest packets are not even seen");
    assert!(!frames.contain(&[10, 64, 0, 99, 10, 64, 0, 1]) && !frames.contain(&[192, 0, 2, 99]));
}

#[test]
fn a_damaged_config_names_line_and_column_and_starts_nothing() {
    let pair = initialised("config");
    let config = pair.a.dir().join("config.yaml");
    let text = pair.a.host().read(&config).unwrap();
    pair.a.host().write(&config, format!("{text}\nvnp:\n  mtu: 1300\n")).unwrap();
    let line = text.lines().count() + 2;
    for words in [vec!["up"], vec!["config", "validate"]] {
        let refused = pair.a.cmd(words).unwrap().try_run().unwrap();
        assert!(!matches!(refused.code, Some(0) | None), "{refused}");
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(
            said.contains("vnp") && said.contains("vpn") && said.contains(&line.to_string()),
            "{refused}"
        );
    }
    nothing_runs(&pair.a);
}

#[test]
fn a_key_or_config_that_others_can_read_is_refused() {
    for file in ["identity.key", "config.yaml"] {
        let pair = initialised("readable");
        pair.a.host().ask(&format!("chmod 644 ~/.config/peerup/{file}")).unwrap();
        let refused = pair.a.cmd(["up"]).unwrap().try_run().unwrap();
        assert!(!matches!(refused.code, Some(0) | None), "{refused}");
        assert!(refused.stderr.contains(file) && refused.stderr.contains("chmod"), "{refused}");
        nothing_runs(&pair.a);
    }
}

#[test]
fn garbage_at_the_ports_of_relay_and_node_disturbs_nobody() {
    let mut pair = Pair::direct("garbage", crate::neighbours).unwrap();
    let vandal = pair.lab.host("vandal").unwrap().on(&pair.internet, "203.0.113.66").unwrap();
    let node_port = tcp_port(pair.a.host());
    let mut stream = ping(pair.a.host(), JOINER, 400, Duration::from_millis(20)).spawn().unwrap();
    for (target, address, port) in
        [(pair.relay.host(), "203.0.113.3", 7777), (pair.a.host(), "203.0.113.21", node_port)]
    {
        throw_garbage(&vandal, target, address, port);
    }
    let pings = Pings::parse(&stream.wait(Duration::from_secs(60)).unwrap(), 400).unwrap();
    pings.all_answered().unwrap();
    assert!(pair.relay.is_running());
    first_reply(pair.b.host(), INVITER, DIRECT).unwrap();
}

/// Random bytes, lengths of 4 GiB, and connections that say nothing, over TCP and UDP. The target's own counters say
/// that it came.
fn throw_garbage(vandal: &Host, target: &Host, address: &str, port: u16) {
    let sockets = target.ask(&format!("ss -Hltun sport = :{port}")).unwrap();
    assert!(sockets.contains("udp") && sockets.contains("tcp"), "nobody listens on {port}: {sockets}");
    let before = snmp(target, "Tcp", "PassiveOpens").unwrap();
    let sent = Counters::of(vandal, "eth0").unwrap();
    vandal
        .ask(&format!(
            "for i in 1 2 3 4 5; do
               head -c 100000 /dev/urandom | timeout 1 nc -N {address} {port} >/dev/null || true
               head -c 4096 /dev/zero | tr '\\0' '\\377' | timeout 1 nc -N {address} {port} >/dev/null || true
               head -c 1200 /dev/urandom | timeout 1 nc -u -w 1 {address} {port} >/dev/null || true
             done; timeout 2 nc {address} {port} </dev/null >/dev/null || true"
        ))
        .unwrap();
    let accepted = snmp(target, "Tcp", "PassiveOpens").unwrap() - before;
    assert!(accepted >= 11, "{address} accepted {accepted} of 11 connections");
    let sent = Counters::of(vandal, "eth0").unwrap().bytes_since(&sent);
    assert!(sent > 5 * (1200 + 4096), "the vandal sent {sent} bytes");
}

/// A node that the relay knows and nobody else does.
fn stranger(pair: &mut Pair) -> Node {
    let host = pair.lab.host("stranger").unwrap().on(&pair.internet, "203.0.113.66 2001:db8::66").unwrap();
    let stranger = Node::new(host, Show::Command);
    stranger.init(&pair.relay.multiaddr()).unwrap();
    pair.relay.authorize(&stranger.id().unwrap(), "stranger").unwrap();
    stranger
}

fn initialised(name: &str) -> Pair {
    let pair = Pair::new(name, Show::Command, crate::homes).unwrap();
    pair.a.init(&pair.relay.multiaddr()).unwrap();
    pair.a.id().unwrap();
    pair
}

fn nothing_runs(node: &Node) {
    assert!(!peerup_lab::tools::links::exists(node.host(), "peerup0"));
    node.wait_for_no_daemon().unwrap();
}

/// The TCP port the daemon listens on.
pub fn tcp_port(host: &Host) -> u16 {
    let listening = host.ask("ss -Hltn | awk '{print $4}'").unwrap();
    let ports = listening.lines().filter_map(|address| address.rsplit(':').next()?.parse().ok());
    ports.max().unwrap()
}
