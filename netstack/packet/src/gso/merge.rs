//! Packets put together again, for a kernel that takes super-packets: generic receive offload (GRO).
//!
//! A carrier of datagrams brings the packets of a flow one by one. Written one by one each costs a system call and a way
//! through the host's stack; put together, all of them cost one. What is put together is exactly what
//! [`split`](super::SuperPacketView::split) makes the same packets of, except for IPv4 identifications where
//! fragmentation is forbidden, which then mean nothing (RFC 6864 §4.1). So a receiver cannot tell, and neither can
//! whoever the host forwards them to.

use std::net::IpAddr;

use super::fields::{
    TCP_ACK, TCP_ACKNOWLEDGMENT_AT, TCP_CHECKSUM_AT, TCP_FLAGS_AT, TCP_HEADER_LEN, TCP_PSH, TCP_SEQUENCE_AT,
    TCP_URGENT_AT, TCP_WINDOW_AT, UDP_CHECKSUM_AT, UDP_HEADER_LEN, UDP_LENGTH_AT, V4_ADDRESSES_AT,
    V4_CHECKSUM_AT, V4_FLAGS_AT, V4_HEADER_LEN, V4_IDENTIFICATION_AT, V4_TOTAL_LENGTH_AT, V6_HEADER_LEN,
    V6_NEXT_HEADER_AT, V6_PAYLOAD_LENGTH_AT, get, get_long, put,
};
use super::header::VIRTIO_NET_HEADER_LEN;
use super::validate::{Segmentation, SuperPacketView, is_worth_cutting};
use crate::checksum;
use crate::packet::{IpPacket, protocol};

/// Datagrams in one packet that every kernel with `UDP_SEGMENT` takes (`UDP_MAX_SEGMENTS` before Linux 6.9).
const MAX_DATAGRAMS: usize = 64;
/// What the length field of an IP header can say.
const MAX_PACKET: usize = u16::MAX as usize;

const DONT_FRAGMENT: u8 = 0x40;

/// Consecutive packets of one flow, as one.
#[derive(Debug, Default)]
pub struct Merger {
    /// A virtio header and the packet behind it; empty while there is nothing.
    frame: Vec<u8>,
    first: Option<Shape>,
    packets: usize,
    /// Whether another packet may follow.
    open: bool,
}

