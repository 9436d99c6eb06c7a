//! Who shares the node's addresses: `exec` sessions, each with a kernel of its own behind a TUN device.
//!
//! A session's packets carry the node's own addresses, so nothing but a port ever needs translation, and that only
//! where two of them, or a session and the node itself, picked the same port for the same remote (RFC 4787 calls it
//! address- and port-dependent mapping). Replies are told apart from what peers send to the node's services by the
//! whole flow: a session never receives what it did not ask for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use peerup_packet::{IpPacket, checksum, gso::VirtioNetHeader, protocol};

use crate::{
    echo::{Complaint, Quoted},
    frame::HEADER,
    limits::MAX_NAT,
};

/// A flow without a packet for this long may give way to a new one.
const IDLE: Duration = Duration::from_secs(300);

/// One `exec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(crate) u64);

/// A flow as the far side sees it: the port is ours, or the identifier of an echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Outside {
    protocol: u8,
    port: u16,
    remote: SocketAddr,
}

/// The same as the session sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Inside {
    session: SessionId,
    flow: Outside,
}

struct Mapping {
    session: SessionId,
    port: u16,
    used: Instant,
}

#[derive(Default)]
pub(crate) struct Nat {
    next: u64,
    sessions: BTreeSet<SessionId>,
    outward: BTreeMap<Inside, u16>,
    inward: BTreeMap<Outside, Mapping>,
}

impl Nat {
    pub fn open(&mut self) -> SessionId {
        self.next += 1;
        let session = SessionId(self.next);
        self.sessions.insert(session);
        session
    }

    pub fn close(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.outward.retain(|inside, _| inside.session != session);
        self.inward.retain(|_, mapping| mapping.session != session);
    }

    pub fn is_taken(&self, protocol: u8, port: u16, remote: SocketAddr) -> bool {
        self.inward.contains_key(&Outside { protocol, port, remote })
    }

    /// Makes a session's frame one of the node's. `false`: there is no room for its flow.
    /// `taken` says which ports the node itself uses towards a remote.
    pub fn leave(
        &mut self,
        session: SessionId,
        frame: &mut [u8],
        pick: impl FnOnce(&dyn Fn(u16) -> bool) -> Option<u16>,
        taken: impl Fn(u8, u16, SocketAddr) -> bool,
        now: Instant,
    ) -> bool {
        let Some((header, packet)) = frame.split_at_mut_checked(HEADER) else { return false };
        let Some(seen) = flow_of(packet, Side::Source) else { return true };
        let flow = Outside { protocol: seen.protocol, port: seen.port, remote: seen.remote };
        let inside = Inside { session, flow };
        let port = match self.outward.get(&inside) {
            Some(port) => *port,
            None => match self.map(inside, pick, taken, now) {
                Some(port) => port,
                None => return false,
            },
        };
        if let Some(mapping) = self.inward.get_mut(&Outside { port, ..flow }) {
            mapping.used = now;
        }
        rewrite(header, packet, &seen, port);
        true
    }

    fn map(
        &mut self,
        inside: Inside,
        pick: impl FnOnce(&dyn Fn(u16) -> bool) -> Option<u16>,
        taken: impl Fn(u8, u16, SocketAddr) -> bool,
        now: Instant,
    ) -> Option<u16> {
        if !self.sessions.contains(&inside.session) {
            return None;
        }
        self.make_room(now)?;
        let flow = inside.flow;
        let is_taken = |port: u16| {
            self.inward.contains_key(&Outside { port, ..flow }) || taken(flow.protocol, port, flow.remote)
        };
        let port = if is_taken(flow.port) { pick(&is_taken)? } else { flow.port };
        self.outward.insert(inside, port);
        self.inward.insert(
            Outside { port, ..flow },
            Mapping { session: inside.session, port: flow.port, used: now },
        );
        Some(port)
    }

    /// Forgets idle flows when there are many.
    fn make_room(&mut self, now: Instant) -> Option<()> {
        if self.inward.len() < MAX_NAT {
            return Some(());
        }
        self.inward.retain(|_, mapping| mapping.used + IDLE > now);
        let Self { outward, inward, .. } = self;
        outward.retain(|inside, port| inward.contains_key(&Outside { port: *port, ..inside.flow }));
        (inward.len() < MAX_NAT).then_some(())
    }

