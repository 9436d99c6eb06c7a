//! MSS clamping: TCP learns the tunnel's size in its handshake, not by losing segments.

use crate::checksum;
use crate::packet::{IpPacket, protocol};

const TCP_HEADER_LEN: usize = 20;
const CHECKSUM_AT: usize = 16;
const SYN_FLAG: u8 = 0x02;

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// Lowers the MSS that a SYN or SYN/ACK announces to what fits `mtu`, and corrects the checksum. Returns
/// whether anything changed; whatever is not such a packet, or is malformed, stays as it is.
///
/// The packet's TCP checksum must be complete. [`gso::clamp_mss`](crate::gso::clamp_mss) is for packets that
/// a kernel hands over with a virtio header, whose checksum may not be.
pub fn clamp_mss(packet: &mut [u8], mtu: u16) -> bool {
    clamp(packet, mtu, None)
}

/// `partial_at`: where a transport header lies whose checksum field holds the pseudo-header's sum only. That sum
/// does not cover the options; whoever completes it adds the changed ones.
pub(crate) fn clamp(packet: &mut [u8], mtu: u16, partial_at: Option<usize>) -> bool {
    let Some(segment) = Handshake::find(packet) else {
        return false;
    };
    let limit = mtu.saturating_sub(segment.headers_len);
    let complete = partial_at != Some(segment.tcp_at);
    let tcp = &mut packet[segment.tcp_at..segment.tcp_at + segment.tcp_len];
    let (mut changed, mut at) = (false, TCP_HEADER_LEN);
    while let Some(value_at) = next_mss(tcp, at) {
        changed |= lower(tcp, value_at, limit, complete);
        at = value_at + 2;
    }
    changed
}

/// Where the TCP header of a SYN or SYN/ACK lies.
struct Handshake {
    tcp_at: usize,
    tcp_len: usize,
    /// Bytes of the IP and TCP headers without options, which is what an MSS does not count (RFC 6691).
    headers_len: u16,
}

impl Handshake {
    fn find(packet: &[u8]) -> Option<Self> {
        let packet = IpPacket::parse(packet).ok()?;
        if packet.protocol() != protocol::TCP || packet.is_fragment() {
            return None;
        }
        let tcp = packet.payload();
        let header = tcp.first_chunk::<TCP_HEADER_LEN>()?;
        let tcp_len = usize::from(header[12] >> 4) * 4;
        let complete = (TCP_HEADER_LEN..=tcp.len()).contains(&tcp_len);
        (header[13] & SYN_FLAG != 0 && complete).then_some(Self {
            tcp_at: packet.payload_at(),
            tcp_len,
            headers_len: if packet.is_ipv4() { 40 } else { 60 },
        })
    }
}

/// The position of the next MSS value at or behind the option at `at`; `None` at the end of the options or
/// where they are malformed.
fn next_mss(tcp: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let kind = *tcp.get(at)?;
        if kind == END_OF_OPTIONS {
            return None;
        }
        if kind == NO_OPERATION {
            at += 1;
            continue;
        }
        let len = usize::from(*tcp.get(at + 1)?);
        if len < 2 || at + len > tcp.len() {
            return None;
        }
        if kind == MAXIMUM_SEGMENT_SIZE && len == 4 {
            return Some(at + 2);
        }
        at += len;
    }
}

fn lower(tcp: &mut [u8], at: usize, limit: u16, complete: bool) -> bool {
    let old = u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    if old <= limit {
        return false;
    }
    tcp[at..at + 2].copy_from_slice(&limit.to_be_bytes());
    if complete {
        update_checksum(tcp, at, old, limit);
    }
    true
}

