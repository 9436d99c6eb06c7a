//! The validated view of one IP packet.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};

use crate::extensions::{self, Fragment};

/// Protocol numbers (IANA) that this crate looks into.
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
    pub const SCTP: u8 = 132;
}

/// One whole IP packet: nothing missing, nothing behind it.
///
/// Guaranteed: the version is 4 or 6, the length fields equal the length of the slice, the IPv6 extension
/// headers before the payload are complete. Not guaranteed: anything about the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpPacket<'a> {
    bytes: &'a [u8],
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    payload_at: usize,
    fragment: Fragment,
    source_routed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    pub source: u16,
    pub destination: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    #[error("an empty packet")]
    Empty,
    #[error("IP version {0} is neither 4 nor 6")]
    Version(u8),
    #[error("the IPv{version} header does not fit {len} bytes or contradicts itself")]
    Header { version: u8, len: usize },
    #[error("the header announces {announced} bytes but {len} arrived")]
    Length { announced: usize, len: usize },
    #[error("an IPv6 extension header ends outside the packet")]
    ExtensionCut,
    #[error("more than {} IPv6 extension headers", extensions::MAX_HEADERS)]
    TooManyExtensions,
}

impl<'a> IpPacket<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        match bytes.first().ok_or(PacketError::Empty)? >> 4 {
            4 => Self::parse_v4(bytes),
            6 => Self::parse_v6(bytes),
            other => Err(PacketError::Version(other)),
        }
    }

    fn parse_v4(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let bad_header = |_| PacketError::Header { version: 4, len: bytes.len() };
        let header = Ipv4HeaderSlice::from_slice(bytes).map_err(bad_header)?;
        check_length(usize::from(header.total_len()), bytes)?;
        Ok(Self {
            bytes,
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            protocol: header.protocol().0,
            payload_at: header.slice().len(),
            fragment: Fragment::from_fields(header.fragments_offset().value(), header.more_fragments()),
            source_routed: has_route_option(header.options()),
        })
    }

    fn parse_v6(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let bad_header = |_| PacketError::Header { version: 6, len: bytes.len() };
        let header = Ipv6HeaderSlice::from_slice(bytes).map_err(bad_header)?;
        let header_len = header.slice().len();
        // A payload length of 0 would mean a jumbogram (RFC 2675), which no carrier of ours takes.
        check_length(header_len + usize::from(header.payload_length()), bytes)?;
        let walked = extensions::walk(header.next_header(), &bytes[header_len..])?;
        Ok(Self {
            bytes,
            source: header.source_addr().into(),
            destination: header.destination_addr().into(),
            protocol: walked.protocol,
            payload_at: header_len + walked.len,
            fragment: walked.fragment,
            source_routed: walked.source_routed,
        })
    }

    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn source(&self) -> IpAddr {
        self.source
    }

    pub fn destination(&self) -> IpAddr {
        self.destination
    }

    pub fn is_ipv4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// The transport protocol, behind all extension headers. For a fragment that is not the first one, the
    /// protocol its IP header names.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// What follows the IP headers; of a fragment, its part of it.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.payload_at..]
    }

    pub(crate) fn payload_at(&self) -> usize {
        self.payload_at
    }

    /// Part of a larger packet. An "atomic fragment" (RFC 6946) is a whole packet.
    pub fn is_fragment(&self) -> bool {
        self.fragment >= Fragment::First
    }

    /// Behind a fragment header, although perhaps not a fragment.
    pub(crate) fn has_fragment_header(&self) -> bool {
        self.fragment != Fragment::Whole
    }

    /// The sender names further nodes that the packet shall be sent on to, so that its destination is not where it ends:
    /// a source route of IPv4, or a routing header that is not used up.
    pub fn is_source_routed(&self) -> bool {
        self.source_routed
    }

    /// A fragment without the transport header.
    pub fn is_later_fragment(&self) -> bool {
        self.fragment == Fragment::Later
    }

    /// The ports, where the protocol has them. Fragments show none, not even the first one, so that all
    /// fragments of a packet look alike.
    pub fn ports(&self) -> Option<Ports> {
        let with_ports = matches!(self.protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
        if !with_ports || self.is_fragment() {
            return None;
        }
        let [s0, s1, d0, d1] = *self.payload().first_chunk()?;
        Some(Ports { source: u16::from_be_bytes([s0, s1]), destination: u16::from_be_bytes([d0, d1]) })
    }

    /// RFC 6437; `None` for IPv4 and for packets without one.
    pub fn flow_label(&self) -> Option<u32> {
        if self.is_ipv4() {
            return None;
        }
        let [_, b1, b2, b3, ..] = *self.bytes else {
            return None;
        };
        Some(u32::from_be_bytes([0, b1 & 0x0f, b2, b3])).filter(|label| *label != 0)
    }
}

