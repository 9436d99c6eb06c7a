//! Super-packets: up to 64 KiB that one kernel left unsegmented and the other may segment or deliver whole.
//!
//! The body is a `virtio_net_hdr` (VIRTIO 1.2 §5.1.6, the 10-byte form without `num_buffers`) and the packet,
//! exactly what a TUN device with `IFF_VNET_HDR` reads and writes. It is re-injected unchanged, so its offsets
//! are checked here against the packet they point into: the kernel on the other side trusts its own.

pub const VIRTIO_NET_HEADER_LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const GSO_ECN: u8 = 0x80;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_UDP: u8 = 3;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;

/// Field for field the kernel's structure; little-endian on the wire whatever the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VirtioNetHeader {
    pub flags: u8,
    pub gso_type: u8,
    pub hdr_len: u16,
    pub gso_size: u16,
    pub csum_start: u16,
    pub csum_offset: u16,
}

/// A virtio header that fits the packet behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuperPacket<'a> {
    pub header: VirtioNetHeader,
    pub packet: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SuperPacketError {
    #[error("a super-packet of {len} bytes holds no virtio header and packet")]
    TooShort { len: usize },
    #[error("virtio segmentation type {0:#04x} is unknown")]
    GsoType(u8),
    #[error("a packet to be segmented has a segment size of 0")]
    EmptySegment,
    #[error("virtio offset {offset} points outside a packet of {len} bytes")]
    Offset { offset: usize, len: usize },
}

impl VirtioNetHeader {
    pub fn parse(bytes: &[u8; VIRTIO_NET_HEADER_LEN]) -> Self {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = *bytes;
        Self {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([h0, h1]),
            gso_size: u16::from_le_bytes([g0, g1]),
            csum_start: u16::from_le_bytes([s0, s1]),
            csum_offset: u16::from_le_bytes([o0, o1]),
        }
    }

    pub fn emit(&self) -> [u8; VIRTIO_NET_HEADER_LEN] {
        let [h0, h1] = self.hdr_len.to_le_bytes();
        let [g0, g1] = self.gso_size.to_le_bytes();
        let [s0, s1] = self.csum_start.to_le_bytes();
        let [o0, o1] = self.csum_offset.to_le_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    fn check(&self, packet_len: usize) -> Result<(), SuperPacketError> {
        if self.flags & NEEDS_CSUM != 0 {
            // The two checksum bytes themselves must lie inside the packet.
            let end = usize::from(self.csum_start) + usize::from(self.csum_offset) + 2;
            within(end, packet_len)?;
        }
        match self.gso_type & !GSO_ECN {
            GSO_NONE => Ok(()),
            GSO_TCPV4 | GSO_UDP | GSO_TCPV6 | GSO_UDP_L4 => self.check_segmentation(packet_len),
            _ => Err(SuperPacketError::GsoType(self.gso_type)),
        }
    }

    fn check_segmentation(&self, packet_len: usize) -> Result<(), SuperPacketError> {
        if self.gso_size == 0 {
            return Err(SuperPacketError::EmptySegment);
        }
        within(usize::from(self.hdr_len), packet_len)
    }
}

fn within(offset: usize, len: usize) -> Result<(), SuperPacketError> {
    if offset > len {
        return Err(SuperPacketError::Offset { offset, len });
    }
    Ok(())
}

impl<'a> SuperPacket<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, SuperPacketError> {
        let Some((header, packet)) = body.split_first_chunk().filter(|(_, packet)| !packet.is_empty()) else {
            return Err(SuperPacketError::TooShort { len: body.len() });
        };
        let header = VirtioNetHeader::parse(header);
        header.check(packet.len())?;
        Ok(Self { header, packet })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tcp4(packet_len: usize) -> (VirtioNetHeader, Vec<u8>) {
        let header = VirtioNetHeader {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV4,
            hdr_len: 40,
            gso_size: 1380,
            csum_start: 20,
            csum_offset: 16,
        };
        (header, vec![0x45; packet_len])
    }

    fn body(header: VirtioNetHeader, packet: &[u8]) -> Vec<u8> {
        [&header.emit()[..], packet].concat()
    }

    #[test]
    fn a_header_that_fits_its_packet_is_accepted_unchanged() {
        let (header, packet) = tcp4(4000);
        assert_eq!(SuperPacket::parse(&body(header, &packet)), Ok(SuperPacket { header, packet: &packet }));
    }

    #[test]
    fn offsets_outside_the_packet_are_refused() {
        let (header, packet) = tcp4(39);
        let error = SuperPacketError::Offset { offset: 40, len: 39 };
        assert_eq!(SuperPacket::parse(&body(header, &packet)), Err(error));
        let header = VirtioNetHeader { csum_start: 0xffff, csum_offset: 0xffff, ..header };
        let error = SuperPacketError::Offset { offset: 2 * 0xffff + 2, len: 39 };
        assert_eq!(SuperPacket::parse(&body(header, &packet)), Err(error));
    }

    #[test]
    fn a_packet_to_be_segmented_needs_a_segment_size() {
        let (header, packet) = tcp4(4000);
        let broken = VirtioNetHeader { gso_size: 0, ..header };
        assert_eq!(SuperPacket::parse(&body(broken, &packet)), Err(SuperPacketError::EmptySegment));
    }

    #[test]
    fn an_unknown_segmentation_type_is_refused_and_the_ecn_bit_is_not_a_type() {
        let (header, packet) = tcp4(4000);
        let ecn = VirtioNetHeader { gso_type: GSO_TCPV4 | GSO_ECN, ..header };
        assert!(SuperPacket::parse(&body(ecn, &packet)).is_ok());
        let unknown = VirtioNetHeader { gso_type: 2, ..header };
        assert_eq!(SuperPacket::parse(&body(unknown, &packet)), Err(SuperPacketError::GsoType(2)));
    }

    #[test]
    fn a_header_without_a_packet_is_too_short() {
        assert_eq!(SuperPacket::parse(&[0; 10]), Err(SuperPacketError::TooShort { len: 10 }));
    }

    proptest! {
        #[test]
        fn a_virtio_header_survives_the_wire(bytes in any::<[u8; VIRTIO_NET_HEADER_LEN]>()) {
            prop_assert_eq!(VirtioNetHeader::parse(&bytes).emit(), bytes);
        }

        #[test]
        fn what_is_accepted_points_into_its_packet(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let Ok(accepted) = SuperPacket::parse(&bytes) else { return Ok(()) };
            let len = accepted.packet.len();
            let header = accepted.header;
            if header.flags & NEEDS_CSUM != 0 {
                prop_assert!(usize::from(header.csum_start) + usize::from(header.csum_offset) + 2 <= len);
            }
            if header.gso_type & !GSO_ECN != GSO_NONE {
                prop_assert!(header.gso_size > 0 && usize::from(header.hdr_len) <= len);
            }
        }
    }
}
