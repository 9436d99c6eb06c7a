//! Members that relay for other members: `a` has a public address, `b` and `c` are behind NATs.

use std::time::Duration;

use anyhow::{Context, Result};
use peerup_lab::peerup::{Node, Relay};
use peerup_lab::tools::capture::Capture;
use peerup_lab::tools::iperf::Iperf;
use peerup_lab::tools::ping::{Pings, first_reply, ping, pings};
use peerup_lab::{Lab, NatKind, Segment, Show, tail};

use crate::limits::{DIRECT, RELAY_TAKES_OVER, RETRIED};

const A: &str = "10.64.0.1";
const B: &str = "10.64.0.2";
const C: &str = "10.64.0.3";
/// Where `a` listens.
const A_PORT: u16 = 24001;
/// Three daemons come up and find each other.
const MEET: Duration = Duration::from_secs(20);
/// A first punch may come before both NATs' mappings are known; the next one is due within a minute.
const PUNCHED: Duration = Duration::from_secs(75);
/// Twelve bytes that no cipher produces by chance: 16 of ping's pattern repeat in every payload.
const PATTERN: &str = "9f3ac1d277e40b586d1cf0a2";
const PATTERN_BYTES: [u8; 12] = [0x9f, 0x3a, 0xc1, 0xd2, 0x77, 0xe4, 0x0b, 0x58, 0x6d, 0x1c, 0xf0, 0xa2];

#[test]
fn without_any_relay_server_two_homes_meet_over_a_member_and_go_direct() {
    let trio = Trio::without_server("peer-relay", NatKind::EndpointIndependent, "").unwrap();
    trio.up().unwrap();
    let first = first_reply(trio.b.host(), C, MEET).with_context(|| trio.logs()).unwrap();
    println!("first reply {first:?} after the last up");
    // A punch needs both sides to have agreed on it, and there is nothing but `a` to agree over.
    let direct = trio.b.wait_for_class("c", "direct", PUNCHED).with_context(|| trio.logs()).unwrap();
    println!("direct after {direct:?}");
    let opened = trio.a.status().unwrap().0["relaying"]["circuits_opened"].as_u64();
    assert!(opened.is_some_and(|circuits| circuits > 0), "{opened:?}");
    pings(trio.b.host(), C, 50, Duration::from_millis(20)).unwrap().all_answered().unwrap();
}

#[test]
fn a_member_relays_what_it_cannot_read_and_says_how_much() {
    let trio = Trio::without_server("peer-relay-wire", NatKind::Symmetric, "").unwrap();
    trio.up().unwrap();
    trio.meet("peer-relay");
    let inside = Capture::start(trio.b.host(), "peerup0").unwrap();
    let overlay = Capture::start(trio.a.host(), "peerup0").unwrap();
    let wire = Capture::start(trio.a.host(), "eth0").unwrap();
    let before = relaying(&trio.a, "bytes");
    trio.b.host().run(["ping", "-q", "-c", "50", "-i", "0.02", "-s", "1000", "-p", PATTERN, C]).unwrap();
    assert_eq!(trio.b.class("c"), "peer-relay");
    assert!(inside.stop().unwrap().contain(&PATTERN_BYTES), "the witness itself is broken");
    let frames = wire.stop().unwrap();
    assert!(frames.len() >= 200, "{} frames carried 50 pings in and out", frames.len());
    assert!(!frames.contain(&PATTERN_BYTES), "plaintext at the peer relay");
    assert!(!overlay.stop().unwrap().contain(&PATTERN_BYTES), "packets of others on the interface");
    // 50 kB there and 50 kB back, and what TLS, yamux and the frames add.
    let carried = relaying(&trio.a, "bytes") - before;
    assert!((100_000..250_000).contains(&carried), "{carried} bytes counted");
    assert!(relaying(&trio.a, "reservations") >= 2 && relaying(&trio.a, "circuits") >= 1);
    let text = trio.a.peerup(["status"]).unwrap().stdout;
    assert!(text.contains("relaying for peers: "), "{text}");

    let trace = trio.b.peerup(["traceroute", "c", "--json"]).unwrap().stdout;
    let trace: serde_json::Value = serde_json::from_str(&trace).unwrap();
    assert_eq!(
        (trace["path"].as_str(), trace["hops"].as_array().unwrap().len()),
        (Some("RELAYED"), 2),
        "{trace}"
    );
    assert_eq!(trace["hops"][0]["peer_id"].as_str().unwrap(), trio.a.id().unwrap());
    let rtts: Vec<f64> = (0..2).map(|hop| trace["hops"][hop]["rtt_ms"].as_f64().unwrap()).collect();
    assert!(rtts.iter().all(|rtt| *rtt > 0.0), "{trace}");
    let direct = trio.b.peerup(["traceroute", "a"]).unwrap().stdout;
    assert!(direct.starts_with(" 1  ") && direct.contains("--- path: [DIRECT] ---"), "{direct}");
}

