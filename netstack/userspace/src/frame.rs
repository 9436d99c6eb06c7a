//! The virtio header in front of what leaves: what is left to be segmented and added up by whoever comes last.

use crate::mss;
use peerup_packet::{
    IpPacket, checksum,
    gso::{VIRTIO_NET_HEADER_LEN, VirtioNetHeader},
    protocol,
};

pub(crate) const HEADER: usize = VIRTIO_NET_HEADER_LEN;

/// VIRTIO 1.2 §5.1.6: the checksum field holds the pseudo-header's sum.
const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const TCP_CHECKSUM_AT: usize = 16;
const TCP_DATA_OFFSET_AT: usize = 12;

/// Completes a TCP packet that smoltcp made without a checksum, as far as it is completed here. `frame` is header and
/// packet; `segment` is how much the peer takes in one segment, `own` how much we do.
pub(crate) fn finish_tcp(frame: &mut [u8], segment: u16, own: u16) {
    let (head, packet) = frame.split_at_mut(HEADER);
    let Ok(parsed) = IpPacket::parse(packet) else { return };
    let (source, destination, v4) = (parsed.source(), parsed.destination(), parsed.is_ipv4());
    let tcp_len = parsed.payload().len();
    let tcp_at = packet.len() - tcp_len;
    let sum = checksum::pseudo_header(source, destination, protocol::TCP, tcp_len);
    let tcp = &mut packet[tcp_at..];
    tcp[TCP_CHECKSUM_AT..][..2].copy_from_slice(&sum.to_be_bytes());
    mss::set(tcp, own);
    let tcp_header = usize::from(tcp[TCP_DATA_OFFSET_AT] >> 4) * 4;
    let several = tcp_len - tcp_header > usize::from(segment);
    let gso_type = match (several, v4) {
        (false, _) => GSO_NONE,
        (true, true) => GSO_TCPV4,
        (true, false) => GSO_TCPV6,
    };
    let header = VirtioNetHeader {
        flags: NEEDS_CSUM,
        gso_type,
        hdr_len: if several { (tcp_at + tcp_header) as u16 } else { 0 },
        gso_size: if several { segment } else { 0 },
        csum_start: tcp_at as u16,
        csum_offset: TCP_CHECKSUM_AT as u16,
    };
    head.copy_from_slice(&header.emit());
}
