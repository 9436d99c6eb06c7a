//! Segmentation in software, for what lies ahead without offload: an ordinary device, a carrier of datagrams, a
//! peer on another system.
//!
//! The rules are those of kernels and network cards: IPv4 identifications count up (RFC 6864 lets them), TCP's
//! sequence number advances, FIN and PSH belong to the last segment, CWR to the first.

use super::checksum::complete;
use super::fields::{
    TCP_CWR, TCP_FIN, TCP_FLAGS_AT, TCP_PSH, TCP_SEQUENCE_AT, UDP_LENGTH_AT, V4_CHECKSUM_AT,
    V4_IDENTIFICATION_AT, V4_TOTAL_LENGTH_AT, V6_HEADER_LEN, V6_PAYLOAD_LENGTH_AT, get, get_long, put,
};
use super::validate::{Segmentation, SuperPacketView};
use crate::checksum;

/// A packet cannot be made to fit: it is no TCP stream that could be cut smaller. Its sender has to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packets of {len} bytes do not fit an MTU of {mtu}")]
pub struct MtuTooSmall {
    pub len: usize,
    pub mtu: usize,
}

/// The packets that a super-packet becomes, made one at a time: see [`SuperPacketView::segments_within`].
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    view: SuperPacketView<'a>,
    /// Payload of each but the last.
    size: usize,
    index: usize,
    count: usize,
}

impl<'a> Segments<'a> {
    /// The next packet, made in `scratch`: complete, and whole without the virtio header.
    pub fn next<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Option<&'s [u8]>
    where
        'a: 's,
    {
        if self.index == self.count {
            return None;
        }
        let index = self.index;
        self.index += 1;
        if self.view.is_ordinary() {
            return Some(self.view.packet.as_bytes());
        }
        match self.view.segmentation {
            Segmentation::None => self.view.build_whole(scratch),
            Segmentation::Tcp | Segmentation::Udp => {
                let (offset, data) = (index * self.size, self.view.data());
                let end = data.len().min(offset + self.size);
                self.view.build(scratch, &data[offset..end], index, offset, self.index == self.count);
            }
        }
        Some(scratch)
    }

    /// How many are still to come.
    pub fn remaining(&self) -> usize {
        self.count - self.index
    }
}

impl<'a> SuperPacketView<'a> {
    /// The packets that this becomes, in order. None is longer than `mtu`; TCP is cut smaller than its sender meant
    /// where that is needed.
    ///
    /// The caller's scratch buffer holds one packet at a time and is allocated once. Fit for a hot path: the
    /// payload is read twice and written once.
    pub fn segments_within(&self, mtu: usize) -> Result<Segments<'a>, MtuTooSmall> {
        let size = self.segment_size_within(mtu)?;
        let count = match self.segmentation {
            Segmentation::None => 1,
            Segmentation::Tcp | Segmentation::Udp => self.data().len().div_ceil(size),
        };
        Ok(Segments { view: *self, size, index: 0, count })
    }

    /// Hands [`Self::segments_within`] `mtu` to `emit` and returns their number. Nothing is emitted on an error.
    pub fn split(
        &self,
        mtu: usize,
        scratch: &mut Vec<u8>,
        mut emit: impl FnMut(&[u8]),
    ) -> Result<usize, MtuTooSmall> {
        let mut segments = self.segments_within(mtu)?;
        let count = segments.remaining();
        while let Some(segment) = segments.next(scratch) {
            emit(segment);
        }
        Ok(count)
    }

    /// Payload per segment such that all fit.
    fn segment_size_within(&self, mtu: usize) -> Result<usize, MtuTooSmall> {
        let len = self.segment_len();
        if len <= mtu {
            return Ok(self.segment_size);
        }
        match self.segmentation {
            // As `validate` has it: segments of mostly headers are worth nothing.
            Segmentation::Tcp if mtu >= self.headers_len + self.headers_len.div_ceil(2) => {
                Ok(mtu - self.headers_len)
            }
            Segmentation::None | Segmentation::Tcp | Segmentation::Udp => Err(MtuTooSmall { len, mtu }),
        }
    }

    fn build_whole(&self, scratch: &mut Vec<u8>) {
        scratch.clear();
        scratch.extend_from_slice(self.packet.as_bytes());
        if let Some(checksum_at) = self.checksum_at {
            complete(&mut scratch[self.packet.payload_at()..], checksum_at);
        }
    }

    /// Makes the segment that carries `data`, which lies `offset` bytes into all of it.
    fn build(&self, scratch: &mut Vec<u8>, data: &[u8], index: usize, offset: usize, last: bool) {
        scratch.clear();
        scratch.extend_from_slice(&self.packet.as_bytes()[..self.headers_len]);
        scratch.extend_from_slice(data);
        let (ip, transport) = scratch.split_at_mut(self.packet.payload_at());
        let (ip_len, transport_len) = (ip.len() + transport.len(), transport.len() as u16);
        if self.packet.is_ipv4() {
            finish_v4(ip, ip_len, index);
        } else {
            put(ip, V6_PAYLOAD_LENGTH_AT, (ip_len - V6_HEADER_LEN) as u16);
        }
        match self.segmentation {
            Segmentation::Tcp => finish_tcp(transport, offset, last),
            Segmentation::Udp => put(transport, UDP_LENGTH_AT, transport_len),
            Segmentation::None => {}
        }
        if let Some(checksum_at) = self.checksum_at {
            // The pseudo-header's sum covers the transport's length, which is the one thing in it that changes.
            let sum = get(transport, checksum_at);
            let whole = self.packet.payload().len() as u16;
            put(transport, checksum_at, checksum::replace(sum, whole, transport_len));
            complete(transport, checksum_at);
        }
    }
}