#[test]
fn a_peer_relay_ranks_above_the_server_and_each_takes_over_from_the_other() {
    let mut trio = Trio::with_server("peer-relay-server", NatKind::Symmetric).unwrap();
    for node in [&trio.b, &trio.c] {
        node.up().unwrap();
    }
    first_reply(trio.b.host(), C, MEET).with_context(|| trio.logs()).unwrap();
    assert_eq!(trio.b.class("c"), "relay");
    // The member comes, and the traffic moves to it without a loss.
    let mut stream = ping(trio.b.host(), C, 750, Duration::from_millis(20)).spawn().unwrap();
    trio.a.up().unwrap();
    trio.meet("peer-relay");
    let moved = Pings::parse(&stream.wait(Duration::from_secs(40)).unwrap(), 750).unwrap();
    moved.all_answered().with_context(|| trio.logs()).unwrap();
    // It dies, and the server takes over.
    let mut stream = ping(trio.b.host(), C, 500, Duration::from_millis(20)).spawn().unwrap();
    trio.a.kill_daemon().unwrap();
    let took = trio.b.wait_for_class("c", "relay", RELAY_TAKES_OVER).with_context(|| trio.logs()).unwrap();
    let survived = Pings::parse(&stream.wait(Duration::from_secs(40)).unwrap(), 500).unwrap();
    println!("the server took over after {took:?}; {} of {} answered", survived.received, survived.sent);
    // It comes back, the server dies, and the traffic stays with it. There were three changes within a minute, so the
    // next one that only gains something waits for that minute to pass.
    trio.a.up().unwrap();
    for (node, peer) in [(&trio.b, "c"), (&trio.c, "b")] {
        node.wait_for_class(peer, "peer-relay", RETRIED).with_context(|| trio.logs()).unwrap();
    }
    let mut stream = ping(trio.b.host(), C, 250, Duration::from_millis(20)).spawn().unwrap();
    trio.server.as_mut().unwrap().kill();
    let stayed = Pings::parse(&stream.wait(Duration::from_secs(40)).unwrap(), 250).unwrap();
    stayed.all_answered().with_context(|| trio.logs()).unwrap();
    assert_eq!(trio.b.class("c"), "peer-relay");
}

#[test]
fn when_the_server_dies_under_traffic_a_member_that_begins_to_relay_takes_over() {
    let mut trio = Trio::with_server("peer-relay-rescue", NatKind::Symmetric).unwrap();
    trio.set_relay_service("off").unwrap();
    trio.up().unwrap();
    trio.meet("relay");
    // Who has never met the member cannot find it without the server.
    for node in [&trio.b, &trio.c] {
        node.wait_for_class("a", "direct", MEET).unwrap();
    }
    assert_eq!(trio.a.status().unwrap().0["relaying"]["active"], false);
    let mut stream = ping(trio.b.host(), C, 750, Duration::from_millis(20)).spawn().unwrap();
    trio.server.as_mut().unwrap().kill();
    // Read again by the running daemon.
    trio.set_relay_service("on").unwrap();
    let took =
        trio.b.wait_for_class("c", "peer-relay", RELAY_TAKES_OVER).with_context(|| trio.logs()).unwrap();
    let pings = Pings::parse(&stream.wait(Duration::from_secs(40)).unwrap(), 750).unwrap();
    println!("the member took over after {took:?}; {} of {} answered", pings.received, pings.sent);
    assert!(pings.received > 250, "{} of {}", pings.received, pings.sent);
}

#[test]
fn a_member_that_does_not_relay_refuses_and_one_that_is_off_says_so() {
    let trio = Trio::without_server("peer-relay-off", NatKind::Symmetric, "  relay_service: off\n").unwrap();
    trio.up().unwrap();
    first_reply(trio.b.host(), A, MEET).with_context(|| trio.logs()).unwrap();
    first_reply(trio.c.host(), A, MEET).unwrap();
    let nothing = pings(trio.b.host(), C, 15, Duration::from_millis(200)).unwrap();
    assert_eq!(nothing.received, 0);
    let relaying = &trio.a.status().unwrap().0["relaying"];
    assert_eq!((&relaying["active"], &relaying["reason"]), (&false.into(), &"switched off".into()));
    assert_eq!(relaying["circuits_opened"], 0);
    assert_ne!(trio.b.status().unwrap().0["relays"][0]["state"], "reserved");
}

