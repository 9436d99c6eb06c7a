//! What a super-packet must be before anybody acts on its header.
//!
//! Every field is held against the packet itself: the lengths are computed again from the IP and transport headers,
//! and a header that says otherwise is refused. What is accepted cannot amplify: segments that consist mostly of
//! repeated headers are refused too.

use super::fields::{
    TCP_CHECKSUM_AT, TCP_FLAGS_AT, TCP_HEADER_LEN, TCP_RST, TCP_SYN, UDP_CHECKSUM_AT, UDP_HEADER_LEN,
};
use super::header::{
    DATA_VALID, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VirtioNetHeader,
};
use crate::packet::{IpPacket, PacketError, protocol};

/// Datagrams that kernels accept in one packet (`UDP_MAX_SEGMENTS`). Those before Linux 6.9 take half as many.
pub const MAX_UDP_SEGMENTS: usize = 128;

/// How a packet is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segmentation {
    /// Not at all: one packet.
    None,
    /// A piece of a TCP stream. The borders of segments mean nothing.
    Tcp,
    /// UDP datagrams. Each keeps its size.
    Udp,
}

/// A packet and its virtio header, which agree: see [`validate()`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuperPacketView<'a> {
    pub(super) packet: IpPacket<'a>,
    pub(super) segmentation: Segmentation,
    /// The checksum field relative to the transport header, if it is incomplete.
    pub(super) checksum_at: Option<usize>,
    /// Bytes that every segment repeats. Of a packet that is not segmented: 0.
    pub(super) headers_len: usize,
    /// Payload of each segment but the last. Of a packet that is not segmented: 0.
    pub(super) segment_size: usize,
    pub(super) ecn: bool,
}

/// Why a super-packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GsoError {
    #[error(transparent)]
    Packet(#[from] PacketError),
    #[error("virtio flags {0:#04x} are not ours to act on")]
    Flags(u8),
    #[error("virtio segmentation type {gso_type:#04x} does not belong to IP protocol {protocol}")]
    GsoType { gso_type: u8, protocol: u8 },
    #[error("a fragment is left to be segmented or to be completed")]
    Fragment,
    #[error("a packet of {len} bytes has no whole transport header at {at}")]
    TransportHeader { at: usize, len: usize },
    #[error("the checksum is said to be at {start} + {offset}, where protocol {protocol} has none")]
    Checksum { start: u16, offset: u16, protocol: u8 },
    #[error("headers of {hdr_len} bytes, where {real} were found in a packet of {len}")]
    HeaderLength { hdr_len: u16, real: usize, len: usize },
    #[error("a SYN or RST is left to be segmented")]
    ControlSegment,
    #[error("UDP announces {announced} bytes and holds {len}")]
    UdpLength { announced: u16, len: usize },
    #[error("nothing is left to be segmented")]
    NoPayload,
    #[error("segments of {gso_size} bytes behind headers of {headers_len}")]
    SegmentTooSmall { gso_size: u16, headers_len: usize },
    #[error("a packet of {len} bytes exceeds {max}")]
    TooLong { len: usize, max: usize },
    #[error("{0} UDP datagrams in one packet, more than {MAX_UDP_SEGMENTS}")]
    TooManyDatagrams(usize),
}

/// Holds `header` against `packet`, which is everything behind it. `max_segment` bounds each resulting IP packet
/// with its headers; of a packet that is not segmented, the packet.
///
/// Guaranteed of what is returned: one whole IP packet ([`IpPacket`]). If anything is left to be done, it is TCP
/// or UDP, no fragment, its transport header is complete, and the checksum to be completed is that header's. If it
/// is to be segmented, the type fits the protocol and IP version, segments are neither longer than `max_segment`
/// nor so short that cutting more than triples the bytes, and no segment is SYN or RST. Not guaranteed:
/// that the partial checksum is right, which harms nobody but its sender.
pub fn validate(
    header: VirtioNetHeader,
    packet: &[u8],
    max_segment: usize,
) -> Result<SuperPacketView<'_>, GsoError> {
    let packet = IpPacket::parse(packet)?;
    if header.flags & !(NEEDS_CSUM | DATA_VALID) != 0 {
        return Err(GsoError::Flags(header.flags));
    }
    let view = SuperPacketView {
        packet,
        segmentation: segmentation(&header, &packet)?,
        checksum_at: checksum_at(&header, &packet)?,
        headers_len: 0,
        segment_size: 0,
        ecn: header.gso_type & GSO_ECN != 0,
    };
    let view = match view.segmentation {
        Segmentation::None => view,
        Segmentation::Tcp | Segmentation::Udp => segmented(view, &header)?,
    };
    // The announced size counts, even where the payload is shorter: the kernel is told the announced one.
    let len = match view.segmentation {
        Segmentation::None => packet.as_bytes().len(),
        Segmentation::Tcp | Segmentation::Udp => view.headers_len + view.segment_size,
    };
    if len > max_segment { Err(GsoError::TooLong { len, max: max_segment }) } else { Ok(view) }
}

