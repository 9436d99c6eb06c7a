//! What a node finds out about its network, and how it finds peers without a relay's help.

use std::time::Duration;

use peerup_lab::peerup::{INVITER, JOINER, Node, Pair, Relay, natted};
use peerup_lab::tools::ping::{first_reply, pings};
use peerup_lab::{Host, Lab, Nat, NatKind, Process, Segment, Show, tool};
use serde_json::Value;

use crate::limits::{DIRECT, FIRST_REPLY};

/// Every relay has been asked over both transports, and the port mapper has answered or been given up on.
const KNOWN: Duration = Duration::from_secs(20);
/// DESIGN: a peer on the LAN is found in less than five seconds; a busy machine gets the double.
const LAN: Duration = Duration::from_secs(10);

#[test]
fn every_kind_of_nat_is_told_apart_with_the_daemon_and_without() {
    let mut lab = Lab::new("nat-kinds").unwrap();
    let internet = lab.segment("internet", "203.0.113.0/24").unwrap();
    let relays = [relay(&mut lab, &internet, 3), relay(&mut lab, &internet, 4)];
    let kinds = [
        ("keeps", NatKind::EndpointIndependent, "endpoint-independent", true),
        ("shifts", NatKind::PortShifting, "endpoint-independent", false),
        ("symmetric", NatKind::Symmetric, "address-and-port-dependent", false),
    ];
    for (number, (name, kind, mapping, keeps)) in (11u8..).zip(kinds) {
        let inside = format!("192.168.{number}.0/24");
        let nat =
            lab.nat(name, kind, &inside).unwrap().on(&internet, &format!("203.0.113.{number}")).unwrap();
        let node = Node::new(lab.host(&format!("h{number}")).unwrap().behind(&nat).unwrap(), Show::Command);
        init(&node, &relays);
        let check = |report: &Value, by: &str| {
            assert_eq!(report["ipv4"]["mapping"], mapping, "{name} {by}: {report}");
            assert_eq!(report["ipv4"]["keeps_port"], keeps, "{name} {by}: {report}");
            assert_eq!(
                (&report["udp"], &report["ipv4"]["translated"]),
                (&true.into(), &true.into()),
                "{report}"
            );
        };
        let (code, report) = wait_for(&node, |report| report["ipv4"]["mapping"] == mapping);
        check(&report, "without the daemon");
        assert_eq!((report["daemon"].clone(), code), (false.into(), degraded(mapping)), "{report}");
        node.up().unwrap();
        let (_, report) = wait_for(&node, |report| report["ipv4"]["mapping"] == mapping);
        check(&report, "with the daemon");
        let (code, _) =
            wait_for(&node, |report| report["relays"].as_array().is_some_and(|all| all.len() == 2));
        assert_eq!(code, degraded(mapping));
        for relay in report["relays"].as_array().unwrap() {
            assert!(relay["quic"]["rtt_ms"].is_f64() && relay["tcp"]["rtt_ms"].is_f64(), "{relay}");
        }
        let text = node.cmd(["netcheck"]).unwrap().try_run().unwrap().stdout;
        assert!(text.contains(&format!("mapping: {mapping}")), "{text}");
        let symmetric = codes(&node).contains(&"symmetric-nat".to_owned());
        assert_eq!(symmetric, kind == NatKind::Symmetric, "{:?}", codes(&node));
        node.down().unwrap();
    }
}

#[test]
fn stun_servers_tell_a_symmetric_nat_where_there_is_one_relay() {
    let mut lab = Lab::new("stun").unwrap();
    let internet = lab.segment("internet", "203.0.113.0/24").unwrap();
    let relay = relay(&mut lab, &internet, 3);
    let _servers: Vec<Process> = [5u8, 6]
        .map(|n| stun_server(&lab.host(&format!("stun{n}")).unwrap().on(&internet, &at(n)).unwrap()))
        .into();
    let nat = lab.nat("nat", NatKind::Symmetric, "192.168.1.0/24").unwrap().on(&internet, &at(11)).unwrap();
    let node = Node::new(lab.host("a").unwrap().behind(&nat).unwrap(), Show::Command);
    init(&node, std::slice::from_ref(&relay));
    let (_, before) = netcheck(&node);
    assert_eq!(before["ipv4"]["mapping"], "unknown", "{before}");
    configure(&node, "\nnetwork:\n  stun_servers: [203.0.113.5, '203.0.113.6:3478']\n");
    assert_eq!(netcheck(&node).1["ipv4"]["mapping"], "address-and-port-dependent");
    node.up().unwrap();
    wait_for(&node, |report| report["ipv4"]["mapping"] == "address-and-port-dependent");
}