#[test]
fn limits_of_a_peer_relay_hold_and_a_stranger_gets_nothing() {
    let limits = "  relay_circuits: 1\n  relay_reservations: 1\n  relay_rate: 256KB\n";
    let mut trio = Trio::without_server("peer-relay-limits", NatKind::Symmetric, limits).unwrap();
    trio.up().unwrap();
    trio.meet("peer-relay");
    // Room for one reservation and one circuit: one of the two reserves, the other one opens the circuit.
    let used = ["reservations", "circuits"].map(|key| relaying(&trio.a, key));
    assert_eq!(used, [1, 1]);
    let refused = || trio.a.status().unwrap().0["relaying"]["refused"]["limit"].as_u64().unwrap_or(0);
    trio.a.host().wait_until("a refused somebody", MEET, || refused() > 0).unwrap();
    // 256 KiB/s are 2.1 Mbit/s, and iperf3 counts what TCP carries.
    let figures = Iperf::on(trio.c.host()).tcp(trio.b.host(), C, 6).unwrap();
    println!("{:.2} Mbit/s through a relay of 2.1", figures.mbit);
    assert!((0.5..2.6).contains(&figures.mbit), "{} Mbit/s", figures.mbit);

    let host = trio.lab.host("stranger").unwrap().on(&trio.internet, "203.0.113.66").unwrap();
    let stranger = Node::new(host, Show::Command);
    stranger.init(&trio.a_address("tcp").unwrap()).unwrap();
    let keys = format!("{}  ip={A}  # a\n{}  ip={C}  # c\n", trio.a.id().unwrap(), trio.c.id().unwrap());
    stranger.host().write(&stranger.dir().join("authorized_keys"), keys).unwrap();
    stranger.fix_address("10.64.0.66").unwrap();
    stranger.up().unwrap();
    let refused = || trio.a.log().contains("inbound connection refused");
    trio.a.host().wait_until("a refuses the stranger", DIRECT, refused).unwrap();
    assert_eq!(pings(stranger.host(), C, 3, Duration::from_millis(200)).unwrap().received, 0);
    assert_ne!(stranger.status().unwrap().0["relays"][0]["state"], "reserved");
    assert_eq!(relaying(&trio.a, "reservations"), 1, "b or c");
}

#[test]
fn of_two_relay_servers_one_stands_by_and_takes_over() {
    let mut trio = Trio::with_server("two-servers", NatKind::Symmetric).unwrap();
    let vps = trio.lab.host("relay2").unwrap().on(&trio.internet, "203.0.113.4").unwrap();
    let mut second = Relay::start(&vps, "203.0.113.4", Show::Command).unwrap();
    for node in [&trio.b, &trio.c] {
        node.peerup(["relay", "add", &second.multiaddr()]).unwrap();
        second.authorize(&node.id().unwrap(), node.name()).unwrap();
        node.up().unwrap();
    }
    first_reply(trio.b.host(), C, MEET).with_context(|| trio.logs()).unwrap();
    let states = |node: &Node| -> Vec<String> {
        let status = node.status().unwrap().0;
        let relays = status["relays"].as_array().cloned().unwrap_or_default();
        let mut states: Vec<String> =
            relays.iter().map(|relay| relay["state"].as_str().unwrap_or_default().to_owned()).collect();
        states.sort();
        states
    };
    let both = || states(&trio.b) == ["reserved", "standby"];
    trio.b.host().wait_until("b holds two reservations", MEET, both).unwrap();
    let mut stream = ping(trio.b.host(), C, 500, Duration::from_millis(20)).spawn().unwrap();
    // Whichever is at work: the relay of the path.
    let used = trio.b.status().unwrap().0["peers"].clone();
    let used =
        used.as_array().unwrap().iter().find(|peer| peer["name"] == "c").unwrap()["path"]["relay"].clone();
    if used == second.id.as_str() {
        second.kill();
    } else {
        trio.server.as_mut().unwrap().kill();
    }
    let left = || states(&trio.b).contains(&"reserved".to_owned()) && !both();
    trio.b.host().wait_until("the other one is active", RELAY_TAKES_OVER, left).unwrap();
    let pings = Pings::parse(&stream.wait(Duration::from_secs(40)).unwrap(), 500).unwrap();
    println!("{} of {} answered across the loss of the active relay", pings.received, pings.sent);
    assert!(pings.received > 350, "{} of {}", pings.received, pings.sent);
}

struct Trio {
    a: Node,
    b: Node,
    c: Node,
    server: Option<Relay>,
    internet: Segment,
    lab: Lab,
}