/// What is there.
#[derive(Debug, PartialEq, Eq)]
pub enum Merged<'a> {
    Nothing,
    /// One packet, as it came.
    Packet(&'a [u8]),
    /// Several in one frame: a virtio header and a packet, which agree.
    Frame(&'a [u8]),
}

/// Where the parts of a packet lie.
#[derive(Debug, Clone, Copy)]
struct Shape {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    transport_at: usize,
    headers_len: usize,
    payload_len: usize,
    /// A segment that says that it is the last for now.
    pushed: bool,
}

impl Merger {
    /// Takes `packet` if it continues what is there, or if nothing is there and others may continue it. Where this says
    /// no, the packet is to be written after what is there.
    pub fn offer(&mut self, packet: &IpPacket<'_>) -> bool {
        match self.first {
            None => self.begin(packet),
            Some(_) if !self.open => false,
            Some(first) => self.append(first, packet),
        }
    }

    fn begin(&mut self, packet: &IpPacket<'_>) -> bool {
        let worth = |shape: &Shape| {
            !shape.pushed
                && is_worth_cutting(shape.payload_len, shape.headers_len)
                && packet.as_bytes().len() <= MAX_PACKET
        };
        let Some(shape) = Shape::of(packet).filter(worth) else { return false };
        if !shape.is_intact(packet) {
            return false;
        }
        self.frame.extend_from_slice(&[0; VIRTIO_NET_HEADER_LEN]);
        self.frame.extend_from_slice(packet.as_bytes());
        self.first = Some(shape);
        self.packets = 1;
        self.open = true;
        true
    }

    fn append(&mut self, first: Shape, packet: &IpPacket<'_>) -> bool {
        let room = VIRTIO_NET_HEADER_LEN + MAX_PACKET - self.frame.len();
        let fits = |shape: &Shape| shape.payload_len <= room.min(first.payload_len);
        let Some(shape) = Shape::of(packet).filter(fits) else { return false };
        // The sum comes last: of a packet that begins something else it is made there.
        if !self.continues(&first, packet.as_bytes(), &shape) || !shape.is_intact(packet) {
            return false;
        }
        if self.packets == 1 {
            // Mostly many more follow.
            self.frame.reserve_exact(room);
        }
        self.frame.extend_from_slice(&packet.as_bytes()[shape.headers_len..]);
        if shape.pushed {
            self.frame[VIRTIO_NET_HEADER_LEN + shape.transport_at + TCP_FLAGS_AT] |= TCP_PSH;
        }
        self.packets += 1;
        let full = shape.is_udp() && self.packets == MAX_DATAGRAMS;
        self.open = shape.payload_len == first.payload_len && !shape.pushed && !full;
        true
    }

    /// Whether the headers of a packet are those that a kernel would give to the next segment of what is there.
    fn continues(&self, first: &Shape, next: &[u8], shape: &Shape) -> bool {
        let kind = |shape: &Shape| (shape.protocol, shape.transport_at, shape.headers_len);
        if kind(first) != kind(shape) {
            return false;
        }
        let there = &self.frame[VIRTIO_NET_HEADER_LEN..];
        let same = |from: usize, to: usize| there[from..to] == next[from..to];
        let at = shape.transport_at;
        let same_ip = match shape.is_v4() {
            true => {
                let [first, next_one] = [there, next].map(|packet| get(packet, V4_IDENTIFICATION_AT));
                let counts_up = next_one == first.wrapping_add(self.packets as u16);
                let free = next[V4_FLAGS_AT] & DONT_FRAGMENT != 0;
                same(0, V4_TOTAL_LENGTH_AT)
                    && (free || counts_up)
                    && same(V4_FLAGS_AT, V4_CHECKSUM_AT)
                    && same(V4_ADDRESSES_AT, V4_HEADER_LEN)
            }
            false => same(0, V6_PAYLOAD_LENGTH_AT) && same(V6_NEXT_HEADER_AT, V6_HEADER_LEN),
        };
        if shape.is_udp() {
            return same_ip && same(at, at + UDP_LENGTH_AT);
        }
        let [first, next_one] = [there, next].map(|packet| get_long(packet, at + TCP_SEQUENCE_AT));
        let sent = there.len() - shape.headers_len;
        same_ip
            && same(at, at + TCP_SEQUENCE_AT)
            && next_one == first.wrapping_add(sent as u32)
            && same(at + TCP_ACKNOWLEDGMENT_AT, at + TCP_FLAGS_AT)
            && same(at + TCP_WINDOW_AT, at + TCP_CHECKSUM_AT)
            && same(at + TCP_URGENT_AT, shape.headers_len)
    }

    /// What is there, ready to be written. Nothing is added to it before [`Self::clear`].
    pub fn finish(&mut self) -> Merged<'_> {
        self.open = false;
        match (self.first, self.packets) {
            (None, _) => Merged::Nothing,
            (Some(_), 1) => Merged::Packet(&self.frame[VIRTIO_NET_HEADER_LEN..]),
            (Some(first), _) => {
                self.complete(&first);
                Merged::Frame(&self.frame)
            }
        }
    }

    fn complete(&mut self, first: &Shape) {
        let Shape { source, destination, protocol, transport_at, headers_len, payload_len, .. } = *first;
        let checksum_at = first.checksum_at();
        let (front, packet) = self.frame.split_at_mut(VIRTIO_NET_HEADER_LEN);
        let len = packet.len();
        if first.is_v4() {
            put(packet, V4_TOTAL_LENGTH_AT, len as u16);
            put(packet, V4_CHECKSUM_AT, 0);
            let sum = checksum::internet(&[&packet[..V4_HEADER_LEN]]);
            put(packet, V4_CHECKSUM_AT, sum);
        } else {
            put(packet, V6_PAYLOAD_LENGTH_AT, (len - V6_HEADER_LEN) as u16);
        }
        let transport_len = len - transport_at;
        if first.is_udp() {
            put(packet, transport_at + UDP_LENGTH_AT, transport_len as u16);
        }
        let sum = checksum::pseudo_header(source, destination, protocol, transport_len);
        put(packet, transport_at + checksum_at, sum);
        let view = SuperPacketView {
            packet: IpPacket::parse(packet).expect("with its length corrected it is a packet again"),
            segmentation: if first.is_udp() { Segmentation::Udp } else { Segmentation::Tcp },
            checksum_at: Some(checksum_at),
            headers_len,
            segment_size: payload_len,
            ecn: false,
        };
        front.copy_from_slice(&view.header().emit());
    }

    pub fn clear(&mut self) {
        self.frame.clear();
        self.first = None;
        self.packets = 0;
    }
}