fn finish_v4(ip: &mut [u8], ip_len: usize, index: usize) {
    put(ip, V4_TOTAL_LENGTH_AT, ip_len as u16);
    put(ip, V4_IDENTIFICATION_AT, get(ip, V4_IDENTIFICATION_AT).wrapping_add(index as u16));
    put(ip, V4_CHECKSUM_AT, 0);
    let sum = checksum::internet(&[ip]);
    put(ip, V4_CHECKSUM_AT, sum);
}

fn finish_tcp(tcp: &mut [u8], offset: usize, last: bool) {
    let sequence = get_long(tcp, TCP_SEQUENCE_AT).wrapping_add(offset as u32);
    tcp[TCP_SEQUENCE_AT..TCP_SEQUENCE_AT + 4].copy_from_slice(&sequence.to_be_bytes());
    if !last {
        tcp[TCP_FLAGS_AT] &= !(TCP_FIN | TCP_PSH);
    }
    if offset > 0 {
        tcp[TCP_FLAGS_AT] &= !TCP_CWR;
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::TCP_ACK;
    use super::super::testing::*;
    use super::super::{VirtioNetHeader, validate};
    use super::*;
    use crate::testing::*;
    use etherparse::{IpSlice, TcpSlice, UdpSlice};
    use proptest::{collection::vec, prelude::*};

    fn split(header: VirtioNetHeader, packet: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, MtuTooSmall> {
        let mut segments = Vec::new();
        let view = validate(header, packet, 65_535).unwrap();
        let count = view.split(mtu, &mut Vec::new(), |segment| segments.push(segment.to_vec()))?;
        assert_eq!(count, segments.len());
        Ok(segments)
    }

    #[test]
    fn a_super_packet_becomes_segments_of_the_size_its_header_names() {
        for v6 in [false, true] {
            let (header, packet) = super_tcp(v6, &[7; 3000], 1200);
            let segments = split(header, &packet, 1500).unwrap();
            let headers = usize::from(header.hdr_len);
            let sizes = segments.iter().map(Vec::len).collect::<Vec<_>>();
            assert_eq!(sizes, [headers + 1200, headers + 1200, headers + 600]);
        }
    }

    #[test]
    fn ipv4_identifications_count_up_and_wrap() {
        let (header, mut packet) = super_tcp(false, &[7; 3000], 1200);
        packet[4..6].copy_from_slice(&[0xff, 0xff]);
        let ids = split(header, &packet, 1500).unwrap().iter().map(|s| get(s, 4)).collect::<Vec<_>>();
        assert_eq!(ids, [0xffff, 0, 1]);
    }

    #[test]
    fn the_sequence_advances_and_wraps_and_fin_and_psh_are_last_and_cwr_is_first() {
        let (header, mut packet) = super_tcp(false, &[7; 3000], 1200);
        packet[24..28].copy_from_slice(&0xffff_ff00_u32.to_be_bytes());
        packet[33] |= TCP_FIN | TCP_PSH | TCP_CWR;
        let segments = split(header, &packet, 1500).unwrap();
        let sequence = segments.iter().map(|s| (get(s, 24), get(s, 26))).collect::<Vec<_>>();
        assert_eq!(sequence, [(0xffff, 0xff00), (0, 0x03b0), (0, 0x0860)]);
        let flags = |bit: u8| segments.iter().map(|s| s[33] & bit != 0).collect::<Vec<_>>();
        assert_eq!(flags(TCP_FIN), [false, false, true]);
        assert_eq!(flags(TCP_PSH), [false, false, true]);
        assert_eq!(flags(TCP_CWR), [true, false, false]);
        assert_eq!(flags(TCP_ACK), [true, true, true]);
    }

    #[test]
    fn tcp_is_cut_smaller_than_meant_where_the_mtu_is_smaller() {
        let (header, packet) = super_tcp(true, &[7; 3000], 1400);
        let segments = split(header, &packet, 1280).unwrap();
        assert_eq!(segments.iter().map(Vec::len).collect::<Vec<_>>()[..2], [1280, 1280]);
        assert_eq!(data(&segments), vec![7; 3000]);
    }

    #[test]
    fn datagrams_and_whole_packets_that_do_not_fit_are_refused() {
        let (header, packet) = super_udp(false, &[7; 3000], 1400);
        assert_eq!(split(header, &packet, 1280), Err(MtuTooSmall { len: 1428, mtu: 1280 }));
        let packet = udp4(&[7; 1400]);
        let error = MtuTooSmall { len: 1428, mtu: 1280 };
        assert_eq!(split(VirtioNetHeader::default(), &packet, 1280), Err(error));
        let (header, packet) = super_tcp(false, &[7; 3000], 1400);
        assert!(split(header, &packet, 60).is_ok() && split(header, &packet, 59).is_err());
    }

    #[test]
    fn an_ordinary_packet_comes_out_as_it_is_and_a_partial_one_completed() {
        assert_eq!(split(VirtioNetHeader::default(), &udp6(b"hello"), 1280), Ok(vec![udp6(b"hello")]));
        let (header, packet) = udp_partial(true, b"hello");
        assert_eq!(split(header, &packet, 1280), Ok(vec![udp6(b"hello")]));
    }

    #[test]
    fn headers_behind_ipv4_options_and_ipv6_extensions_are_repeated() {
        for v6 in [false, true] {
            let (header, packet) = with_ip_extension(v6, super_tcp(v6, &[7; 3000], 1200));
            let segments = split(header, &packet, 1500).unwrap();
            assert_eq!(segments.len(), 3);
            assert!(segments.iter().all(|segment| has_right_checksums(segment)));
        }
    }

    fn data(segments: &[Vec<u8>]) -> Vec<u8> {
        let payload = |segment: &Vec<u8>| {
            let ip = IpSlice::from_slice(segment).unwrap();
            let transport = ip.payload().payload;
            match ip.payload_ip_number().0 {
                6 => TcpSlice::from_slice(transport).unwrap().payload().to_vec(),
                _ => UdpSlice::from_slice(transport).unwrap().payload().to_vec(),
            }
        };
        segments.iter().flat_map(payload).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn segments_fit_and_are_right_and_together_are_the_whole(
            v6: bool, stream: bool, payload in vec(any::<u8>(), 1..9000), gso_size in 64..2000u16, mtu in 576..1500usize,
        ) {
            let (header, packet) =
                if stream { super_tcp(v6, &payload, gso_size) } else { super_udp(v6, &payload, gso_size) };
            let Ok(view) = validate(header, &packet, 65_535) else {
                prop_assert!(!stream && payload.len().div_ceil(gso_size.into()) > 128);
                return Ok(());
            };
            let Ok(segments) = split(header, &packet, mtu) else {
                prop_assert!(!stream && view.segment_len() > mtu);
                return Ok(());
            };
            for segment in &segments {
                prop_assert!(segment.len() <= mtu.min(view.segment_len()));
                prop_assert!(has_right_checksums(segment));
                let segment = crate::IpPacket::parse(segment).unwrap();
                prop_assert_eq!(segment.flow_key(), view.packet().flow_key());
            }
            prop_assert!(view.segment_len() > mtu || segments.len() == view.segments());
            prop_assert_eq!(data(&segments), payload);
        }
    }
}
