//! Which carrier a packet takes where a path offers both a reliable stream and datagrams.
//!
//! A stream repeats what the network lost, so TCP inside it never sees the loss; but whoever needs no repair waits behind
//! it. Datagrams keep nobody waiting and repair nothing. So:
//! - What is not TCP (UDP, ICMP, the rest) takes datagrams, as it would without a tunnel, if it fits into one.
//! - TCP takes the stream. On a path that is far or loses packets, a connection that has said little for a while
//!   (keystrokes, requests, keep-alives) takes datagrams: what it says is repaired by its own end, without waiting for the
//!   repair of somebody's bulk transfer. One larger packet and it is back on the stream.
//!
//! # Order
//! Packets of a flow that change carrier may overtake each other in one direction only: datagrams are faster. Leaving
//! datagrams for the stream is safe at any time. Leaving the stream is for TCP connections that have been thin for
//! [`THIN_FOR`], on paths that reorder anyway, and for other flows once the path has been settled for [`SETTLED`].
//!
//! Flows are told apart by a hash; those that share a bucket are treated as one, whose order is kept all the same.

use std::time::{Duration, Instant};

use peerup_packet::{IpPacket, protocol};
use peerup_types::CarrierChoice;

/// Farther than a building and its access line: here the repair of a loss takes longer than anybody types.
const FAR: Duration = Duration::from_millis(5);
/// Loss that is not a queue's own doing (lossy-link measurements: below it, carriers are alike), and how many lost packets
/// make a judgement.
const LOSSY: f64 = 0.001;
const ENOUGH_LOST: u64 = 3;
/// How often the path is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A TCP packet that is longer carries data of a transfer. Keystrokes, their echo and most requests are shorter.
const SMALL: usize = 600;
/// Bytes per second of small packets that still are a conversation. Acknowledgements of a fast transfer are more.
const THIN_BYTES: usize = 16 * 1024;
const PER: Duration = Duration::from_secs(1);
/// How long a TCP connection has to be thin before it leaves the stream.
const THIN_FOR: Duration = Duration::from_secs(1);
/// After a change of path, what the old one still brings is older than this.
const SETTLED: Duration = Duration::from_secs(1);
/// A flow that was quiet for so long begins anew.
const FORGOTTEN: Duration = Duration::from_secs(60);
const BUCKETS: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    Stream,
    Datagram,
}

/// What a connection of the path says about it. Counts are since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathFigures {
    pub rtt: Duration,
    pub sent: u64,
    pub lost: u64,
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    carrier: Carrier,
    last: Option<Instant>,
    thin_since: Instant,
    second: Instant,
    bytes: usize,
}

/// The flows to one peer and what they ride on.
#[derive(Debug)]
pub struct Carriers {
    choice: CarrierChoice,
    /// Made when the first packet has a choice.
    flows: Vec<Flow>,
    settled_at: Option<Instant>,
    rough: bool,
    look_at: Option<Instant>,
    seen: PathFigures,
}

impl Carriers {
    pub fn new(choice: CarrierChoice) -> Self {
        let seen = PathFigures { rtt: Duration::ZERO, sent: 0, lost: 0 };
        Self { choice, flows: Vec::new(), settled_at: None, rough: false, look_at: None, seen }
    }

    pub fn choose(&mut self, choice: CarrierChoice) {
        self.choice = choice;
    }

    /// Whether [`Self::note_path`] is due.
    pub fn wants_figures(&self, now: Instant) -> bool {
        self.choice == CarrierChoice::Auto && self.look_at.is_none_or(|at| at <= now)
    }

    /// What is known of the path at the moment.
    pub fn note_path(&mut self, figures: PathFigures, now: Instant) {
        self.look_at = Some(now + LOOK_EVERY);
        // A new connection counts from zero.
        if figures.sent < self.seen.sent {
            self.seen = PathFigures { rtt: figures.rtt, sent: 0, lost: 0 };
        }
        let lost = figures.lost.saturating_sub(self.seen.lost);
        let sent = figures.sent - self.seen.sent;
        let lossy = lost >= ENOUGH_LOST && lost as f64 >= sent as f64 * LOSSY;
        // A stretch without enough losses goes on, so that rare ones add up; a verdict begins a new one.
        if lost >= ENOUGH_LOST || sent >= (ENOUGH_LOST as f64 / LOSSY) as u64 {
            self.seen = figures;
        }
        self.rough = figures.rtt >= FAR || lossy || (self.rough && lost > 0);
    }