fn update_checksum(tcp: &mut [u8], at: usize, old: u16, new: u16) {
    let checksum = u16::from_be_bytes([tcp[CHECKSUM_AT], tcp[CHECKSUM_AT + 1]]);
    let updated = if at.is_multiple_of(2) {
        checksum::update(checksum, old, new)
    } else {
        // The value lies across two words of the sum, which adds its bytes the other way round.
        checksum::update(checksum, old.swap_bytes(), new.swap_bytes())
    };
    tcp[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&updated.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use etherparse::{IpSlice, TcpOptionElement::*, TcpSlice};
    use proptest::{collection::vec, prelude::*};

    /// The MSS that a packet announces, after its checksum was found right.
    #[track_caller]
    fn mss(bytes: &[u8]) -> Option<u16> {
        let ip = IpSlice::from_slice(bytes).unwrap();
        let tcp = TcpSlice::from_slice(ip.payload().payload).unwrap();
        let expected = match &ip {
            IpSlice::Ipv4(v4) => tcp.calc_checksum_ipv4(v4.header().source(), v4.header().destination()),
            IpSlice::Ipv6(v6) => tcp.calc_checksum_ipv6(v6.header().source(), v6.header().destination()),
        };
        assert_eq!(tcp.checksum(), expected.unwrap(), "the checksum is right");
        tcp.options_iterator().find_map(|option| match option {
            Ok(MaximumSegmentSize(mss)) => Some(mss),
            _ => None,
        })
    }

    #[test]
    fn syn_and_syn_ack_of_both_families_are_clamped_to_what_fits() {
        for flags in [SYN, SYN_ACK] {
            for (v6, fits) in [(false, 1380), (true, 1360)] {
                let mut bytes = tcp(v6, flags, &[MaximumSegmentSize(1460), Noop, WindowScale(7)]);
                assert!(clamp_mss(&mut bytes, 1420));
                assert_eq!(mss(&bytes), Some(fits));
            }
        }
    }

    #[test]
    fn an_mss_that_fits_stays() {
        let mut bytes = tcp(false, SYN, &[MaximumSegmentSize(1380)]);
        let before = bytes.clone();
        assert!(!clamp_mss(&mut bytes, 1420));
        assert_eq!(bytes, before);
    }

    #[test]
    fn segments_after_the_handshake_are_left_alone() {
        let mut bytes = tcp(false, ACK, &[MaximumSegmentSize(1460)]);
        assert!(!clamp_mss(&mut bytes, 1420));
    }

    #[test]
    fn an_option_at_an_odd_position_keeps_the_checksum_right() {
        let mut bytes = tcp(true, SYN, &[Noop, MaximumSegmentSize(8960), Noop, Noop, Noop]);
        assert!(clamp_mss(&mut bytes, 1280));
        assert_eq!(mss(&bytes), Some(1220));
    }

    #[test]
    fn malformed_options_are_left_alone() {
        let good = tcp(false, SYN, &[MaximumSegmentSize(1460)]);
        for (at, byte) in [(41, 0), (41, 1), (41, 3), (41, 5), (41, 255), (40, 0), (32, 0x40), (32, 0xf0)] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            let before = bytes.clone();
            assert!(!clamp_mss(&mut bytes, 1420), "byte {at} = {byte}");
            assert_eq!(bytes, before);
        }
    }

    #[test]
    fn fragments_and_other_protocols_are_left_alone() {
        let mut fragment = tcp(false, SYN, &[MaximumSegmentSize(1460)]);
        fragment[6] = 0x20;
        assert!(!clamp_mss(&mut fragment, 1420));
        let mut udp = udp4(&[2, 4, 0xff, 0xff].repeat(10));
        assert!(!clamp_mss(&mut udp, 1420));
    }

    proptest! {
        #[test]
        fn clamping_keeps_the_checksum_right_and_does_nothing_the_second_time(
            v6: bool, announced: u16, mtu in 576..9000u16, pad in 0..4usize,
        ) {
            let mut options = vec![Noop; pad];
            options.push(MaximumSegmentSize(announced));
            let mut bytes = tcp(v6, SYN, &options);
            let limit = mtu - if v6 { 60 } else { 40 };
            prop_assert_eq!(clamp_mss(&mut bytes, mtu), announced > limit);
            prop_assert_eq!(mss(&bytes), Some(announced.min(limit)));
            prop_assert!(!clamp_mss(&mut bytes, mtu));
        }

        #[test]
        fn arbitrary_options_never_panic_and_clamping_is_idempotent(
            v6: bool, options in vec(any::<u8>(), 40), mtu: u16,
        ) {
            let mut bytes = tcp(v6, SYN, &[]);
            let tcp_at = if v6 { 40 } else { 20 };
            bytes[tcp_at + 12] = 0xf0;
            bytes.extend(&options);
            let len_at = if v6 { 4 } else { 2 };
            let len = (bytes.len() - if v6 { 40 } else { 0 }) as u16;
            bytes[len_at..len_at + 2].copy_from_slice(&len.to_be_bytes());
            clamp_mss(&mut bytes, mtu);
            let once = bytes.clone();
            prop_assert!(!clamp_mss(&mut bytes, mtu));
            prop_assert_eq!(bytes, once);
        }
    }
}