/// Loose or strict source route (RFC 791 §3.1). Options behind one that is damaged are not found by a kernel either.
fn has_route_option(mut options: &[u8]) -> bool {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    while let [kind, rest @ ..] = options {
        match (*kind, rest.first()) {
            (LOOSE | STRICT, _) => return true,
            (END, _) => return false,
            (NO_OPERATION, _) => options = rest,
            (_, Some(&len)) if (2..=options.len()).contains(&usize::from(len)) => {
                options = &options[usize::from(len)..];
            }
            _ => return false,
        }
    }
    false
}

fn check_length(announced: usize, bytes: &[u8]) -> Result<(), PacketError> {
    if announced != bytes.len() {
        return Err(PacketError::Length { announced, len: bytes.len() });
    }
    Ok(())
}

/// Addresses no single host answers for: multicast and IPv4's limited broadcast.
pub(crate) fn is_group(addr: IpAddr) -> bool {
    addr.is_multicast() || addr == IpAddr::V4(Ipv4Addr::BROADCAST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::{collection::vec, prelude::*};

    #[test]
    fn addresses_protocol_and_ports_of_both_families_are_read() {
        for (bytes, source, destination) in
            [(udp4(b"hello"), "10.64.0.1", "10.64.0.2"), (udp6(b"hello"), "fd00::1", "fd00::2")]
        {
            let packet = IpPacket::parse(&bytes).unwrap();
            assert_eq!(packet.source().to_string(), source);
            assert_eq!(packet.destination().to_string(), destination);
            assert_eq!(packet.protocol(), protocol::UDP);
            assert_eq!(packet.ports(), Some(Ports { source: 5000, destination: 53 }));
            assert_eq!(&packet.payload()[8..], b"hello");
            assert!(!packet.is_fragment());
        }
    }

    #[test]
    fn a_packet_shorter_or_longer_than_its_length_field_is_refused() {
        for mut bytes in [udp4(b"hello"), udp6(b"hello")] {
            let announced = bytes.len();
            bytes.pop();
            let error = PacketError::Length { announced, len: announced - 1 };
            assert_eq!(IpPacket::parse(&bytes), Err(error));
            bytes.extend([0, 0]);
            let error = PacketError::Length { announced, len: announced + 1 };
            assert_eq!(IpPacket::parse(&bytes), Err(error));
        }
    }

    #[test]
    fn a_total_length_inside_the_header_is_refused() {
        let mut bytes = udp4(b"");
        bytes[2..4].copy_from_slice(&12_u16.to_be_bytes());
        assert!(IpPacket::parse(&bytes).is_err());
        assert!(IpPacket::parse(&bytes[..12]).is_err());
    }

    #[test]
    fn a_jumbogram_is_refused() {
        let mut bytes = udp6(b"hello");
        bytes[4..6].copy_from_slice(&[0, 0]);
        assert_eq!(IpPacket::parse(&bytes), Err(PacketError::Length { announced: 40, len: bytes.len() }));
    }

    #[test]
    fn other_versions_and_nothing_at_all_are_refused() {
        assert_eq!(IpPacket::parse(&[]), Err(PacketError::Empty));
        assert_eq!(IpPacket::parse(&[0x50; 40]), Err(PacketError::Version(5)));
        assert_eq!(IpPacket::parse(&[0x45; 19]), Err(PacketError::Header { version: 4, len: 19 }));
        assert_eq!(IpPacket::parse(&[0x44; 40]), Err(PacketError::Header { version: 4, len: 40 }));
    }

    #[test]
    fn ipv4_fragments_show_no_ports() {
        for (flags_and_offset, later) in [(0x2000_u16, false), (0x2010, true), (0x0010, true)] {
            let mut bytes = udp4(b"hello");
            bytes[6..8].copy_from_slice(&flags_and_offset.to_be_bytes());
            let packet = IpPacket::parse(&bytes).unwrap();
            assert!(packet.is_fragment());
            assert_eq!((packet.is_later_fragment(), packet.ports()), (later, None));
        }
    }

    #[test]
    fn ipv4_options_are_stepped_over() {
        let mut bytes = udp4(b"hello");
        bytes.splice(20..20, [1, 1, 1, 0]);
        bytes[0] = 0x46;
        let len = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!(packet.ports(), Some(Ports { source: 5000, destination: 53 }));
    }

    #[test]
    fn source_routes_among_ipv4_options_are_noticed() {
        for (options, expected) in [
            ([131, 7, 4, 10, 0, 0, 1, 0], true),
            ([1, 137, 7, 4, 10, 0, 0, 1], true),
            // Record route, which leads nowhere else; and what would be one, behind the end.
            ([7, 7, 4, 10, 0, 0, 1, 0], false),
            ([0, 131, 7, 4, 10, 0, 0, 1], false),
            ([7, 0, 131, 7, 4, 10, 0, 0], false),
            ([7, 200, 131, 7, 4, 10, 0, 0], false),
        ] {
            let mut bytes = udp4(b"hello");
            bytes.splice(20..20, options);
            bytes[0] = 0x47;
            let len = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            assert_eq!(IpPacket::parse(&bytes).unwrap().is_source_routed(), expected, "{options:?}");
        }
    }

    #[test]
    fn a_transport_header_cut_before_the_ports_shows_none() {
        let mut bytes = udp4(b"");
        bytes.truncate(23);
        bytes[2..4].copy_from_slice(&23_u16.to_be_bytes());
        assert_eq!(IpPacket::parse(&bytes).unwrap().ports(), None);
    }

    #[test]
    fn the_flow_label_is_that_of_ipv6() {
        let mut bytes = udp6(b"");
        assert_eq!(IpPacket::parse(&bytes).unwrap().flow_label(), None);
        bytes[..4].copy_from_slice(&[0x6f, 0xfa, 0xbc, 0xde]);
        assert_eq!(IpPacket::parse(&bytes).unwrap().flow_label(), Some(0xa_bcde));
        assert_eq!(IpPacket::parse(&udp4(b"")).unwrap().flow_label(), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(version in 4..=6u8, mut bytes in vec(any::<u8>(), 1..120)) {
            bytes[0] = version << 4 | bytes[0] & 0x0f;
            crate::fuzz::packet(&bytes);
        }

        #[test]
        fn damaged_packets_never_panic(
            bytes in any_packet(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = bytes;
            let at = at.index(bytes.len());
            bytes[at] = byte;
            crate::fuzz::packet(&bytes);
        }

        #[test]
        fn etherparse_agrees_on_every_packet_that_is_accepted(bytes in any_packet()) {
            let packet = IpPacket::parse(&bytes).unwrap();
            let reference = etherparse::IpSlice::from_slice(&bytes).unwrap();
            prop_assert_eq!(packet.source(), reference.source_addr());
            prop_assert_eq!(packet.destination(), reference.destination_addr());
            prop_assert_eq!(packet.protocol(), reference.payload_ip_number().0);
            prop_assert_eq!(packet.payload(), reference.payload().payload);
            prop_assert_eq!(packet.is_fragment(), reference.is_fragmenting_payload());
        }
    }
}
