//! IPv6 extension headers (RFC 8200 §4): the way to the transport header.

use etherparse::{IpNumber, Ipv6FragmentHeaderSlice, Ipv6RawExtHeaderSlice, ip_number};

use crate::packet::PacketError;

/// Each header is 8 bytes or more, so without a bound one packet could hold thousands; RFC 8200 §4.1 orders
/// five before the payload.
pub(crate) const MAX_HEADERS: usize = 8;

/// In a routing header (RFC 8200 §4.4): how many more nodes it names.
const SEGMENTS_LEFT_AT: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fragment {
    /// Not a fragment.
    Whole,
    /// A whole packet behind a fragment header (RFC 6946).
    Atomic,
    /// The fragment that begins with the transport header.
    First,
    Later,
}

impl Fragment {
    pub(crate) fn from_fields(offset: u16, more: bool) -> Self {
        match (offset, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::First,
            (_, _) => Self::Later,
        }
    }
}

/// Where the payload begins, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Walked {
    pub(crate) protocol: u8,
    /// Bytes of all extension headers.
    pub(crate) len: usize,
    pub(crate) fragment: Fragment,
    /// A routing header sends it on to somebody else.
    pub(crate) source_routed: bool,
}

/// Follows the headers up to the first that is not an extension. Behind the fragment header of a later
/// fragment nothing is looked at: there are the middle bytes of something else.
pub(crate) fn walk(first: IpNumber, bytes: &[u8]) -> Result<Walked, PacketError> {
    let mut walked = Walked { protocol: first.0, len: 0, fragment: Fragment::Whole, source_routed: false };
    for _ in 0..=MAX_HEADERS {
        if walked.fragment == Fragment::Later || !step(&mut walked, bytes)? {
            return Ok(walked);
        }
    }
    Err(PacketError::TooManyExtensions)
}

/// Steps over one extension header; `false` when the next header is none. AH and ESP count as payload: what
/// they protect is not for a tunnel to look into.
fn step(walked: &mut Walked, bytes: &[u8]) -> Result<bool, PacketError> {
    let rest = &bytes[walked.len..];
    let (next, len) = match IpNumber(walked.protocol) {
        ip_number::IPV6_HEADER_HOP_BY_HOP
        | ip_number::IPV6_ROUTE_HEADER
        | ip_number::IPV6_DESTINATION_OPTIONS => {
            let header = Ipv6RawExtHeaderSlice::from_slice(rest).map_err(|_| PacketError::ExtensionCut)?;
            let segments_left = header.slice()[SEGMENTS_LEFT_AT];
            let routing = walked.protocol == ip_number::IPV6_ROUTE_HEADER.0;
            walked.source_routed |= routing && segments_left > 0;
            (header.next_header(), header.slice().len())
        }
        ip_number::IPV6_FRAGMENTATION_HEADER => {
            let header = Ipv6FragmentHeaderSlice::from_slice(rest).map_err(|_| PacketError::ExtensionCut)?;
            let kind = Fragment::from_fields(header.fragment_offset().value(), header.more_fragments());
            let kind = kind.max(Fragment::Atomic);
            // A fragment stays one, whatever a second fragment header says.
            walked.fragment = walked.fragment.max(kind);
            (header.next_header(), header.slice().len())
        }
        _ => return Ok(false), // a transport protocol, or "no next header" (59)
    };
    walked.protocol = next.0;
    walked.len += len;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IpPacket;
    use crate::packet::protocol;
    use crate::testing::*;

    const UDP: u8 = protocol::UDP;
    const ROUTE: u8 = 43;
    const FRAGMENT: u8 = 44;
    const OPTIONS: u8 = 60;

    fn fragment(next: u8, offset: u16, more: bool) -> Vec<u8> {
        let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
        vec![next, 0, high, low, 0, 0, 0, 1]
    }

    fn options(next: u8) -> Vec<u8> {
        vec![next, 0, 1, 4, 0, 0, 0, 0]
    }

    #[test]
    fn the_transport_protocol_is_found_behind_a_chain_of_headers() {
        let chain = [options(ROUTE), options(OPTIONS), options(UDP)].concat();
        let bytes = udp6_behind(0, &chain);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!(packet.protocol(), UDP);
        assert_eq!(packet.ports().unwrap().destination, 53);
    }

    #[test]
    fn fragments_are_recognised_and_an_atomic_one_is_a_whole_packet() {
        for (header, is_fragment, later) in [
            (fragment(UDP, 0, false), false, false),
            (fragment(UDP, 0, true), true, false),
            (fragment(UDP, 9, true), true, true),
            (fragment(UDP, 9, false), true, true),
        ] {
            let bytes = udp6_behind(FRAGMENT, &header);
            let packet = IpPacket::parse(&bytes).unwrap();
            assert_eq!((packet.is_fragment(), packet.is_later_fragment()), (is_fragment, later));
            assert_eq!(packet.ports().is_some(), !is_fragment);
        }
    }

    #[test]
    fn a_routing_header_that_names_further_nodes_is_noticed_wherever_it_stands() {
        let routing = |next: u8, left: u8| vec![next, 0, 2, left, 0, 0, 0, 0];
        for (chain, first, expected) in [
            (routing(UDP, 1), ROUTE, true),
            (routing(UDP, 0), ROUTE, false),
            ([options(ROUTE), routing(UDP, 3)].concat(), OPTIONS, true),
            ([fragment(ROUTE, 0, false), routing(UDP, 3)].concat(), FRAGMENT, true),
            // A destination option whose bytes look like it.
            (routing(UDP, 1), OPTIONS, false),
        ] {
            let bytes = udp6_behind(first, &chain);
            assert_eq!(IpPacket::parse(&bytes).unwrap().is_source_routed(), expected, "{chain:?}");
        }
    }

    #[test]
    fn a_second_fragment_header_does_not_make_a_fragment_whole() {
        let chain = [fragment(FRAGMENT, 0, true), fragment(UDP, 0, false)].concat();
        let bytes = udp6_behind(FRAGMENT, &chain);
        assert!(IpPacket::parse(&bytes).unwrap().is_fragment());
    }

    #[test]
    fn the_content_of_a_later_fragment_is_not_taken_for_headers() {
        let bytes = udp6_behind(FRAGMENT, &fragment(OPTIONS, 9, false));
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!((packet.protocol(), packet.payload_at()), (OPTIONS, 48));
    }

    #[test]
    fn a_header_that_ends_outside_the_packet_is_refused() {
        let mut cut = options(UDP);
        cut[1] = 200;
        assert_eq!(IpPacket::parse(&udp6_behind(OPTIONS, &cut)), Err(PacketError::ExtensionCut));
    }

    #[test]
    fn a_chain_of_more_than_eight_headers_is_refused() {
        let behind = |n: usize| {
            let chain = [options(OPTIONS).repeat(n - 1), options(UDP)].concat();
            udp6_behind(OPTIONS, &chain)
        };
        assert!(IpPacket::parse(&behind(8)).is_ok());
        assert_eq!(IpPacket::parse(&behind(9)), Err(PacketError::TooManyExtensions));
    }
}