fn segmentation(header: &VirtioNetHeader, packet: &IpPacket<'_>) -> Result<Segmentation, GsoError> {
    let (gso_type, protocol) = (header.gso_type, packet.protocol());
    match (gso_type & !GSO_ECN, protocol, packet.is_ipv4()) {
        (GSO_NONE, _, _) if gso_type == GSO_NONE => Ok(Segmentation::None),
        (GSO_TCPV4, protocol::TCP, true) | (GSO_TCPV6, protocol::TCP, false) => Ok(Segmentation::Tcp),
        (GSO_UDP_L4, protocol::UDP, _) if gso_type == GSO_UDP_L4 => Ok(Segmentation::Udp),
        _ => Err(GsoError::GsoType { gso_type, protocol }),
    }
}

/// The checksum field relative to the transport header, if it is left incomplete.
fn checksum_at(header: &VirtioNetHeader, packet: &IpPacket<'_>) -> Result<Option<usize>, GsoError> {
    if !header.needs_checksum() {
        return Ok(None);
    }
    if packet.is_fragment() {
        return Err(GsoError::Fragment);
    }
    let (start, offset, protocol) = (header.csum_start, header.csum_offset, packet.protocol());
    let (expected, transport_len) = match protocol {
        protocol::TCP => (TCP_CHECKSUM_AT, TCP_HEADER_LEN),
        protocol::UDP => (UDP_CHECKSUM_AT, UDP_HEADER_LEN),
        _ => return Err(GsoError::Checksum { start, offset, protocol }),
    };
    if usize::from(start) != packet.payload_at() || usize::from(offset) != expected {
        return Err(GsoError::Checksum { start, offset, protocol });
    }
    if packet.payload().len() < transport_len {
        return Err(cut(packet));
    }
    Ok(Some(expected))
}

/// The second half of the checks, for what is to be segmented.
fn segmented<'a>(
    view: SuperPacketView<'a>,
    header: &VirtioNetHeader,
) -> Result<SuperPacketView<'a>, GsoError> {
    let packet = &view.packet;
    // Behind a fragment header even a whole packet is nothing that a kernel would segment.
    if packet.has_fragment_header() {
        return Err(GsoError::Fragment);
    }
    // Kernels always leave the checksum, too, and some insist on it.
    if view.checksum_at.is_none() {
        return Err(GsoError::Flags(header.flags));
    }
    let headers_len = packet.payload_at() + transport_header_len(packet)?;
    check_header_len(header.hdr_len, headers_len, packet.as_bytes().len())?;
    check_segments(&view, header, headers_len)?;
    Ok(SuperPacketView { headers_len, segment_size: usize::from(header.gso_size), ..view })
}

/// Of TCP with its options. Whether UDP's own length is right, as segments get theirs from it.
fn transport_header_len(packet: &IpPacket<'_>) -> Result<usize, GsoError> {
    let transport = packet.payload();
    if packet.protocol() == protocol::UDP {
        let [_, _, _, _, high, low, _, _] = *transport.first_chunk().ok_or(cut(packet))?;
        let (announced, len) = (u16::from_be_bytes([high, low]), transport.len());
        let agree = usize::from(announced) == len;
        return if agree { Ok(UDP_HEADER_LEN) } else { Err(GsoError::UdpLength { announced, len }) };
    }
    let tcp = transport.first_chunk::<TCP_HEADER_LEN>().ok_or(cut(packet))?;
    let len = usize::from(tcp[12] >> 4) * 4;
    if !(TCP_HEADER_LEN..=transport.len()).contains(&len) {
        return Err(cut(packet));
    }
    if tcp[TCP_FLAGS_AT] & (TCP_SYN | TCP_RST) != 0 {
        return Err(GsoError::ControlSegment);
    }
    Ok(len)
}