#[test]
fn a_carriers_nat_behind_the_own_router_is_recognised_by_the_routers_address() {
    let mut lab = Lab::new("carrier").unwrap();
    let internet = lab.segment("internet", "203.0.113.0/24").unwrap();
    let relay = relay(&mut lab, &internet, 3);
    let carrier = lab.nat("carrier", NatKind::PortShifting, "100.64.0.0/24").unwrap();
    let carrier = carrier.on(&internet, &at(9)).unwrap();
    let home =
        lab.nat("home", NatKind::EndpointIndependent, "192.168.1.0/24").unwrap().behind(&carrier).unwrap();
    let _mapper = port_mapper(&home, "192.168.1.1", "100.64.0.2");
    let node = Node::new(lab.host("a").unwrap().behind(&home).unwrap(), Show::Command);
    init(&node, std::slice::from_ref(&relay));
    node.up().unwrap();
    let (code, report) = wait_for(&node, |report| !report["cgnat"].is_null());
    assert_eq!((report["grade"]["grade"].as_str(), code), (Some("D"), Some(3)), "{report}");
    assert!(codes(&node).contains(&"cgnat".to_owned()));
    // A host that the carrier numbers itself knows it without anybody's help.
    let mobile = Node::new(lab.host("b").unwrap().behind(&carrier).unwrap(), Show::Command);
    init(&mobile, std::slice::from_ref(&relay));
    assert!(netcheck(&mobile).1["cgnat"].as_str().is_some_and(|why| why.contains("100.64.0.")));
}

#[test]
fn two_symmetric_nats_go_direct_when_one_router_forwards_a_port() {
    let mut mapper = None;
    let pair = Pair::direct("port-mapping", |lab, internet, number| {
        let (nat, host) = natted(lab, internet, number, NatKind::Symmetric)?;
        if number == 1 {
            mapper = Some(port_mapper(&nat, "192.168.1.1", "203.0.113.11"));
        }
        Ok(host)
    });
    let pair = pair.unwrap();
    pings(pair.b.host(), INVITER, 20, Duration::from_millis(50)).unwrap().all_answered().unwrap();
    let (_, report) = netcheck(&pair.a);
    assert_eq!(
        (&report["port_mapping"]["state"], &report["reachability"]),
        (&"mapped".into(), &"public".into())
    );
    // The port is given back at the end.
    pair.a.down().unwrap();
    let mapper = mapper.unwrap();
    mapper.wait_for_line("granted 0", Duration::from_secs(5)).unwrap();
}

#[test]
fn a_public_host_is_public_and_one_behind_a_firewall_is_not() {
    let mut lab = Lab::new("firewall").unwrap();
    let internet = lab.segment("internet", "203.0.113.0/24").unwrap();
    let relay = relay(&mut lab, &internet, 3);
    let open = Node::new(lab.host("open").unwrap().on(&internet, &at(21)).unwrap(), Show::Command);
    let closed = Node::new(lab.host("closed").unwrap().on(&internet, &at(22)).unwrap(), Show::Command);
    let rules = "add table inet fw; add chain inet fw in { type filter hook input priority 0; }; \
                 add rule inet fw in iifname eth0 ct state new,invalid drop";
    closed.host().run(["nft", rules]).unwrap();
    for node in [&open, &closed] {
        init(node, std::slice::from_ref(&relay));
        node.up().unwrap();
    }
    wait_for(&closed, |report| report["reachability"] == "private");
    wait_for(&open, |report| report["reachability"] == "public");
    // libp2p leaves the connections of its tests open; ours does not.
    let left_open = || relay.host().ask("ss -Htn state established | grep -vc ':7777 '; true").unwrap();
    relay.host().wait_until("the relay has hung up", KNOWN, || left_open().trim() == "0").unwrap();
    let relayed = open.host().read(&open.dir().join("peerup.log")).unwrap();
    assert!(!relayed.contains("panicked"), "{relayed}");
}

#[test]
fn where_udp_is_blocked_netcheck_says_so_and_is_degraded() {
    let mut lab = Lab::new("udp-check").unwrap();
    let internet = lab.segment("internet", "203.0.113.0/24").unwrap();
    let relay = relay(&mut lab, &internet, 3);
    let nat = lab
        .nat("nat", NatKind::EndpointIndependent, "192.168.1.0/24")
        .unwrap()
        .on(&internet, &at(11))
        .unwrap();
    let nat = nat.block_udp().unwrap();
    let node = Node::new(lab.host("a").unwrap().behind(&nat).unwrap(), Show::Command);
    init(&node, std::slice::from_ref(&relay));
    let (code, report) = wait_for(&node, |report| report["udp"] == false);
    assert_eq!((&report["udp"], code), (&false.into(), Some(3)), "{report}");
    node.up().unwrap();
    let (_, report) = wait_for(&node, |report| report["udp"] == false);
    assert_eq!(report["grade"]["grade"], "D");
    node.host()
        .wait_until("status says it too", KNOWN, || codes(&node).contains(&"udp-blocked".to_owned()))
        .unwrap();
}