impl Shape {
    /// `None` for what stays alone: other protocols, fragments, options and extension headers of IP, and whatever TCP does
    /// beside sending data.
    fn of(packet: &IpPacket<'_>) -> Option<Self> {
        let (transport, transport_at) = (packet.payload(), packet.payload_at());
        let plain_ip = transport_at == if packet.is_ipv4() { V4_HEADER_LEN } else { V6_HEADER_LEN };
        if !plain_ip || packet.is_fragment() {
            return None;
        }
        let (header_len, pushed) = match packet.protocol() {
            protocol::TCP => tcp_data(transport)?,
            protocol::UDP => (udp_data(transport)?, false),
            _ => return None,
        };
        let payload_len = transport.len().checked_sub(header_len).filter(|len| *len > 0)?;
        let (source, destination, protocol) = (packet.source(), packet.destination(), packet.protocol());
        let headers_len = transport_at + header_len;
        Some(Self { source, destination, protocol, transport_at, headers_len, payload_len, pushed })
    }

    /// Whether the checksums are right, and of the two forms of zero the one that is made when the packet is cut again.
    /// What is damaged must not get a right one.
    fn is_intact(&self, packet: &IpPacket<'_>) -> bool {
        let (bytes, transport) = (packet.as_bytes(), packet.payload());
        let pseudo = checksum::pseudo_header(self.source, self.destination, self.protocol, transport.len());
        let header =
            || get(bytes, V4_CHECKSUM_AT) != 0xffff && checksum::internet(&[&bytes[..V4_HEADER_LEN]]) == 0;
        get(transport, self.checksum_at()) != 0
            && checksum::internet(&[&pseudo.to_be_bytes(), transport]) == 0
            && (!self.is_v4() || header())
    }

    fn is_v4(&self) -> bool {
        self.source.is_ipv4()
    }

    fn is_udp(&self) -> bool {
        self.protocol == protocol::UDP
    }

    /// Relative to the transport header.
    fn checksum_at(&self) -> usize {
        if self.is_udp() { UDP_CHECKSUM_AT } else { TCP_CHECKSUM_AT }
    }
}

/// The length of TCP's header and whether it pushes, if it only acknowledges and sends data.
fn tcp_data(transport: &[u8]) -> Option<(usize, bool)> {
    let header = transport.first_chunk::<TCP_HEADER_LEN>()?;
    let (len, flags) = (usize::from(header[12] >> 4) * 4, header[TCP_FLAGS_AT]);
    let plain = len >= TCP_HEADER_LEN && header[12] & 0x0f == 0 && flags & !TCP_PSH == TCP_ACK;
    plain.then_some((len, flags & TCP_PSH != 0))
}

