//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

use std::net::IpAddr;

/// 32-bit words added side by side.
const LANES: usize = 8;

/// Over all parts as if they were one; each but the last has an even length.
pub fn internet(parts: &[&[u8]]) -> u16 {
    !fold(parts.iter().map(|part| u64::from(sum(part))).sum())
}

/// The sum of all 16-bit words; an odd byte at the end is the high half of one.
///
/// Added in the machine's byte order and turned round once at the end (RFC 1071 §2 B), in independent lanes, so
/// that the compiler can use vector instructions.
fn sum(bytes: &[u8]) -> u16 {
    let (blocks, rest) = bytes.as_chunks::<{ 4 * LANES }>();
    let mut lanes = [0u64; LANES];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<4>().0) {
            // Even 2^32 words, more than any packet has, do not overflow a lane.
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let (words, odd) = rest.as_chunks::<2>();
    let tail = words.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum::<u64>();
    let odd = odd.first().map_or(0, |byte| u64::from(u16::from_ne_bytes([*byte, 0])));
    // Folded before they are added: only then can the sum of the lanes not overflow.
    let lanes = lanes.iter().map(|lane| u64::from(fold(*lane))).sum::<u64>();
    u16::from_be(fold(lanes + tail + odd))
}

/// To 16 bits with end-around carry. Zero only for zero.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum over the pseudo-header of a transport of `len` bytes (RFC 9293 §3.1, RFC 8200 §8.1), not inverted: what a
/// kernel leaves in the field of a checksum that is to be completed.
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> u16 {
    let word = |addr: IpAddr| match addr {
        IpAddr::V4(v4) => u64::from(sum(&v4.octets())),
        IpAddr::V6(v6) => u64::from(sum(&v6.octets())),
    };
    fold(word(source) + word(destination) + u64::from(protocol) + len as u64)
}

/// A sum (not inverted, as a pseudo-header leaves it behind) after one word it covers went from `old` to `new`.
pub fn replace(sum: u16, old: u16, new: u16) -> u16 {
    fold(u64::from(sum) + u64::from(!old) + u64::from(new))
}

/// The checksum after one 16-bit word it covers went from `old` to `new`.
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    // RFC 1624, equation 3: HC' = ~(~HC + ~m + m')
    !replace(!checksum, old, new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        assert_eq!(internet(&[&[0x00, 0x01, 0xf2, 0x03], &[0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624_comes_out() {
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn an_odd_byte_at_the_end_counts_as_the_high_half_of_a_word() {
        assert_eq!(internet(&[&[0x12, 0x34, 0x56]]), internet(&[&[0x12, 0x34, 0x56, 0x00]]));
    }

    proptest! {
        #[test]
        fn the_sum_is_that_of_rfc_1071_word_by_word(bytes in vec(any::<u8>(), 0..300)) {
            let mut expected = 0u32;
            for pair in bytes.chunks(2) {
                expected += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
                expected = (expected & 0xffff) + (expected >> 16);
            }
            prop_assert_eq!(u32::from(sum(&bytes)), expected);
        }

        #[test]
        fn an_update_equals_a_new_computation(
            words in vec(any::<u16>(), 2..40), new: u16, at in any::<prop::sample::Index>(),
        ) {
            let bytes = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<_>>();
            let before = internet(&[&bytes(&words)]);
            let mut changed = words.clone();
            let at = at.index(words.len());
            changed[at] = new;
            let after = internet(&[&bytes(&changed)]);
            let updated = update(before, words[at], new);
            // 0x0000 and 0xffff are both zero in one's complement arithmetic; an all-zero packet has only one.
            let all_zero = changed.iter().all(|w| *w == 0);
            prop_assert!(updated == after || all_zero);
        }
    }
}
