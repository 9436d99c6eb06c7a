//! The 10 bytes that a kernel puts in front of a packet (VIRTIO 1.2 §5.1.6, the form without `num_buffers`).

pub const VIRTIO_NET_HEADER_LEN: usize = 10;

/// The checksum field holds the pseudo-header's sum; the rest is to be added from `csum_start` to the end.
pub(super) const NEEDS_CSUM: u8 = 1;
/// The device has checked the checksum.
pub(super) const DATA_VALID: u8 = 2;

pub(super) const GSO_NONE: u8 = 0;
pub(super) const GSO_TCPV4: u8 = 1;
pub(super) const GSO_TCPV6: u8 = 4;
pub(super) const GSO_UDP_L4: u8 = 5;
/// A bit beside the type: the first segment alone carries CWR (RFC 3168 §6.1.2).
pub(super) const GSO_ECN: u8 = 0x80;

/// Field for field the kernel's structure; little-endian in bytes. Nothing in it is known to be true before
/// [`validate`](super::validate()). The default belongs in front of an ordinary packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VirtioNetHeader {
    pub flags: u8,
    pub gso_type: u8,
    pub hdr_len: u16,
    pub gso_size: u16,
    pub csum_start: u16,
    pub csum_offset: u16,
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

    /// Whether the transport checksum is left for later.
    pub fn needs_checksum(&self) -> bool {
        self.flags & NEEDS_CSUM != 0
    }

    /// Whether the packet is one packet and complete, so that the header may be left out.
    pub fn is_ordinary(&self) -> bool {
        self.gso_type == GSO_NONE && !self.needs_checksum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ten_zeros_are_the_header_of_an_ordinary_packet() {
        assert_eq!(VirtioNetHeader::default().emit(), [0; VIRTIO_NET_HEADER_LEN]);
        assert!(VirtioNetHeader::default().is_ordinary());
    }

    proptest! {
        #[test]
        fn a_header_survives_its_bytes(bytes in any::<[u8; VIRTIO_NET_HEADER_LEN]>()) {
            prop_assert_eq!(VirtioNetHeader::parse(&bytes).emit(), bytes);
        }
    }
}
