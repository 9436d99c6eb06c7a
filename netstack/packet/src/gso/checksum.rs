//! Checksums that a kernel began: their field holds the pseudo-header's sum, not inverted, and the rest is to be
//! added (Linux `CHECKSUM_PARTIAL`).

use super::header::VirtioNetHeader;
use crate::{checksum, mss};

/// The checksum to complete does not lie inside the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a checksum at {start} + {offset} lies outside a packet of {len} bytes")]
pub struct ChecksumOutside {
    pub start: u16,
    pub offset: u16,
    pub len: usize,
}

/// Completes the checksum of a packet that is not to be segmented, if the header says that it is not complete, so
/// that the packet may go on without the header.
///
/// This looks at nothing but the two offsets, because a host may leave the checksum of a packet inside another
/// one: it is for packets from the own kernel, also those that [`validate`](super::validate()) refuses.
pub fn complete_checksum(header: VirtioNetHeader, packet: &mut [u8]) -> Result<(), ChecksumOutside> {
    if !header.needs_checksum() {
        return Ok(());
    }
    let (start, offset, len) = (header.csum_start, header.csum_offset, packet.len());
    let covered = packet.get_mut(usize::from(start)..).unwrap_or_default();
    let field_at = usize::from(offset);
    if field_at + 2 > covered.len() {
        return Err(ChecksumOutside { start, offset, len });
    }
    complete(covered, field_at);
    Ok(())
}

/// `covered`: from the transport header to the end, with the pseudo-header's sum in the field.
pub(super) fn complete(covered: &mut [u8], field_at: usize) {
    let sum = checksum::internet(&[covered]);
    // Both are zero in one's complement arithmetic, but to UDP 0x0000 means "no checksum" (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    covered[field_at..field_at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// [`crate::clamp_mss`] for a packet behind a virtio header: where the checksum is left incomplete its field does
/// not cover the options, and stays as it is.
pub fn clamp_mss(header: VirtioNetHeader, packet: &mut [u8], mtu: u16) -> bool {
    mss::clamp(packet, mtu, header.needs_checksum().then_some(usize::from(header.csum_start)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::testing::*;
    use etherparse::TcpOptionElement::MaximumSegmentSize;
    use proptest::{collection::vec, prelude::*};

    fn needs(csum_start: u16, csum_offset: u16) -> VirtioNetHeader {
        VirtioNetHeader { flags: 1, csum_start, csum_offset, ..Default::default() }
    }

    #[test]
    fn a_partial_checksum_is_completed_to_what_etherparse_computes() {
        for v6 in [false, true] {
            for made in [udp_partial(v6, b"hello"), tcp_partial(v6, b"hello!!")] {
                let (header, mut bytes) = made;
                assert!(!has_right_checksums(&bytes));
                complete_checksum(header, &mut bytes).unwrap();
                assert!(has_right_checksums(&bytes));
            }
        }
    }

    #[test]
    fn a_complete_checksum_is_left_alone() {
        let mut bytes = udp4(b"hello");
        let before = bytes.clone();
        complete_checksum(VirtioNetHeader::default(), &mut bytes).unwrap();
        assert_eq!(bytes, before);
    }

    #[test]
    fn a_udp_checksum_of_zero_is_sent_as_its_other_form() {
        let mut covered = [0, 0, 0, 0, 0, 8, 0xff, 0xf7];
        complete(&mut covered, 6);
        assert_eq!(covered[6..], [0xff, 0xff]);
    }

    #[test]
    fn a_checksum_outside_the_packet_is_refused() {
        let mut bytes = udp4(b"hello");
        let len = bytes.len();
        for (start, offset) in [(20, 12), (33, 0), (0xffff, 0), (0, 0xffff), (0xffff, 0xffff)] {
            let error = ChecksumOutside { start, offset, len };
            assert_eq!(complete_checksum(needs(start, offset), &mut bytes), Err(error));
        }
        assert_eq!(complete_checksum(needs(20, 11), &mut bytes), Ok(()));
    }

    #[test]
    fn the_checksum_of_a_packet_inside_another_one_is_completed() {
        let (inner_header, inner) = tcp_partial(false, b"inside");
        let mut outer = udp4(&inner);
        let inner_at = outer.len() - inner.len();
        let start = inner_header.csum_start + inner_at as u16;
        complete_checksum(needs(start, inner_header.csum_offset), &mut outer).unwrap();
        assert!(has_right_checksums(&outer[inner_at..]));
    }

    #[test]
    fn a_clamped_handshake_with_a_partial_checksum_is_right_once_completed() {
        for v6 in [false, true] {
            let (header, mut bytes) = partial(tcp(v6, SYN, &[MaximumSegmentSize(1460)]));
            let field = usize::from(header.csum_start + header.csum_offset);
            let before = bytes[field..field + 2].to_vec();
            assert!(clamp_mss(header, &mut bytes, 1280));
            assert_eq!(bytes[field..field + 2], before);
            assert!(!clamp_mss(header, &mut bytes, 1280));
            complete_checksum(header, &mut bytes).unwrap();
            assert!(has_right_checksums(&bytes));
        }
    }

    #[test]
    fn a_clamped_handshake_with_a_complete_checksum_is_corrected() {
        let mut bytes = tcp(true, SYN, &[MaximumSegmentSize(1460)]);
        assert!(clamp_mss(VirtioNetHeader::default(), &mut bytes, 1280));
        assert!(has_right_checksums(&bytes));
    }

    proptest! {
        #[test]
        fn no_offset_makes_it_panic_or_touch_more_than_the_field(
            bytes in vec(any::<u8>(), 0..80), start in 0..90u16, offset in 0..90u16,
        ) {
            let mut completed = bytes.clone();
            let inside = usize::from(start) + usize::from(offset) + 2 <= bytes.len();
            prop_assert_eq!(complete_checksum(needs(start, offset), &mut completed).is_ok(), inside);
            let field = usize::from(start) + usize::from(offset);
            for at in (0..bytes.len()).filter(|at| !inside || *at != field && *at != field + 1) {
                prop_assert_eq!(bytes[at], completed[at]);
            }
        }
    }
}