    /// Packets take another path from here on.
    pub fn path_changed(&mut self, now: Instant) {
        self.settled_at = Some(now + SETTLED);
        self.look_at = None;
    }

    /// The carrier of a packet. `longest` is its length, or that of the packets it will be cut into; `room` what a
    /// datagram holds.
    pub fn carrier_of(
        &mut self,
        packet: &IpPacket<'_>,
        longest: usize,
        room: usize,
        now: Instant,
    ) -> Carrier {
        let fits = longest <= room;
        match self.choice {
            CarrierChoice::Stream => return Carrier::Stream,
            CarrierChoice::Datagram if fits => return Carrier::Datagram,
            CarrierChoice::Datagram => return Carrier::Stream,
            CarrierChoice::Auto => {}
        }
        let tcp = packet.protocol() == protocol::TCP;
        if tcp && !self.rough {
            // Nothing is remembered: the flow counts as new should the path become rough.
            return Carrier::Stream;
        }
        let settled = self.settled_at.is_none_or(|at| at <= now);
        let flow = self.flow(packet.flow_key().get(), now);
        let new = flow.last.is_none();
        flow.last = Some(now);
        let wanted = match tcp {
            true => flow.note_tcp(packet.as_bytes().len(), now),
            false => Carrier::Datagram,
        };
        flow.carrier = match wanted {
            Carrier::Datagram if !fits => Carrier::Stream,
            // It waits for what the old path still brings.
            Carrier::Datagram if !new && !settled => flow.carrier,
            wanted => wanted,
        };
        flow.carrier
    }

    fn flow(&mut self, hash: u64, now: Instant) -> &mut Flow {
        if self.flows.is_empty() {
            let unused =
                Flow { carrier: Carrier::Stream, last: None, thin_since: now, second: now, bytes: 0 };
            self.flows.resize(BUCKETS, unused);
        }
        let flow = &mut self.flows[hash as usize % BUCKETS];
        if flow.last.is_none_or(|last| last + FORGOTTEN <= now) {
            *flow = Flow { carrier: Carrier::Stream, last: None, thin_since: now, second: now, bytes: 0 };
        }
        flow
    }
}

