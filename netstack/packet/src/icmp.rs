//! ICMP errors about packets that go nowhere (RFC 792, 1812, 4443), among them "too big" (RFC 1191, 8201).
//!
//! A tunnel that drops in silence makes `ssh` hang; one that answers makes it fail at once, or send smaller
//! packets. Who must never be answered is RFC 1122 §3.2.2 and RFC 4443 §2.4 (e): errors about errors, packets to
//! or from a group, fragments behind the first, senders that are no single host.
//!
//! `from` is the address the answer claims to come from. Kernels drop packets that arrive from an address of
//! their own, so on a TUN interface it is the address that could not be reached, not the node's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum;
use crate::packet::{IpPacket, is_group, protocol};

/// RFC 1812 §4.3.2.3: as much of the packet as fits 576 bytes with the answer's own headers.
const MAX_V4: usize = 576;
/// RFC 4443 §2.4 (c): as much as fits the minimum MTU.
const MAX_V6: usize = 1280;

const V4_HEADER_LEN: usize = 20;
const V6_HEADER_LEN: usize = 40;
const ICMP_HEADER_LEN: usize = 8;

const HOP_LIMIT: u8 = 64;
/// RFC 1812 §4.3.2.5: errors have precedence 6, "internetwork control".
const TOS_INTERNETWORK_CONTROL: u8 = 0xc0;
const DONT_FRAGMENT: [u8; 2] = [0x40, 0];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// No route leads to the destination's network.
    NoRoute,
    /// The destination would be reached this way, but does not answer.
    Host,
    /// The destination is there, and nobody listens on the port.
    Port,
    /// A rule forbids the packet.
    AdminProhibited,
}

/// Type, code and the 32 bits after the checksum.
struct Message {
    kind: u8,
    code: u8,
    rest: [u8; 4],
}

/// Tells the sender of `original` that it cannot arrive. `None` when RFC 1122 forbids an answer, or `from` is of
/// the other family.
pub fn unreachable(original: &IpPacket<'_>, from: IpAddr, why: Unreachable) -> Option<Vec<u8>> {
    let (kind, code) = match (original.is_ipv4(), why) {
        (true, Unreachable::NoRoute) => (3, 0),
        (true, Unreachable::Host) => (3, 1),
        (true, Unreachable::Port) => (3, 3),
        (true, Unreachable::AdminProhibited) => (3, 13),
        (false, Unreachable::NoRoute) => (1, 0),
        (false, Unreachable::AdminProhibited) => (1, 1),
        (false, Unreachable::Host) => (1, 3),
        (false, Unreachable::Port) => (1, 4),
    };
    answer(original, from, Message { kind, code, rest: [0; 4] })
}

/// Tells the sender of `original` the largest size that fits.
///
/// IPv4 packets that allow fragmentation get this answer too: a tunnel does not fragment, and senders that
/// learn the size fragment themselves.
pub fn too_big(original: &IpPacket<'_>, from: IpAddr, mtu: u16) -> Option<Vec<u8>> {
    let [high, low] = mtu.to_be_bytes();
    let rest = [0, 0, high, low]; // u16 unused ‖ u16 MTU (RFC 1191); one u32 in ICMPv6
    let (kind, code) = if original.is_ipv4() { (3, 4) } else { (2, 0) };
    answer(original, from, Message { kind, code, rest })
}