fn cut(packet: &IpPacket<'_>) -> GsoError {
    GsoError::TransportHeader { at: packet.payload_at(), len: packet.as_bytes().len() }
}

/// Kernels name the bytes that lie in one piece, which are the headers and perhaps some payload.
fn check_header_len(hdr_len: u16, real: usize, len: usize) -> Result<(), GsoError> {
    if (real..=len).contains(&usize::from(hdr_len)) {
        return Ok(());
    }
    Err(GsoError::HeaderLength { hdr_len, real, len })
}

/// With a payload of half its headers, a segment is three times as long as its payload. TCP's smallest MSS (48 bytes
/// with options on Linux) and any useful datagram are above.
pub(super) fn is_worth_cutting(segment_size: usize, headers_len: usize) -> bool {
    segment_size * 2 >= headers_len
}

fn check_segments(
    view: &SuperPacketView<'_>,
    header: &VirtioNetHeader,
    headers_len: usize,
) -> Result<(), GsoError> {
    let payload = view.packet.as_bytes().len() - headers_len;
    if payload == 0 {
        return Err(GsoError::NoPayload);
    }
    let gso_size = usize::from(header.gso_size);
    if !is_worth_cutting(gso_size, headers_len) {
        return Err(GsoError::SegmentTooSmall { gso_size: header.gso_size, headers_len });
    }
    let datagrams = payload.div_ceil(gso_size);
    if view.segmentation == Segmentation::Udp && datagrams > MAX_UDP_SEGMENTS {
        return Err(GsoError::TooManyDatagrams(datagrams));
    }
    Ok(())
}