impl Flow {
    fn note_tcp(&mut self, len: usize, now: Instant) -> Carrier {
        if self.second + PER <= now {
            (self.second, self.bytes) = (now, 0);
        }
        self.bytes += len;
        if len > SMALL || self.bytes > THIN_BYTES {
            self.thin_since = now;
        }
        match self.thin_since + THIN_FOR <= now {
            true => Carrier::Datagram,
            false => Carrier::Stream,
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
#[allow(clippy::unwrap_used, reason = "a test says what it expects")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOM: usize = 1400;
    const MS: Duration = Duration::from_millis(1);
    const CALM: PathFigures = PathFigures { rtt: Duration::from_micros(300), sent: 1000, lost: 0 };
    const DISTANT: PathFigures = PathFigures { rtt: Duration::from_millis(40), sent: 1000, lost: 0 };

    struct Rig {
        carriers: Carriers,
        now: Instant,
    }

    impl Rig {
        fn on(figures: PathFigures) -> Self {
            let now = Instant::now();
            let mut carriers = Carriers::new(CarrierChoice::Auto);
            carriers.note_path(figures, now);
            Self { carriers, now }
        }

        fn send(&mut self, protocol: u8, port: u16, len: usize) -> Carrier {
            let bytes = packet(protocol, port, len);
            let packet = IpPacket::parse(&bytes).unwrap();
            self.carriers.carrier_of(&packet, len, ROOM, self.now)
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }
    }

    fn packet(protocol: u8, port: u16, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len.max(40)];
        bytes[0] = 0x45;
        let total = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        bytes[9] = protocol;
        bytes[12..20].copy_from_slice(&[10, 64, 0, 1, 10, 64, 0, 2]);
        bytes[20..22].copy_from_slice(&port.to_be_bytes());
        bytes
    }

    #[test]
    fn what_is_not_tcp_takes_datagrams_where_it_fits() {
        for path in [CALM, DISTANT] {
            let mut rig = Rig::on(path);
            for protocol in [protocol::ICMP, protocol::UDP, protocol::SCTP, 50] {
                assert_eq!(rig.send(protocol, 1, 1200), Carrier::Datagram);
            }
            assert_eq!(rig.send(protocol::UDP, 1, ROOM + 1), Carrier::Stream);
        }
    }

    #[test]
    fn tcp_stays_on_the_stream_of_a_calm_path_however_little_it_says() {
        let mut rig = Rig::on(CALM);
        for _ in 0..100 {
            rig.pass(100 * MS);
            assert_eq!(rig.send(protocol::TCP, 22, 100), Carrier::Stream);
        }
    }

    #[test]
    fn on_a_rough_path_a_conversation_takes_datagrams_after_a_second_and_a_transfer_never_does() {
        let mut rig = Rig::on(DISTANT);
        assert_eq!(rig.send(protocol::TCP, 22, 60), Carrier::Stream, "a lost SYN would cost a second");
        for _ in 0..11 {
            rig.pass(100 * MS);
            rig.send(protocol::TCP, 22, 100);
            assert_eq!(rig.send(protocol::TCP, 80, 1400), Carrier::Stream);
        }
        assert_eq!(rig.send(protocol::TCP, 22, 100), Carrier::Datagram);
        assert_eq!(rig.send(protocol::TCP, 22, 1300), Carrier::Stream, "a page of output");
        assert_eq!(rig.send(protocol::TCP, 22, 100), Carrier::Stream, "not ahead of it");
        rig.pass(1001 * MS);
        assert_eq!(rig.send(protocol::TCP, 22, 100), Carrier::Datagram);
    }

    #[test]
    fn acknowledgements_of_a_fast_transfer_are_no_conversation() {
        let mut rig = Rig::on(DISTANT);
        for _ in 0..5000 {
            rig.pass(MS);
            assert_eq!(rig.send(protocol::TCP, 80, 60), Carrier::Stream);
        }
    }

    #[test]
    fn losses_make_a_short_path_rough_and_their_end_makes_it_calm() {
        let mut rig = Rig::on(CALM);
        let mut figures = CALM;
        let mut look = |rig: &mut Rig, sent, lost| {
            figures = PathFigures { sent: figures.sent + sent, lost: figures.lost + lost, ..figures };
            rig.pass(LOOK_EVERY);
            assert!(rig.carriers.wants_figures(rig.now));
            rig.carriers.note_path(figures, rig.now);
            rig.carriers.rough
        };
        assert!(!look(&mut rig, 1000, 2), "two lost packets are chance");
        assert!(look(&mut rig, 1000, 8));
        assert!(!look(&mut rig, 10_000, 0));
        assert!(!look(&mut rig, 1_000_000, 20), "a queue that was full now and then");
    }

    #[test]
    fn a_flow_that_lived_on_the_stream_waits_until_a_new_path_has_settled() {
        let mut rig = Rig::on(DISTANT);
        assert_eq!(rig.send(protocol::UDP, 7, ROOM + 1), Carrier::Stream);
        rig.carriers.path_changed(rig.now);
        rig.pass(10 * MS);
        assert_eq!(rig.send(protocol::UDP, 7, 200), Carrier::Stream);
        assert_eq!(rig.send(protocol::UDP, 8, 200), Carrier::Datagram, "a new flow has nothing to overtake");
        rig.pass(SETTLED);
        assert_eq!(rig.send(protocol::UDP, 7, 200), Carrier::Datagram);
    }

    #[test]
    fn a_choice_is_followed() {
        let mut rig = Rig::on(DISTANT);
        rig.carriers.choose(CarrierChoice::Stream);
        assert_eq!(rig.send(protocol::ICMP, 0, 84), Carrier::Stream);
        rig.carriers.choose(CarrierChoice::Datagram);
        assert_eq!(rig.send(protocol::TCP, 0, ROOM), Carrier::Datagram);
        assert_eq!(rig.send(protocol::TCP, 0, ROOM + 1), Carrier::Stream);
    }

    proptest! {
        /// Nothing that does not fit is ever given to a datagram, and on a calm path no TCP packet is.
        #[test]
        fn datagrams_get_only_what_they_may(
            packets in prop::collection::vec((any::<bool>(), 0..50u16, 40..3000usize, 0..500u64), 1..300),
            rough: bool,
        ) {
            let mut rig = Rig::on(if rough { DISTANT } else { CALM });
            for (tcp, port, len, pause) in packets {
                rig.pass(Duration::from_millis(pause));
                let protocol = if tcp { protocol::TCP } else { protocol::UDP };
                if rig.send(protocol, port, len) == Carrier::Datagram {
                    prop_assert!(len <= ROOM && (rough || !tcp));
                }
            }
        }
    }
}