impl Trio {
    /// Nobody knows a relay server; `b` and `c` know where `a` is. `network` are further lines for `a`'s network.
    fn without_server(name: &str, kind: NatKind, network: &str) -> Result<Self> {
        let trio = Self::placed(name, kind)?;
        trio.a.peerup(["init", "--non-interactive", "--name", "a"])?;
        let listen = format!(
            "\nnetwork:\n  listen_addresses:\n    - /ip4/0.0.0.0/tcp/{A_PORT}\n    - /ip4/0.0.0.0/udp/{A_PORT}/quic-v1\n{network}"
        );
        append(&trio.a, &listen)?;
        for node in [&trio.b, &trio.c] {
            node.peerup([
                "init",
                "--non-interactive",
                "--name",
                node.name(),
                "--relay",
                &trio.a_address("tcp")?,
            ])?;
        }
        trio.trust()?;
        Ok(trio)
    }

    /// All know a relay server, and nobody the addresses of the others.
    fn with_server(name: &str, kind: NatKind) -> Result<Self> {
        let mut trio = Self::placed(name, kind)?;
        let vps = trio.lab.host("relay")?.on(&trio.internet, "203.0.113.3")?;
        let server = Relay::start(&vps, "203.0.113.3", Show::Command)?;
        for node in trio.nodes() {
            node.init(&server.multiaddr())?;
            server.authorize(&node.id()?, node.name())?;
        }
        trio.server = Some(server);
        trio.trust()?;
        Ok(trio)
    }

    fn placed(name: &str, kind: NatKind) -> Result<Self> {
        let mut lab = Lab::new(name)?;
        let internet = lab.segment("internet", "203.0.113.0/24")?;
        let a = Node::new(lab.host("a")?.on(&internet, "203.0.113.20")?, Show::Command);
        let mut home = |number: u8, name: &str| -> Result<Node> {
            let nat = lab.nat(&format!("nat{number}"), kind, &format!("192.168.{number}.0/24"))?;
            let nat = nat.on(&internet, &format!("203.0.113.{}", 10 + number))?;
            Ok(Node::new(lab.host(name)?.behind(&nat)?, Show::Command))
        };
        let (b, c) = (home(2, "b")?, home(3, "c")?);
        Ok(Self { a, b, c, server: None, internet, lab })
    }

    fn nodes(&self) -> [&Node; 3] {
        [&self.a, &self.b, &self.c]
    }

    fn a_address(&self, transport: &str) -> Result<String> {
        Ok(format!("/ip4/203.0.113.20/{transport}/{A_PORT}/p2p/{}", self.a.id()?))
    }

    /// Everybody trusts everybody, by hand.
    fn trust(&self) -> Result<()> {
        let ids = [(&self.a, A), (&self.b, B), (&self.c, C)].map(|(node, ip)| (node.id(), ip, node.name()));
        let lines = ids.map(|(id, ip, name)| id.map(|id| format!("{id}  ip={ip}  # {name}\n")));
        let [a, b, c] = lines;
        let lines = [a?, b?, c?];
        for (own, (node, ip)) in [(&self.a, A), (&self.b, B), (&self.c, C)].into_iter().enumerate() {
            let others: String =
                lines.iter().enumerate().filter(|(n, _)| *n != own).map(|(_, line)| line.as_str()).collect();
            node.host().write(&node.dir().join("authorized_keys"), others)?;
            node.fix_address(ip)?;
        }
        Ok(())
    }

    fn up(&self) -> Result<()> {
        self.nodes().into_iter().try_for_each(|node| node.up().map(drop))
    }

    /// Waits until `b` and `c` reach each other over this class of path.
    fn meet(&self, class: &str) {
        first_reply(self.b.host(), C, MEET).with_context(|| self.logs()).unwrap();
        self.b.wait_for_class("c", class, MEET).with_context(|| self.logs()).unwrap();
        self.c.wait_for_class("b", class, MEET).with_context(|| self.logs()).unwrap();
    }

    fn set_relay_service(&self, service: &str) -> Result<()> {
        let file = self.a.dir().join("config.yaml");
        let text = self.a.host().read(&file)?;
        let kept = text.split("\nnetwork:").next().unwrap_or_default();
        self.a.host().write(&file, format!("{kept}\nnetwork:\n  relay_service: {service}\n"))
    }

    fn logs(&self) -> String {
        self.nodes()
            .map(|node| format!("--- peerup.log of {}\n{}", node.name(), tail(&node.log(), 40)))
            .concat()
    }
}

fn append(node: &Node, lines: &str) -> Result<()> {
    let file = node.dir().join("config.yaml");
    let text = node.host().read(&file)?;
    node.host().write(&file, text + lines)
}

/// A number in `status`'s `relaying`.
fn relaying(node: &Node, key: &str) -> u64 {
    node.status().unwrap().0["relaying"][key].as_u64().unwrap_or_default()
}
