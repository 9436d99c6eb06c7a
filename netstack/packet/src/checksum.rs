//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// Over all parts as if they were one; each but the last has an even length.
pub(crate) fn internet(parts: &[&[u8]]) -> u16 {
    let sum = parts.iter().flat_map(|part| part.chunks(2)).map(word).sum::<u64>();
    !fold(sum)
}

fn word(bytes: &[u8]) -> u64 {
    let low = bytes.get(1).copied().unwrap_or(0);
    u64::from(u16::from_be_bytes([bytes[0], low]))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum after one 16-bit word it covers went from `old` to `new`.
pub(crate) fn update(checksum: u16, old: u16, new: u16) -> u16 {
    // RFC 1624, equation 3: HC' = ~(~HC + ~m + m')
    !fold(u64::from(!checksum) + u64::from(!old) + u64::from(new))
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