#[test]
fn machines_on_one_lan_meet_in_seconds_without_any_relay() {
    let mut lab = Lab::new("lan-only").unwrap();
    let lan = lab.segment("lan", "192.168.7.0/24").unwrap();
    let [a, b] = [("a", 2u8), ("b", 3)].map(|(name, n)| {
        Node::new(lab.host(name).unwrap().on(&lan, &format!("192.168.7.{n}")).unwrap(), Show::Command)
    });
    trust_each_other(&a, &b);
    a.up().unwrap();
    b.up().unwrap();
    let found = a.wait_for_class("b", "direct", LAN).unwrap();
    println!("a direct path {found:?} after the second up");
    let known = || a.status().is_ok_and(|status| status.peer(JOINER).is_ok());
    a.host().wait_until("b's address is known", FIRST_REPLY, known).unwrap();
    first_reply(a.host(), JOINER, FIRST_REPLY).unwrap();
    pings(b.host(), INVITER, 20, Duration::from_millis(50)).unwrap().all_answered().unwrap();
    let (code, report) = netcheck(&a);
    assert_eq!(code, Some(3), "no way out of the LAN: {report}");
    assert_eq!(report["health"][0]["code"], "no-route");
}

#[test]
fn peers_that_met_meet_again_while_the_relay_is_down() {
    let mut pair = Pair::direct("address-book", crate::neighbours).unwrap();
    let book = |node: &Node| node.host().read(&node.dir().join("addresses.json")).unwrap_or_default();
    pair.a
        .host()
        .wait_until("the address is kept", KNOWN, || book(&pair.a).contains("203.0.113.22"))
        .unwrap();
    for node in [&pair.a, &pair.b] {
        node.down().unwrap();
        // Multicast would find them, too.
        let file = node.dir().join("config.yaml");
        let text = node.host().read(&file).unwrap();
        node.host().write(&file, text.replacen("\ndiscovery:\n", "\ndiscovery:\n  mdns: off\n", 1)).unwrap();
        node.wait_for_no_daemon().unwrap();
    }
    pair.relay.kill();
    pair.up().unwrap();
    let first = first_reply(pair.a.host(), JOINER, FIRST_REPLY * 3).unwrap();
    println!("first reply {first:?} after the second up, without a relay");
}

#[test]
fn an_address_in_authorized_keys_is_enough_to_meet() {
    let mut lab = Lab::new("static-address").unwrap();
    let internet = lab.segment("internet", "203.0.113.0/24").unwrap();
    let a = Node::new(lab.host("a").unwrap().on(&internet, &at(21)).unwrap(), Show::Command);
    let nat = lab.nat("nat", NatKind::Symmetric, "192.168.1.0/24").unwrap().on(&internet, &at(12)).unwrap();
    let b = Node::new(lab.host("b").unwrap().behind(&nat).unwrap(), Show::Command);
    trust_each_other(&a, &b);
    configure(
        &a,
        "\nnetwork:\n  listen_addresses: [/ip4/0.0.0.0/udp/24001/quic-v1, /ip4/0.0.0.0/tcp/24001]\n",
    );
    let keys = b.dir().join("authorized_keys");
    let line = format!("{}  addr=/ip4/203.0.113.21/udp/24001/quic-v1  # a\n", a.id().unwrap());
    b.host().write(&keys, line).unwrap();
    a.up().unwrap();
    b.up().unwrap();
    b.wait_for_class("a", "direct", DIRECT).unwrap();
    first_reply(b.host(), INVITER, FIRST_REPLY).unwrap();
}