fn answer(original: &IpPacket<'_>, from: IpAddr, message: Message) -> Option<Vec<u8>> {
    if !may_be_answered(original) {
        return None;
    }
    match (from, original.source()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Some(answer_v4(original.as_bytes(), from, to, &message)),
        (IpAddr::V6(from), IpAddr::V6(to)) => Some(answer_v6(original.as_bytes(), from, to, &message)),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

fn may_be_answered(original: &IpPacket<'_>) -> bool {
    !original.is_later_fragment()
        && is_single_host(original.source())
        && !is_group(original.destination())
        && !is_icmp_error(original)
}

/// RFC 1122 §3.2.2: not zero, loopback, broadcast, multicast or class E.
fn is_single_host(source: IpAddr) -> bool {
    let reserved = match source {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.octets()[0] >= 240,
        IpAddr::V6(v6) => v6.is_unspecified(),
    };
    !reserved && !source.is_loopback() && !is_group(source)
}

/// ICMP that reports an error, or is cut too short to say what it is.
fn is_icmp_error(packet: &IpPacket<'_>) -> bool {
    let kind = packet.payload().first();
    match (packet.is_ipv4(), packet.protocol()) {
        // Unreachable, source quench, redirect, time exceeded, parameter problem.
        (true, protocol::ICMP) => kind.is_none_or(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12)),
        // RFC 4443 §2.1: errors have the high bit clear. Redirect (137) counts as one, §2.4 (e.2).
        (false, protocol::ICMPV6) => kind.is_none_or(|kind| *kind < 128 || *kind == 137),
        (true | false, _) => false,
    }
}

fn answer_v4(original: &[u8], from: Ipv4Addr, to: Ipv4Addr, message: &Message) -> Vec<u8> {
    let quote = &original[..original.len().min(MAX_V4 - V4_HEADER_LEN - ICMP_HEADER_LEN)];
    let mut ip = [0; V4_HEADER_LEN];
    ip[0] = 0x45;
    ip[1] = TOS_INTERNETWORK_CONTROL;
    ip[2..4].copy_from_slice(&((V4_HEADER_LEN + ICMP_HEADER_LEN + quote.len()) as u16).to_be_bytes());
    ip[6..8].copy_from_slice(&DONT_FRAGMENT);
    ip[8] = HOP_LIMIT;
    ip[9] = protocol::ICMP;
    ip[12..16].copy_from_slice(&from.octets());
    ip[16..20].copy_from_slice(&to.octets());
    let checksum = checksum::internet(&[&ip]);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let icmp = message.header(checksum::internet(&[&message.header(0), quote]));
    [&ip[..], &icmp, quote].concat()
}

fn answer_v6(original: &[u8], from: Ipv6Addr, to: Ipv6Addr, message: &Message) -> Vec<u8> {
    let quote = &original[..original.len().min(MAX_V6 - V6_HEADER_LEN - ICMP_HEADER_LEN)];
    let payload_len = (ICMP_HEADER_LEN + quote.len()) as u16;
    let mut ip = [0; V6_HEADER_LEN];
    ip[0] = 0x60;
    ip[4..6].copy_from_slice(&payload_len.to_be_bytes());
    ip[6] = protocol::ICMPV6;
    ip[7] = HOP_LIMIT;
    ip[8..24].copy_from_slice(&from.octets());
    ip[24..40].copy_from_slice(&to.octets());
    // RFC 8200 §8.1: the checksum covers a pseudo-header of addresses, length and next header.
    let [high, low] = payload_len.to_be_bytes();
    let pseudo = [high, low, 0, protocol::ICMPV6];
    let checksum = checksum::internet(&[&ip[8..40], &pseudo, &message.header(0), quote]);
    [&ip[..], &message.header(checksum), quote].concat()
}

impl Message {
    fn header(&self, checksum: u16) -> [u8; ICMP_HEADER_LEN] {
        let [c0, c1] = checksum.to_be_bytes();
        let [r0, r1, r2, r3] = self.rest;
        [self.kind, self.code, c0, c1, r0, r1, r2, r3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use etherparse::{Icmpv4Slice, Icmpv6Slice, Ipv4Slice, Ipv6Slice};
    use proptest::prelude::*;

    const ALL: [Unreachable; 3] = [Unreachable::NoRoute, Unreachable::Host, Unreachable::AdminProhibited];

    fn parse(bytes: &[u8]) -> IpPacket<'_> {
        IpPacket::parse(bytes).unwrap()
    }

    /// Type, code, the 32 bits behind the checksum and the quote, after all checksums were found right.
    #[track_caller]
    fn checked(answer: &[u8]) -> (u8, u8, [u8; 4], Vec<u8>) {
        let packet = parse(answer);
        let icmp = packet.payload();
        if packet.is_ipv4() {
            let ip = Ipv4Slice::from_slice(answer).unwrap();
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(checksum::internet(&[icmp]), 0, "summed with its checksum a message gives zero");
            assert_eq!(Icmpv4Slice::from_slice(icmp).unwrap().type_u8(), icmp[0]);
        } else {
            let ip = Ipv6Slice::from_slice(answer).unwrap();
            let slice = Icmpv6Slice::from_slice(icmp).unwrap();
            assert!(slice.is_checksum_valid(ip.header().source(), ip.header().destination()));
        }
        (icmp[0], icmp[1], icmp[4..8].try_into().unwrap(), icmp[8..].to_vec())
    }

    #[test]
    fn each_reason_has_its_type_and_code_in_both_families() {
        let (v4, v6) = (udp4(b"hello"), udp6(b"hello"));
        let codes = |bytes: &[u8]| {
            ALL.map(|why| {
                let packet = parse(bytes);
                let (kind, code, ..) = checked(&unreachable(&packet, packet.destination(), why).unwrap());
                (kind, code)
            })
        };
        assert_eq!(codes(&v4), [(3, 0), (3, 1), (3, 13)]);
        assert_eq!(codes(&v6), [(1, 0), (1, 3), (1, 1)]);
    }

    #[test]
    fn the_answer_goes_to_the_sender_and_quotes_the_packet() {
        for bytes in [udp4(b"hello"), udp6(b"hello")] {
            let original = parse(&bytes);
            let answer = unreachable(&original, original.destination(), Unreachable::Host).unwrap();
            assert_eq!(parse(&answer).source(), original.destination());
            assert_eq!(parse(&answer).destination(), original.source());
            assert_eq!(checked(&answer).3, bytes);
        }
    }

    #[test]
    fn too_big_names_the_mtu() {
        for (bytes, kind_and_code) in [(udp4(&[7; 1500]), (3, 4)), (udp6(&[7; 1500]), (2, 0))] {
            let original = parse(&bytes);
            let answer = too_big(&original, original.destination(), 1420).unwrap();
            let (kind, code, rest, _) = checked(&answer);
            assert_eq!(((kind, code), rest), (kind_and_code, [0, 0, 0x05, 0x8c]));
        }
    }

    #[test]
    fn a_long_packet_is_quoted_up_to_576_bytes_in_ipv4_and_1280_in_ipv6() {
        for (bytes, total) in [(udp4(&[7; 4000]), 576), (udp6(&[7; 4000]), 1280)] {
            let original = parse(&bytes);
            let answer = too_big(&original, original.destination(), 1420).unwrap();
            assert_eq!(answer.len(), total);
            assert!(bytes.starts_with(&checked(&answer).3));
        }
    }

    #[test]
    fn an_answer_is_the_same_byte_for_byte_as_one_computed_by_hand() {
        let bytes = [
            0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 1, 0x26, 0x5f, 10, 64, 0, 1, 10, 64, 0, 2, // IPv4
            8, 0, 0xf7, 0xfd, 0, 1, 0, 1, // echo request
        ];
        let packet = parse(&bytes);
        let answer = unreachable(&packet, packet.destination(), Unreachable::Host).unwrap();
        let expected = [
            0x45, 0xc0, 0, 56, 0, 0, 0x40, 0, 64, 1, 0x25, 0x83, 10, 64, 0, 2, 10, 64, 0, 1, // IPv4
            3, 1, 0xfc, 0xfe, 0, 0, 0, 0, // host unreachable
        ];
        assert_eq!(answer[..28], expected);
        assert_eq!(answer[28..], bytes);
    }

    #[test]
    fn echo_requests_are_answered_and_errors_never() {
        for (mut bytes, at, errors) in
            [(icmp_echo4(), 20, vec![3, 4, 5, 11, 12]), (icmp_echo6(), 40, vec![1, 2, 3, 4, 100, 127, 137])]
        {
            let from = parse(&bytes).destination();
            assert!(unreachable(&parse(&bytes), from, Unreachable::Host).is_some());
            for kind in errors {
                bytes[at] = kind;
                assert_eq!(unreachable(&parse(&bytes), from, Unreachable::Host), None, "type {kind}");
                assert_eq!(too_big(&parse(&bytes), from, 1280), None, "type {kind}");
            }
        }
    }

    #[test]
    fn an_icmp_message_without_a_type_is_not_answered() {
        let mut bytes = icmp_echo4();
        bytes.truncate(20);
        bytes[3] = 20;
        assert_eq!(unreachable(&parse(&bytes), V4.1.into(), Unreachable::Host), None);
    }

    #[test]
    fn first_fragments_are_answered_and_later_ones_are_not() {
        let mut bytes = udp4(b"hello");
        bytes[6] = 0x20;
        assert!(unreachable(&parse(&bytes), V4.1.into(), Unreachable::Host).is_some());
        bytes[7] = 1;
        assert_eq!(unreachable(&parse(&bytes), V4.1.into(), Unreachable::Host), None);
    }

    #[test]
    fn senders_that_are_no_single_host_are_not_answered() {
        let mut bytes = udp4(b"hello");
        for source in [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1], [255; 4]] {
            bytes[12..16].copy_from_slice(&source);
            assert_eq!(unreachable(&parse(&bytes), V4.1.into(), Unreachable::Host), None, "{source:?}");
        }
        let mut bytes = udp6(b"hello");
        for source in ["::", "::1", "ff02::1"] {
            let source: Ipv6Addr = source.parse().unwrap();
            bytes[8..24].copy_from_slice(&source.octets());
            assert_eq!(unreachable(&parse(&bytes), V6.1.into(), Unreachable::Host), None, "{source}");
        }
    }

    #[test]
    fn packets_to_a_group_are_not_answered() {
        let mut bytes = udp4(b"hello");
        for destination in [[224, 0, 0, 251], [255; 4]] {
            bytes[16..20].copy_from_slice(&destination);
            assert_eq!(too_big(&parse(&bytes), V4.0.into(), 1280), None);
        }
        let mut bytes = udp6(b"hello");
        bytes[24] = 0xff;
        assert_eq!(too_big(&parse(&bytes), V6.0.into(), 1280), None);
    }

    #[test]
    fn an_answer_never_comes_from_an_address_of_the_other_family() {
        assert_eq!(unreachable(&parse(&udp4(b"")), V6.1.into(), Unreachable::Host), None);
        assert_eq!(unreachable(&parse(&udp6(b"")), V4.1.into(), Unreachable::Host), None);
    }

    proptest! {
        #[test]
        fn every_answer_is_a_sound_packet_that_is_itself_never_answered(
            bytes in any_packet(), why in 0..3usize,
        ) {
            let original = parse(&bytes);
            let answer = unreachable(&original, original.destination(), ALL[why]);
            let Some(answer) = answer else { return Ok(()) };
            let quote = checked(&answer).3;
            prop_assert!(bytes.starts_with(&quote));
            let limit = if original.is_ipv4() { MAX_V4 } else { MAX_V6 };
            prop_assert!(answer.len() <= limit);
            let answered = parse(&answer);
            prop_assert_eq!(unreachable(&answered, answered.destination(), Unreachable::Host), None);
        }
    }
}
