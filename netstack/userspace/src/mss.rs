//! The MSS option of a SYN (RFC 9293 §3.7.1), read and written.
//!
//! smoltcp lets its congestion window grow by one segment per acknowledgement. Super-packets are acknowledged whole,
//! dozens of segments at once, so that a window would take seconds to open on a long path. Hence smoltcp is told
//! that a segment is [`STRIDE`] times as long as it is: the window begins near the ten segments of RFC 6928 and
//! doubles per round trip. On the wire the option and the segments are the real ones.

/// 8 × 1340 bytes; with two of them smoltcp begins.
pub(crate) const STRIDE: u16 = 8;

const SYN: u8 = 0x02;
const FLAGS_AT: usize = 13;
const OPTIONS_AT: usize = 20;
const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;

/// Where the option's value stands in a TCP header, if it is one of a SYN.
pub(crate) fn position(tcp: &[u8]) -> Option<usize> {
    if tcp.get(FLAGS_AT)? & SYN == 0 {
        return None;
    }
    let options = tcp.get(OPTIONS_AT..usize::from(tcp[12] >> 4) * 4)?;
    let mut at = 0;
    loop {
        match (*options.get(at)?, options.get(at + 1).copied()) {
            (END, _) => return None,
            (NOP, _) => at += 1,
            (MSS, Some(4)) if options.len() >= at + 4 => return Some(OPTIONS_AT + at + 2),
            (_, Some(len @ 2..)) => at += usize::from(len),
            (_, _) => return None,
        }
    }
}

pub(crate) fn get(tcp: &[u8]) -> Option<u16> {
    let at = position(tcp)?;
    Some(u16::from_be_bytes([tcp[at], tcp[at + 1]]))
}

/// Leaves the checksum as it is: it is written later, or not looked at.
pub(crate) fn set(tcp: &mut [u8], mss: u16) {
    if let Some(at) = position(tcp) {
        tcp[at..at + 2].copy_from_slice(&mss.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, TcpOptionElement};
    use proptest::{collection::vec, prelude::*};

    #[test]
    fn the_option_is_found_behind_others_and_only_in_a_syn() {
        let options = [
            TcpOptionElement::Noop,
            TcpOptionElement::WindowScale(7),
            TcpOptionElement::MaximumSegmentSize(1340),
        ];
        for syn in [false, true] {
            let mut bytes = Vec::new();
            let tcp = PacketBuilder::ipv4([10, 64, 0, 1], [10, 64, 0, 2], 64).tcp(1, 2, 3, 4);
            let tcp = if syn { tcp.syn() } else { tcp };
            tcp.options(&options).unwrap().write(&mut bytes, &[]).unwrap();
            assert_eq!(get(&bytes[20..]), syn.then_some(1340));
            set(&mut bytes[20..], 536);
            assert_eq!(get(&bytes[20..]), syn.then_some(536));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut tcp in vec(any::<u8>(), 0..80)) {
            if let Some(flags) = tcp.get_mut(FLAGS_AT) {
                *flags |= SYN;
            }
            set(&mut tcp, 7);
        }
    }
}