/// The length of UDP's header, if it announces what is there.
fn udp_data(transport: &[u8]) -> Option<usize> {
    let header = transport.first_chunk::<UDP_HEADER_LEN>()?;
    (usize::from(get(header, UDP_LENGTH_AT)) == transport.len()).then_some(UDP_HEADER_LEN)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{VirtioNetHeader, validate};
    use super::*;
    use crate::fuzz::{cut, essence, received, written};
    use crate::testing::*;
    use proptest::{collection::vec, prelude::*};

    const MTU: usize = 1500;

    #[test]
    fn segments_become_the_super_packet_that_they_were_cut_from() {
        for v6 in [false, true] {
            for (header, packet) in [super_tcp(v6, &[7; 5000], 1200), super_udp(v6, &[7; 5000], 1200)] {
                let frames = written(&cut(&header, &packet));
                assert_eq!(frames, [[&header.emit()[..], &packet].concat()]);
            }
        }
    }

    #[test]
    fn two_flows_are_written_in_the_order_in_which_they_came() {
        let (tcp, udp) = (super_tcp(false, &[7; 2400], 1200), super_udp(false, &[7; 2400], 1200));
        let (tcp, udp) = (cut(&tcp.0, &tcp.1), cut(&udp.0, &udp.1));
        let packets = [&tcp[..], &udp, &[icmp_echo4()], &udp].concat();
        let frames = written(&packets);
        assert_eq!(frames.len(), 4);
        assert_eq!(received(&frames), packets);
    }

    #[test]
    fn a_push_and_a_shorter_segment_are_the_last_of_a_frame() {
        let (header, mut packet) = super_tcp(true, &[7; 2500], 1200);
        packet[40 + TCP_FLAGS_AT] |= TCP_PSH;
        let (pushed, short) = (cut(&header, &packet), super_udp(true, &[7; 2500], 1200));
        for packets in [pushed, cut(&short.0, &short.1)] {
            let twice = [&packets[..], &packets].concat();
            let frames = written(&twice);
            assert_eq!(frames.len(), 2);
            assert_eq!(received(&frames), twice);
        }
    }

    #[test]
    fn no_kernel_gets_more_datagrams_than_it_takes() {
        let (header, packet) = super_udp(false, &[7; 100 * 100], 100);
        let frames = written(&cut(&header, &packet));
        let counts = frames.iter().map(|frame| {
            let (header, packet) = frame.split_first_chunk().unwrap();
            let view = validate(VirtioNetHeader::parse(header), packet, MTU).unwrap();
            assert_eq!(view.segmentation(), Segmentation::Udp);
            view.segments()
        });
        assert_eq!(counts.collect::<Vec<_>>(), [64, 36]);
    }

    #[test]
    fn no_frame_is_longer_than_a_length_field_can_say() {
        for v6 in [false, true] {
            let mut packets = Vec::new();
            for part in 0..2 {
                let (header, mut packet) = super_tcp(v6, &[7; 48_000], 1200);
                let at = if v6 { 40 } else { 20 } + 4;
                packet[at..at + 4].copy_from_slice(&(1 + part * 48_000_u32).to_be_bytes());
                packets.extend(cut(&header, &packet));
            }
            let frames = written(&packets);
            assert!(frames.iter().all(|frame| frame.len() <= 65_545), "{}", frames[0].len());
            assert!(received(&frames).iter().map(Vec::len).eq(packets.iter().map(Vec::len)));
        }
    }

    #[test]
    fn what_is_damaged_stays_damaged() {
        for (header, packet) in [super_tcp(false, &[7; 2400], 1200), super_udp(true, &[7; 2400], 1200)] {
            let mut packets = cut(&header, &packet);
            *packets[1].last_mut().unwrap() ^= 1;
            let frames = written(&packets);
            assert_eq!(frames.len(), 2);
            assert_eq!(received(&frames), packets);
        }
    }

    #[test]
    fn a_datagram_without_a_checksum_stays_alone() {
        let (header, packet) = super_udp(false, &[7; 2400], 1200);
        let mut packets = cut(&header, &packet);
        packets.iter_mut().for_each(|packet| put(packet, 20 + UDP_CHECKSUM_AT, 0));
        assert_eq!(written(&packets).len(), 2);
        assert_eq!(received(&written(&packets)), packets);
    }

    /// One that no datagram could carry.
    #[test]
    fn a_packet_longer_than_a_frame_of_several_may_be_stays_alone() {
        let long = udp6(&vec![7; 65_535 - 8]);
        assert!(long.len() > MAX_PACKET && written(&[long.clone(), long]).len() == 2);
    }

    /// Changes one byte and makes both checksums right again.
    fn changed(mut packet: Vec<u8>, at: usize, with: u8) -> Option<Vec<u8>> {
        let at = at % packet.len();
        packet[at] ^= with;
        let (source, destination, number, transport_at) = {
            let parsed = IpPacket::parse(&packet).ok()?;
            (parsed.source(), parsed.destination(), parsed.protocol(), parsed.payload_at())
        };
        let field = transport_at + if number == protocol::TCP { TCP_CHECKSUM_AT } else { UDP_CHECKSUM_AT };
        if packet.len() < field + 2 || !matches!(number, protocol::TCP | protocol::UDP) {
            return Some(packet);
        }
        let len = packet.len() - transport_at;
        put(&mut packet, field, checksum::pseudo_header(source, destination, number, len));
        super::super::checksum::complete(&mut packet[transport_at..], field - transport_at);
        if source.is_ipv4() {
            put(&mut packet, V4_CHECKSUM_AT, 0);
            let sum = checksum::internet(&[&packet[..transport_at]]);
            put(&mut packet, V4_CHECKSUM_AT, sum);
        }
        Some(packet)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn whatever_differs_between_packets_arrives_as_it_was_sent(
            v6: bool, stream: bool, payload in vec(any::<u8>(), 200..4000), gso_size in 100..1400u16,
            changes in vec((0..8usize, 0..80usize, 1u8..), 0..4),
        ) {
            let (header, packet) =
                if stream { super_tcp(v6, &payload, gso_size) } else { super_udp(v6, &payload, gso_size) };
            let mut packets = cut(&header, &packet);
            for (index, at, with) in changes {
                let index = index % packets.len();
                if let Some(other) = changed(packets[index].clone(), at, with) {
                    packets[index] = other;
                }
            }
            let arrived = received(&written(&packets));
            let essences = |packets: Vec<Vec<u8>>| packets.into_iter().map(essence).collect::<Vec<_>>();
            prop_assert_eq!(essences(arrived), essences(packets));
        }

        #[test]
        fn any_packets_arrive_as_they_were_sent(packets in vec(any_packet(), 0..8)) {
            let arrived = received(&written(&packets));
            prop_assert_eq!(arrived, packets);
        }
    }
}