    /// The session that a frame from a peer belongs to, and the frame as the session has to see it.
    pub fn enter(
        &mut self,
        frame: &[u8],
        packet: &IpPacket<'_>,
        complaint: Option<Complaint>,
        now: Instant,
    ) -> Option<(SessionId, Vec<u8>)> {
        if self.inward.is_empty() {
            return None;
        }
        if let Some(complaint) = complaint {
            return self.enter_complaint(frame, packet, complaint);
        }
        let seen = flow_of(packet.as_bytes(), Side::Destination)?;
        let outside = Outside { protocol: seen.protocol, port: seen.port, remote: seen.remote };
        let mapping = self.inward.get_mut(&outside)?;
        mapping.used = now;
        let mut frame = frame.to_vec();
        let (header, packet) = frame.split_at_mut(HEADER);
        rewrite(header, packet, &seen, mapping.port);
        Some((mapping.session, frame))
    }

    fn enter_complaint(
        &self,
        frame: &[u8],
        packet: &IpPacket<'_>,
        complaint: Complaint,
    ) -> Option<(SessionId, Vec<u8>)> {
        let Complaint { protocol, local, remote, .. } = complaint;
        let mapping = self.inward.get(&Outside { protocol, port: local.port(), remote })?;
        let mut frame = frame.to_vec();
        if mapping.port != local.port() {
            let quote_at = frame.len() - packet.payload().len() + 8;
            let at = quote_at + Quoted::parse(&frame[quote_at..])?.transport_at;
            let at = if is_icmp(protocol) { at + 4 } else { at };
            let sum_at = quote_at - 6;
            replace_word(&mut frame, at, sum_at, mapping.port)?;
        }
        Some((mapping.session, frame))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

/// A packet's flow, and where its port and its checksum stand in it.
struct Seen {
    protocol: u8,
    port: u16,
    remote: SocketAddr,
    port_at: usize,
    sum_at: usize,
}

/// `None` for packets without ports: they pass as they are. Of ICMP only echoes have an identifier.
fn flow_of(packet: &[u8], side: Side) -> Option<Seen> {
    let quoted = Quoted::parse(packet)?;
    let is_later = packet[0] >> 4 == 4 && u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff != 0;
    if is_later {
        return None;
    }
    let at = quoted.transport_at;
    let remote_ip = |ours: IpAddr, theirs: IpAddr| if side == Side::Source { theirs } else { ours };
    let remote = remote_ip(quoted.source.ip(), quoted.destination.ip());
    if is_icmp(quoted.protocol) {
        let kind = *packet.get(at)?;
        let wanted: &[u8] = match (quoted.protocol, side) {
            (protocol::ICMP, Side::Source) => &[8],
            (protocol::ICMP, Side::Destination) => &[0],
            (_, Side::Source) => &[128],
            (_, Side::Destination) => &[129],
        };
        let remote = SocketAddr::new(remote, 0);
        return wanted.contains(&kind).then(|| Seen {
            protocol: quoted.protocol,
            port: quoted.source.port(),
            remote,
            port_at: at + 4,
            sum_at: at + 2,
        });
    }
    let sum_at = if quoted.protocol == protocol::TCP { at + 16 } else { at + 6 };
    let (ours, theirs, port_at) = match side {
        Side::Source => (quoted.source, quoted.destination, at),
        Side::Destination => (quoted.destination, quoted.source, at + 2),
    };
    let remote = SocketAddr::new(remote, theirs.port());
    Some(Seen { protocol: quoted.protocol, port: ours.port(), remote, port_at, sum_at })
}

fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, protocol::ICMP | protocol::ICMPV6)
}

fn rewrite(header: &[u8], packet: &mut [u8], seen: &Seen, port: u16) {
    if port == seen.port {
        return;
    }
    let partial = header.first_chunk().is_some_and(|header| VirtioNetHeader::parse(header).needs_checksum());
    let none = seen.protocol == protocol::UDP && packet.get(seen.sum_at..seen.sum_at + 2) == Some(&[0, 0]);
    if partial || none {
        // A sum to be completed covers no port yet.
        if let Some(field) = packet.get_mut(seen.port_at..seen.port_at + 2) {
            field.copy_from_slice(&port.to_be_bytes());
        }
        return;
    }
    let _ = replace_word(packet, seen.port_at, seen.sum_at, port);
}