impl<'a> SuperPacketView<'a> {
    /// The packet as it arrived: for a super-packet, one with lengths as if it were a single large packet.
    pub fn packet(&self) -> &IpPacket<'a> {
        &self.packet
    }

    pub fn segmentation(&self) -> Segmentation {
        self.segmentation
    }

    /// Whether this is one packet with a complete checksum, so that no header need go with it.
    pub fn is_ordinary(&self) -> bool {
        self.segmentation == Segmentation::None && self.checksum_at.is_none()
    }

    /// The length of the longest IP packet that this becomes: what has to fit an MTU.
    pub fn segment_len(&self) -> usize {
        let len = self.packet.as_bytes().len();
        match self.segmentation {
            Segmentation::None => len,
            Segmentation::Tcp | Segmentation::Udp => len.min(self.headers_len + self.segment_size),
        }
    }

    /// How many packets this becomes on a link that takes [`Self::segment_len`].
    pub fn segments(&self) -> usize {
        match self.segmentation {
            Segmentation::None => 1,
            Segmentation::Tcp | Segmentation::Udp => self.data().len().div_ceil(self.segment_size),
        }
    }

    /// What is divided among the segments.
    pub(super) fn data(&self) -> &'a [u8] {
        &self.packet.as_bytes()[self.headers_len..]
    }

    /// The header made again from what was found in the packet. It says the same as the one that arrived, less
    /// what need not be said or cannot be known: it is fit for a kernel.
    pub fn header(&self) -> VirtioNetHeader {
        let gso_type = match (self.segmentation, self.packet.is_ipv4()) {
            (Segmentation::None, _) => GSO_NONE,
            (Segmentation::Tcp, true) => GSO_TCPV4,
            (Segmentation::Tcp, false) => GSO_TCPV6,
            (Segmentation::Udp, _) => GSO_UDP_L4,
        };
        // None of these exceeds the packet, whose length fits 16 bits but for the IPv6 header's 40 bytes; an
        // offset never lies in the last 40.
        let word = |value: usize| u16::try_from(value).unwrap_or(u16::MAX);
        VirtioNetHeader {
            flags: if self.checksum_at.is_some() { NEEDS_CSUM } else { 0 },
            gso_type: if self.ecn { gso_type | GSO_ECN } else { gso_type },
            hdr_len: word(self.headers_len),
            gso_size: word(self.segment_size),
            csum_start: word(self.checksum_at.map_or(0, |_| self.packet.payload_at())),
            csum_offset: word(self.checksum_at.unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::testing::*;
    use proptest::{collection::vec, prelude::*};

    const MTU: usize = 1280;

    fn refused(header: VirtioNetHeader, packet: &[u8]) -> GsoError {
        validate(header, packet, MTU).unwrap_err()
    }

    #[test]
    fn what_kernels_make_is_accepted_and_measured() {
        for v6 in [false, true] {
            let (header, packet) = super_tcp(v6, &[7; 3000], 1200);
            let view = validate(header, &packet, MTU).unwrap();
            assert_eq!((view.segmentation(), view.segments()), (Segmentation::Tcp, 3));
            assert_eq!(view.segment_len(), usize::from(header.hdr_len) + 1200);
            let (header, packet) = super_udp(v6, &[7; 3000], 1200);
            let view = validate(header, &packet, MTU).unwrap();
            assert_eq!((view.segmentation(), view.segments()), (Segmentation::Udp, 3));
            let (header, packet) = udp_partial(v6, b"hello");
            let view = validate(header, &packet, MTU).unwrap();
            assert_eq!((view.segmentation(), view.segment_len()), (Segmentation::None, packet.len()));
            assert!(!view.is_ordinary());
        }
        assert!(validate(VirtioNetHeader::default(), &icmp_echo4(), MTU).unwrap().is_ordinary());
    }

    #[test]
    fn a_super_packet_shorter_than_a_segment_is_as_long_as_it_is() {
        let (header, packet) = super_tcp(false, &[7; 100], 1200);
        let view = validate(header, &packet, MTU).unwrap();
        assert_eq!((view.segment_len(), view.segments()), (packet.len(), 1));
    }

    #[test]
    fn a_segment_of_exactly_the_mtu_fits_and_one_byte_more_does_not() {
        let (header, packet) = super_tcp(false, &[7; 3000], 1240);
        assert!(validate(header, &packet, MTU).is_ok());
        let error = GsoError::TooLong { len: 1281, max: MTU };
        assert_eq!(refused(VirtioNetHeader { gso_size: 1241, ..header }, &packet), error);
        let short = super_tcp(false, &[7; 100], 1241);
        assert_eq!(refused(short.0, &short.1), error);
        assert_eq!(
            refused(VirtioNetHeader::default(), &packet),
            GsoError::TooLong { len: packet.len(), max: MTU }
        );
    }

    #[test]
    fn the_type_has_to_fit_protocol_and_version() {
        let (tcp4, tcp4_bytes) = super_tcp(false, &[7; 3000], 1200);
        for gso_type in [2, GSO_TCPV6, GSO_UDP_L4, 3, 6, 0x20, GSO_ECN, GSO_ECN | GSO_UDP_L4, 0x41] {
            let error = GsoError::GsoType { gso_type, protocol: protocol::TCP };
            assert_eq!(refused(VirtioNetHeader { gso_type, ..tcp4 }, &tcp4_bytes), error);
        }
        let ecn = VirtioNetHeader { gso_type: GSO_ECN | GSO_TCPV4, ..tcp4 };
        assert_eq!(validate(ecn, &tcp4_bytes, MTU).unwrap().header(), ecn);
        let (udp, udp_bytes) = super_udp(true, &[7; 3000], 1200);
        for gso_type in [GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4 | GSO_ECN] {
            let error = GsoError::GsoType { gso_type, protocol: protocol::UDP };
            assert_eq!(refused(VirtioNetHeader { gso_type, ..udp }, &udp_bytes), error);
        }
    }

    #[test]
    fn unknown_flags_are_refused_and_a_segmented_packet_leaves_its_checksum() {
        let (header, packet) = super_tcp(false, &[7; 3000], 1200);
        for flags in [0, 2, 5, 0x81] {
            assert_eq!(refused(VirtioNetHeader { flags, ..header }, &packet), GsoError::Flags(flags));
        }
        let checked = VirtioNetHeader { flags: DATA_VALID, ..Default::default() };
        assert!(validate(checked, &udp4(b"hello"), MTU).unwrap().is_ordinary());
    }

    #[test]
    fn the_checksum_is_where_the_protocol_has_it() {
        let (header, packet) = super_tcp(true, &[7; 3000], 1200);
        for (start, offset) in [(40, 6), (39, 17), (0, 56), (60, 16), (0xffff, 16), (40, 0xffff)] {
            let moved = VirtioNetHeader { csum_start: start, csum_offset: offset, ..header };
            let error = GsoError::Checksum { start, offset, protocol: protocol::TCP };
            assert_eq!(refused(moved, &packet), error);
        }
        let icmp =
            VirtioNetHeader { flags: NEEDS_CSUM, csum_start: 20, csum_offset: 2, ..Default::default() };
        let error = GsoError::Checksum { start: 20, offset: 2, protocol: protocol::ICMP };
        assert_eq!(refused(icmp, &icmp_echo4()), error);
    }

    #[test]
    fn header_lengths_are_computed_and_not_believed() {
        let (header, packet) = super_tcp(false, &[7; 3000], 1200);
        for hdr_len in [0, 39, packet.len() as u16 + 1, u16::MAX] {
            let error = GsoError::HeaderLength { hdr_len, real: 40, len: packet.len() };
            assert_eq!(refused(VirtioNetHeader { hdr_len, ..header }, &packet), error);
        }
        // What lies in one piece may include payload; the kernel is told the headers alone.
        let linear = VirtioNetHeader { hdr_len: packet.len() as u16, ..header };
        assert_eq!(validate(linear, &packet, MTU).unwrap().header(), header);
    }

    #[test]
    fn a_tcp_header_that_ends_outside_the_packet_is_refused() {
        let (header, mut packet) = super_tcp(false, &[7; 20], 1200);
        let error = GsoError::TransportHeader { at: 20, len: packet.len() };
        for data_offset in [0x40, 0xf0] {
            packet[32] = data_offset;
            assert_eq!(refused(header, &packet), error);
        }
    }

    #[test]
    fn fragments_are_never_left_to_be_finished_but_pass_as_they_are() {
        for made in [super_tcp(false, &[7; 2000], 1200), super_udp(false, &[7; 2000], 1200)] {
            for at in [(6, 0x20), (7, 1)] {
                let (header, mut packet) = made.clone();
                packet[at.0] = at.1;
                assert_eq!(refused(header, &packet), GsoError::Fragment);
            }
        }
        let mut fragment = udp4(b"hello");
        fragment[6] = 0x20;
        assert!(validate(VirtioNetHeader::default(), &fragment, MTU).is_ok());
    }

    #[test]
    fn a_whole_packet_behind_a_fragment_header_is_not_segmented() {
        for made in [super_tcp(true, &[7; 2000], 1200), super_udp(true, &[7; 2000], 1200)] {
            let (header, mut packet) = with_ip_extension(true, made);
            assert!(validate(header, &packet, MTU).is_ok());
            // The destination options become a fragment header that says "all of it".
            (packet[6], packet[42], packet[43]) = (44, 0, 0);
            assert_eq!(refused(header, &packet), GsoError::Fragment);
        }
    }

    #[test]
    fn what_is_neither_tcp_nor_udp_is_never_left_to_be_finished() {
        for (protocol, offset) in
            [(protocol::SCTP, 8), (protocol::ICMP, 2), (protocol::ICMPV6, 2), (4, 16), (47, 6)]
        {
            for v6 in [false, true] {
                let (header, mut packet) = super_tcp(v6, &[7; 3000], 1200);
                packet[if v6 { 6 } else { 9 }] = protocol;
                assert!(matches!(refused(header, &packet), GsoError::GsoType { .. }));
                let partial = VirtioNetHeader { gso_type: 0, gso_size: 0, csum_offset: offset, ..header };
                assert!(matches!(refused(partial, &packet), GsoError::Checksum { .. }));
                // As one ordinary packet each of them passes, where it fits.
                let ordinary = VirtioNetHeader::default();
                assert!(validate(ordinary, &packet, 65_535).unwrap().is_ordinary());
            }
        }
    }

    #[test]
    fn handshakes_and_resets_are_not_segmented() {
        for flag in [TCP_SYN, TCP_RST] {
            let (header, mut packet) = super_tcp(false, &[7; 3000], 1200);
            packet[20 + TCP_FLAGS_AT] |= flag;
            assert_eq!(refused(header, &packet), GsoError::ControlSegment);
        }
    }

    #[test]
    fn a_udp_length_that_contradicts_ip_is_refused() {
        let (header, mut packet) = super_udp(false, &[7; 3000], 1200);
        packet[24..26].copy_from_slice(&1000_u16.to_be_bytes());
        assert_eq!(refused(header, &packet), GsoError::UdpLength { announced: 1000, len: 3008 });
    }

    #[test]
    fn cutting_never_multiplies_the_bytes() {
        let (header, packet) = super_tcp(false, &[7; 3000], 20);
        assert!(validate(header, &packet, MTU).is_ok());
        for gso_size in [0, 1, 19] {
            let error = GsoError::SegmentTooSmall { gso_size, headers_len: 40 };
            assert_eq!(refused(VirtioNetHeader { gso_size, ..header }, &packet), error);
        }
        let (header, packet) = super_udp(false, &[7; 128 * 20 + 1], 20);
        assert_eq!(refused(header, &packet), GsoError::TooManyDatagrams(129));
        let (header, packet) = super_tcp(false, &[], 1200);
        assert_eq!(refused(header, &packet), GsoError::NoPayload);
    }

    #[test]
    fn a_packet_longer_than_its_length_field_is_refused() {
        let (header, mut packet) = super_tcp(false, &[7; 3000], 1200);
        packet.push(0);
        assert!(matches!(refused(header, &packet), GsoError::Packet(PacketError::Length { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_headers_on_real_packets_never_panic_and_never_point_outside(
            bytes in any::<[u8; 10]>(), flags in 0..4u8, gso_type in 0..6u8, which in 0..4u8, len in 0..3000usize,
        ) {
            let payload = vec![7; len];
            let (real, packet) = match which {
                0 | 1 => super_tcp(which == 0, &payload, 1200),
                _ => super_udp(which == 2, &payload, 1200),
            };
            let random = VirtioNetHeader::parse(&bytes);
            accepts_only_what_is_inside(random, &packet)?;
            accepts_only_what_is_inside(VirtioNetHeader { flags, gso_type, ..random }, &packet)?;
            accepts_only_what_is_inside(VirtioNetHeader { flags, gso_type, ..real }, &packet)?;
            accepts_only_what_is_inside(VirtioNetHeader { gso_size: random.gso_size, ..real }, &packet)?;
        }

        #[test]
        fn damaged_super_packets_never_panic(
            v6: bool, stream: bool, len in 0..200usize, damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let (header, packet) =
                if stream { super_tcp(v6, &vec![7; len], 100) } else { super_udp(v6, &vec![7; len], 100) };
            let mut bytes = [&header.emit()[..], &packet].concat();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            crate::fuzz::super_packet(&bytes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(header in any::<[u8; 10]>(), packet in any_packet()) {
            crate::fuzz::super_packet(&[&header[..], &packet].concat());
        }
    }

    fn accepts_only_what_is_inside(header: VirtioNetHeader, packet: &[u8]) -> Result<(), TestCaseError> {
        let Ok(view) = validate(header, packet, MTU) else { return Ok(()) };
        if header.needs_checksum() {
            let field = usize::from(header.csum_start) + usize::from(header.csum_offset);
            prop_assert_eq!(usize::from(header.csum_start), view.packet().payload_at());
            prop_assert!(field + 2 <= packet.len());
        }
        prop_assert!(view.segment_len() <= MTU);
        prop_assert!(validate(view.header(), packet, MTU).unwrap().header() == view.header());
        Ok(())
    }
}
