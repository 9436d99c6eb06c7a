//! An authorised peer that misbehaves: refused, counted, and nobody else notices.

use std::time::Duration;

use peerup_lab::peerup::{JOINER, Mallory, Node, Pair, Reaction};
use peerup_lab::tools::capture::Capture;
use peerup_lab::tools::ping::{gaps, ping};
use peerup_lab::{Show, Signal};

use crate::limits::AT_ONCE;
use crate::refusals::tcp_port;

const MALLORY: &str = "10.64.0.66";

/// What Mallory's pings carry.
const PAYLOAD: &[u8] = b"peerup mallory! ";

#[test]
fn packets_that_lie_are_refused_and_counted_and_honest_ones_of_the_same_peer_pass() {
    let siege = Siege::new("lying-packets", Underlay::Tcp);
    let capture = Capture::start(siege.pair.a.host(), "peerup0").unwrap();
    // Five rounds each: three foreign sources, as packets and as super-packets.
    assert_eq!(siege.commit("spoof"), Reaction::Answered);
    siege.counts("spoofed", 30);
    // Two foreign destinations.
    assert_eq!(siege.commit("misroute"), Reaction::Answered);
    siege.counts("not-for-us", 10);
    // Three kinds of bytes that are no packet.
    assert_eq!(siege.commit("nonsense"), Reaction::Answered);
    siege.counts("malformed", 15);

    let frames = capture.stop().unwrap();
    let arrived = |source: [u8; 4], destination: [u8; 4]| {
        let addresses = [source, destination].concat();
        frames.iter().any(|frame| contains(frame, &addresses) && contains(frame, PAYLOAD))
    };
    let (a, b, mallory, elsewhere) = ([10, 64, 0, 1], [10, 64, 0, 2], [10, 64, 0, 66], [192, 0, 2, 99]);
    assert!(arrived(mallory, a), "not even honest packets are seen");
    for (source, destination) in [(b, a), (a, a), (elsewhere, a), (mallory, b), (mallory, elsewhere)] {
        assert!(!arrived(source, destination), "{source:?} to {destination:?} arrived");
    }
}

#[test]
fn super_packets_whose_headers_lie_never_reach_the_kernel() {
    let siege = Siege::new("super-packets", Underlay::Quic);
    let capture = Capture::start(siege.pair.a.host(), "peerup0").unwrap();
    assert_eq!(siege.commit("super-packet"), Reaction::Answered);
    // Five rounds of four headers and one body that is too short for any.
    siege.counts("malformed", 25);
    let frames = capture.stop().unwrap();
    let requests = frames.iter().filter(|frame| frame.starts_with(&[0x45]) && contains(frame, PAYLOAD));
    // The two honest pings and their answers.
    assert_eq!(requests.count(), 4);
}

#[test]
fn streams_that_carry_no_frames_are_closed_and_counted() {
    let siege = Siege::new("no-frames", Underlay::Tcp);
    assert_eq!(siege.commit("too-long"), Reaction::Closed);
    siege.counts("frame-malformed", 1);
    assert_eq!(siege.commit("noise"), Reaction::Closed);
    siege.counts("frame-malformed", 2);
    // A stream that just ends is no offence, and the end of its path.
    assert_eq!(siege.commit("truncate"), Reaction::Closed);
    siege.counts("frame-malformed", 2);
}

#[test]
fn hellos_that_are_none_are_refused_before_anything_is_stored() {
    let siege = Siege::new("no-hello", Underlay::Quic);
    assert_eq!(siege.commit("long-hello"), Reaction::Closed);
    assert_eq!(siege.commit("silence"), Reaction::Answered);
    let before = siege.memory_mib();
    assert_eq!(siege.commit("silent-streams"), Reaction::Answered);
    let grown = siege.memory_mib() - before;
    println!("two hundred silent streams: {grown:.1} MiB");
    assert!(grown < 32.0, "{grown} MiB for streams that say nothing");
}

#[test]
fn a_flood_of_control_messages_costs_nobody_else_anything() {
    let siege = Siege::new("flood", Underlay::Tcp);
    let wire = Capture::start(siege.pair.a.host(), "eth0").unwrap();
    let before = siege.memory_mib();
    // Thirty thousand messages, half of which ask to dial a bystander.
    assert_eq!(siege.commit("flood"), Reaction::Answered);
    let grown = siege.memory_mib() - before;
    println!("flood: {grown:.1} MiB");
    assert!(grown < 32.0, "{grown} MiB after a flood");
    // The victim sends the bystander no more than an honest peer could make it: one attempt in five seconds.
    let to_bystander = wire.stop().unwrap().iter().filter(|frame| contains(frame, &BYSTANDER)).count();
    println!("flood: {to_bystander} packets to the bystander");
    assert!(to_bystander <= 20, "{to_bystander} packets to the bystander");
}

/// On the segment, and nobody's.
const BYSTANDER: [u8; 4] = [203, 0, 113, 77];

#[derive(Clone, Copy)]
enum Underlay {
    Tcp,
    Quic,
}

/// a is Mallory's victim, b is a's honest peer.
struct Siege {
    mallory: Mallory,
    pair: Pair,
}

impl Siege {
    fn new(name: &str, underlay: Underlay) -> Self {
        let mut pair = Pair::direct(name, crate::neighbours).unwrap();
        let host = pair.lab.host("mallory").unwrap().on(&pair.internet, "203.0.113.66").unwrap();
        let node = Node::new(host, Show::Command);
        node.init(&pair.relay.multiaddr()).unwrap();
        let port = tcp_port(pair.a.host());
        let address = match underlay {
            Underlay::Tcp => format!("/ip4/203.0.113.21/tcp/{port}"),
            Underlay::Quic => format!("/ip4/203.0.113.21/udp/{port}/quic-v1"),
        };
        let mallory = Mallory::trusted(node, MALLORY, &pair.a, &address, JOINER).unwrap();
        Self { mallory, pair }
    }

    /// Lets Mallory loose while a and b ping each other; they must not lose one.
    fn commit(&self, mischief: &str) -> Reaction {
        let stream = ping(self.pair.a.host(), JOINER, 5000, Duration::from_millis(20)).show(Show::Nothing);
        let mut stream = stream.spawn().unwrap();
        let reaction = self.mallory.commit(mischief).unwrap();
        stream.signal(Signal::SIGINT);
        let lost = gaps(&stream.wait(Duration::from_secs(5)).unwrap());
        assert!(lost.is_empty(), "lost while {mischief}: {lost:?}");
        reaction
    }

    /// a says how much it refused, and why.
    fn counts(&self, reason: &str, expected: u64) {
        let refused = || self.pair.a.status().map_or(0, |status| status.refused(reason));
        let waited =
            self.pair.a.host().wait_until("the refusals are counted", AT_ONCE, || refused() >= expected);
        assert!(waited.is_ok() && refused() == expected, "{reason}: {} of {expected}", refused());
    }

    fn memory_mib(&self) -> f64 {
        self.pair.a.rss_mib().unwrap()
    }
}

fn contains(frame: &[u8], bytes: &[u8]) -> bool {
    frame.windows(bytes.len()).any(|window| window == bytes)
}