/// Changes a word and the checksum that covers it.
fn replace_word(bytes: &mut [u8], at: usize, sum_at: usize, new: u16) -> Option<()> {
    let word =
        |bytes: &[u8], at: usize| bytes.get(at..at + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let sum = checksum::update(word(bytes, sum_at)?, word(bytes, at)?, new);
    bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    bytes[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;
    use crate::{datagram, echo};

    const OWN: [u8; 4] = [10, 64, 0, 1];
    const PEER: [u8; 4] = [10, 64, 0, 2];

    fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
        let packet = datagram::udp(from.into(), to.into(), b"hello").unwrap();
        [&[0; HEADER][..], &packet].concat()
    }

    fn leave(nat: &mut Nat, session: SessionId, frame: &mut [u8]) -> bool {
        let pick = |taken: &dyn Fn(u16) -> bool| (60_000..61_000).find(|port| !taken(*port));
        nat.leave(session, frame, pick, |_, port, _| port == 7777, Instant::now())
    }

    fn enter(nat: &mut Nat, frame: &[u8]) -> Option<(SessionId, Vec<u8>)> {
        let packet = IpPacket::parse(&frame[HEADER..]).unwrap();
        nat.enter(frame, &packet, echo::complaint(&packet), Instant::now())
    }

    #[test]
    fn a_free_port_stays_and_replies_find_their_session_alone() {
        let mut nat = Nat::default();
        let session = nat.open();
        let mut frame = udp((OWN, 5000), (PEER, 53));
        let before = frame.clone();
        assert!(leave(&mut nat, session, &mut frame));
        assert_eq!(frame, before);
        let reply = udp((PEER, 53), (OWN, 5000));
        assert_eq!(enter(&mut nat, &reply), Some((session, reply)));
        assert_eq!(enter(&mut nat, &udp((PEER, 54), (OWN, 5000))), None, "another flow is the node's");
        nat.close(session);
        assert_eq!(enter(&mut nat, &udp((PEER, 53), (OWN, 5000))), None);
    }

    #[test]
    fn two_sessions_with_one_port_are_told_apart_and_their_checksums_stay_right() {
        let mut nat = Nat::default();
        let (first, second) = (nat.open(), nat.open());
        let (mut a, mut b) = (udp((OWN, 5000), (PEER, 53)), udp((OWN, 5000), (PEER, 53)));
        assert!(leave(&mut nat, first, &mut a) && leave(&mut nat, second, &mut b));
        assert_eq!(b, udp((OWN, 60_000), (PEER, 53)), "as if it had been sent from there");
        let (session, frame) = enter(&mut nat, &udp((PEER, 53), (OWN, 60_000))).unwrap();
        assert_eq!((session, frame), (second, udp((PEER, 53), (OWN, 5000))));
        // The node's own port is nobody else's either.
        let mut c = udp((OWN, 7777), (PEER, 53));
        assert!(leave(&mut nat, first, &mut c));
        assert_eq!(c, udp((OWN, 60_001), (PEER, 53)));
    }

    #[test]
    fn an_icmp_error_about_a_translated_flow_reaches_its_session() {
        let mut nat = Nat::default();
        let (_first, second) = (nat.open(), nat.open());
        let (mut a, mut b) = (udp((OWN, 5000), (PEER, 53)), udp((OWN, 5000), (PEER, 53)));
        assert!(leave(&mut nat, _first, &mut a) && leave(&mut nat, second, &mut b));
        let original = IpPacket::parse(&b[HEADER..]).unwrap();
        let error = peerup_packet::unreachable(&original, PEER.into(), peerup_packet::Unreachable::Port);
        let error = [&[0; HEADER][..], &error.unwrap()].concat();
        let (session, frame) = enter(&mut nat, &error).unwrap();
        let packet = IpPacket::parse(&frame[HEADER..]).unwrap();
        let complaint = echo::complaint(&packet).unwrap();
        assert_eq!((session, complaint.local.port()), (second, 5000));
        assert_eq!(checksum::internet(&[packet.payload()]), 0, "the sum over a right checksum");
    }

    #[test]
    fn no_session_can_open_more_flows_than_there_is_room_for() {
        let mut nat = Nat::default();
        let session = nat.open();
        let opened = (0..MAX_NAT + 10).filter(|n| {
            let mut frame = udp((OWN, 1000 + (*n % 5000) as u16), (PEER, 53 + (*n / 5000) as u16));
            leave(&mut nat, session, &mut frame)
        });
        assert_eq!(opened.count(), MAX_NAT);
    }
}
