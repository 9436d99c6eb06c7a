//! Explicit congestion notification in the IP header (RFC 3168): what a queue says to a flow that listens, in place of
//! dropping its packets.
//!
//! Both capable codepoints are marked alike, as RFC 8311 §4.3 leaves to a queue that does not tell them apart.

use crate::checksum;

const ECN: u8 = 0b11;
const NOT_CAPABLE: u8 = 0b00;

const V4_CHECKSUM_AT: usize = 10;
const V4_HEADER_LEN: usize = 20;
const V6_HEADER_LEN: usize = 40;
/// In IPv6 the traffic class begins in the middle of the first byte, so its last two bits are in the middle of the second.
const V6_SHIFT: u8 = 4;

/// Says "congestion experienced" in the header of `packet`, which may be a super-packet: each of its segments inherits
/// the header. `false`, and nothing changed, where the flow does not take part, or where this is no IP packet.
///
/// Nothing but the IP header's own checksum covers these bits, and that one is updated.
pub fn mark_congestion(packet: &mut [u8]) -> bool {
    match packet.first().map(|first| first >> 4) {
        Some(4) if packet.len() >= V4_HEADER_LEN => mark_v4(packet),
        Some(6) if packet.len() >= V6_HEADER_LEN => mark_v6(packet),
        Some(_) | None => false,
    }
}

fn mark_v4(packet: &mut [u8]) -> bool {
    if packet[1] & ECN == NOT_CAPABLE {
        return false;
    }
    let word = |packet: &[u8], at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let (old, sum) = (word(packet, 0), word(packet, V4_CHECKSUM_AT));
    packet[1] |= ECN;
    let sum = checksum::update(sum, old, word(packet, 0));
    packet[V4_CHECKSUM_AT..V4_CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

fn mark_v6(packet: &mut [u8]) -> bool {
    if packet[1] >> V6_SHIFT & ECN == NOT_CAPABLE {
        return false;
    }
    packet[1] |= ECN << V6_SHIFT;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gso::{VirtioNetHeader, validate};
    use crate::testing::*;
    use etherparse::IpSlice;
    use proptest::prelude::*;

    fn with_ecn(mut bytes: Vec<u8>, ecn: u8) -> Vec<u8> {
        if bytes[0] >> 4 == 4 {
            bytes[1] = bytes[1] & !ECN | ecn;
            bytes[10..12].fill(0);
            let sum = checksum::internet(&[&bytes[..20]]);
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            bytes[1] = bytes[1] & !(ECN << V6_SHIFT) | ecn << V6_SHIFT;
        }
        bytes
    }

    fn ecn_of(bytes: &[u8]) -> u8 {
        match IpSlice::from_slice(bytes).unwrap() {
            IpSlice::Ipv4(v4) => v4.header().ecn().value(),
            IpSlice::Ipv6(v6) => v6.header().traffic_class() & ECN,
        }
    }

    #[test]
    fn capable_flows_are_marked_and_the_others_are_left_alone() {
        for make in [udp4, udp6] {
            for ecn in [1, 2, 3] {
                let mut bytes = with_ecn(make(b"hello"), ecn);
                assert!(mark_congestion(&mut bytes));
                assert_eq!(ecn_of(&bytes), 3);
            }
            let before = with_ecn(make(b"hello"), 0);
            let mut bytes = before.clone();
            assert!(!mark_congestion(&mut bytes));
            assert_eq!(bytes, before);
        }
    }

    #[test]
    fn every_segment_of_a_marked_super_packet_is_marked_and_its_checksums_are_right() {
        for v6 in [false, true] {
            let (header, packet) = crate::gso::testing::super_tcp(v6, &[7; 3000], 1200);
            let mut packet = with_ecn(packet, 2);
            assert!(mark_congestion(&mut packet));
            let view = validate(header, &packet, 65_535).unwrap();
            let count = view.split(1280, &mut Vec::new(), |segment| {
                assert_eq!(ecn_of(segment), 3);
                assert!(crate::gso::testing::has_right_checksums(segment));
            });
            assert_eq!(count, Ok(3));
        }
    }

    proptest! {
        #[test]
        fn a_mark_changes_two_bits_and_keeps_the_header_checksum_right(
            v6: bool, ecn in 1..=3u8, tos in any::<u8>(), id in any::<u16>(),
        ) {
            let mut bytes = if v6 { udp6(b"hello") } else { udp4(b"hello") };
            if !v6 {
                bytes[1] = tos;
                bytes[4..6].copy_from_slice(&id.to_be_bytes());
            }
            let before = with_ecn(bytes, ecn);
            let mut marked = before.clone();
            prop_assert!(mark_congestion(&mut marked));
            prop_assert_eq!(&marked, &with_ecn(before, 3));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_a_second_mark_changes_nothing(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            if mark_congestion(&mut bytes) {
                let once = bytes.clone();
                prop_assert!(mark_congestion(&mut bytes));
                prop_assert_eq!(bytes, once);
            }
        }

        #[test]
        fn a_super_packet_is_still_valid_after_a_mark(v6: bool, len in 1..5000usize, ecn in 1..=3u8) {
            let (header, packet): (VirtioNetHeader, _) = crate::gso::testing::super_udp(v6, &vec![7; len], 1200);
            let mut packet = with_ecn(packet, ecn);
            prop_assert!(mark_congestion(&mut packet));
            prop_assert_eq!(validate(header, &packet, 1280).unwrap().header(), header);
        }
    }
}