/// `b` and `c` have keys and the address of a server of the DHT, and nothing else: no relay, no invite, no address of
/// anybody. `a` can be reached, so it serves the DHT and relays.
#[test]
fn a_member_that_can_be_reached_is_found_in_the_dht_and_relays_for_others_that_found_it() {
    let mut lab = Lab::new("dht").unwrap();
    let internet = lab.segment("internet", "203.0.113.0/24").unwrap();
    let relay = relay(&mut lab, &internet, 3);
    let a = Node::new(lab.host("a").unwrap().on(&internet, &at(21)).unwrap(), Show::Command);
    init(&a, std::slice::from_ref(&relay));
    let hidden = ["b", "c"].map(|name| {
        let (number, inside) = if name == "b" { (12, "192.168.1.0/24") } else { (13, "192.168.2.0/24") };
        let nat = lab.nat(&format!("nat-{name}"), NatKind::Symmetric, inside).unwrap();
        let nat = nat.on(&internet, &at(number)).unwrap();
        let node = Node::new(lab.host(name).unwrap().behind(&nat).unwrap(), Show::Command);
        node.init_without_relay().unwrap();
        let file = node.dir().join("config.yaml");
        let (text, section) = (node.host().read(&file).unwrap(), "discovery:\n");
        assert!(text.contains(section), "{text}");
        let with_server = format!("{section}  bootstrap_peers: [{}]\n", relay.multiaddr());
        node.host().write(&file, text.replacen(section, &with_server, 1)).unwrap();
        relay.authorize(&node.id().unwrap(), name).unwrap();
        node
    });
    let [b, c] = &hidden;
    let nodes = [(&a, INVITER), (b, JOINER), (c, "10.64.0.3")];
    for (node, address) in nodes {
        node.fix_address(address).unwrap();
        for (other, _) in nodes.into_iter().filter(|(other, _)| other.name() != node.name()) {
            node.peerup(["auth", "add", &other.id().unwrap(), "--comment", other.name()]).unwrap();
        }
    }
    nodes.iter().for_each(|(node, _)| node.up().map(drop).unwrap());
    // Asked for after 5 s, and again after 15 and 45.
    for node in [b, c] {
        let found = node.wait_for_class("a", "direct", Duration::from_secs(90)).unwrap();
        println!("{} found a after {found:?}", node.name());
    }
    first_reply(b.host(), INVITER, FIRST_REPLY).unwrap();
    let relayed = b.wait_for_class("c", "peer-relay", Duration::from_secs(90)).unwrap();
    println!("b reaches c through a {relayed:?} later");
    first_reply(b.host(), "10.64.0.3", FIRST_REPLY).unwrap();
}

fn relay(lab: &mut Lab, internet: &Segment, number: u8) -> Relay {
    let host = lab.host(&format!("relay{number}")).unwrap().on(internet, &at(number)).unwrap();
    Relay::start(&host, &at(number), Show::Command).unwrap()
}

fn at(number: u8) -> String {
    format!("203.0.113.{number}")
}

/// Sets a node up with these relays, which know it.
fn init(node: &Node, relays: &[Relay]) {
    let addresses: Vec<String> = relays.iter().map(Relay::multiaddr).collect();
    let words = ["init", "--non-interactive", "--name", node.name()].map(str::to_owned);
    let relay_words = addresses.iter().flat_map(|address| ["--relay".to_owned(), address.clone()]);
    node.peerup(words.into_iter().chain(relay_words)).unwrap();
    let id = node.id().unwrap();
    relays.iter().for_each(|relay| relay.authorize(&id, node.name()).unwrap());
}

fn trust_each_other(a: &Node, b: &Node) {
    for (node, address) in [(a, INVITER), (b, JOINER)] {
        node.init_without_relay().unwrap();
        node.fix_address(address).unwrap();
    }
    a.peerup(["auth", "add", &b.id().unwrap(), "--comment", "b"]).unwrap();
    b.peerup(["auth", "add", &a.id().unwrap(), "--comment", "a"]).unwrap();
}

fn configure(node: &Node, more: &str) {
    let file = node.dir().join("config.yaml");
    let text = node.host().read(&file).unwrap();
    node.host().write(&file, text + more).unwrap();
}

fn netcheck(node: &Node) -> (Option<i32>, Value) {
    let output = node.cmd(["netcheck", "--json"]).unwrap().try_run().unwrap();
    let report = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
    (output.code, report)
}

fn wait_for(node: &Node, wanted: impl Fn(&Value) -> bool) -> (Option<i32>, Value) {
    let mut last = netcheck(node);
    let waited = node.host().wait_until("netcheck knows", KNOWN, || {
        last = netcheck(node);
        wanted(&last.1)
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {}\n{}", last.1, node.log()));
    last
}

/// The codes of what `status` finds wrong.
fn codes(node: &Node) -> Vec<String> {
    let status = node.status().unwrap();
    let items = status.0["health"].as_array().cloned().unwrap_or_default();
    items.iter().filter_map(|item| item["code"].as_str().map(str::to_owned)).collect()
}

fn degraded(mapping: &str) -> Option<i32> {
    Some(if mapping == "endpoint-independent" { 0 } else { 3 })
}

fn stun_server(host: &Host) -> Process {
    started(host.spawn([lab_tool(), "stun".into(), "3478".into()]).unwrap())
}

fn port_mapper(nat: &Nat, inside: &str, outside: &str) -> Process {
    let words = [lab_tool(), "nat-pmp".into(), inside.into(), outside.into()];
    started(nat.router().spawn(words).unwrap())
}

fn lab_tool() -> String {
    tool().unwrap().display().to_string()
}

fn started(process: Process) -> Process {
    process.wait_for_line("ready", Duration::from_secs(5)).unwrap();
    process
}
