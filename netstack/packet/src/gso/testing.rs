//! Packets as a kernel hands them to a device with offload.

use etherparse::{IpSlice, PacketBuilder, TcpSlice, UdpSlice};

use super::VirtioNetHeader;
use super::header::{GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM};
use crate::packet::{IpPacket, protocol};
use crate::testing::{V4, V6, udp4, udp6};

/// One TCP packet to be cut into segments of `gso_size`.
pub(crate) fn super_tcp(v6: bool, payload: &[u8], gso_size: u16) -> (VirtioNetHeader, Vec<u8>) {
    let (header, packet) = tcp_partial(v6, payload);
    let gso_type = if v6 { GSO_TCPV6 } else { GSO_TCPV4 };
    let hdr_len = (packet.len() - payload.len()) as u16;
    (VirtioNetHeader { gso_type, gso_size, hdr_len, ..header }, packet)
}

/// UDP datagrams of `gso_size` in one packet.
pub(crate) fn super_udp(v6: bool, payload: &[u8], gso_size: u16) -> (VirtioNetHeader, Vec<u8>) {
    let (header, packet) = udp_partial(v6, payload);
    let hdr_len = (packet.len() - payload.len()) as u16;
    (VirtioNetHeader { gso_type: GSO_UDP_L4, gso_size, hdr_len, ..header }, packet)
}

pub(crate) fn tcp_partial(v6: bool, payload: &[u8]) -> (VirtioNetHeader, Vec<u8>) {
    let ip = if v6 { PacketBuilder::ipv6(V6.0, V6.1, 64) } else { PacketBuilder::ipv4(V4.0, V4.1, 64) };
    let mut bytes = Vec::new();
    ip.tcp(40_000, 22, 1, 64_240).ack(7).write(&mut bytes, payload).unwrap();
    partial(bytes)
}

pub(crate) fn udp_partial(v6: bool, payload: &[u8]) -> (VirtioNetHeader, Vec<u8>) {
    partial(if v6 { udp6(payload) } else { udp4(payload) })
}

/// The same packet with nothing but the pseudo-header's sum in its checksum field.
pub(crate) fn partial(mut bytes: Vec<u8>) -> (VirtioNetHeader, Vec<u8>) {
    let packet = IpPacket::parse(&bytes).unwrap();
    let csum_start = packet.payload_at();
    let csum_offset = if packet.protocol() == protocol::TCP { 16 } else { 6 };
    let addresses = if packet.is_ipv4() { &bytes[12..20] } else { &bytes[8..40] };
    let length = packet.payload().len() as u64;
    let words = addresses.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1]));
    let mut sum = words.sum::<u64>() + length + u64::from(packet.protocol());
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let field = csum_start + csum_offset;
    bytes[field..field + 2].copy_from_slice(&(sum as u16).to_be_bytes());
    let (csum_start, csum_offset) = (csum_start as u16, csum_offset as u16);
    (VirtioNetHeader { flags: NEEDS_CSUM, csum_start, csum_offset, ..Default::default() }, bytes)
}

/// The same packet with an IPv4 option, or an IPv6 extension header, of 8 bytes.
pub(crate) fn with_ip_extension(
    v6: bool,
    (header, mut bytes): (VirtioNetHeader, Vec<u8>),
) -> (VirtioNetHeader, Vec<u8>) {
    if v6 {
        bytes.splice(40..40, [bytes[6], 0, 1, 4, 0, 0, 0, 0]);
        bytes[6] = 60;
        let payload_len = (bytes.len() - 40) as u16;
        bytes[4..6].copy_from_slice(&payload_len.to_be_bytes());
    } else {
        bytes.splice(20..20, [1; 8]);
        bytes[0] = 0x47;
        let total_len = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&total_len.to_be_bytes());
    }
    (VirtioNetHeader { hdr_len: header.hdr_len + 8, csum_start: header.csum_start + 8, ..header }, bytes)
}

/// Whether IPv4's and the transport's checksums are what etherparse computes.
pub(crate) fn has_right_checksums(bytes: &[u8]) -> bool {
    let ip = IpSlice::from_slice(bytes).unwrap();
    let transport = ip.payload().payload;
    let (sum, expected) = match ip.payload_ip_number().0 {
        protocol::TCP => {
            let tcp = TcpSlice::from_slice(transport).unwrap();
            let expected = match &ip {
                IpSlice::Ipv4(v4) => tcp.calc_checksum_ipv4(v4.header().source(), v4.header().destination()),
                IpSlice::Ipv6(v6) => tcp.calc_checksum_ipv6(v6.header().source(), v6.header().destination()),
            };
            (tcp.checksum(), expected.unwrap())
        }
        _ => {
            let udp = UdpSlice::from_slice(transport).unwrap();
            let header = udp.to_header();
            let expected = match &ip {
                IpSlice::Ipv4(v4) => header.calc_checksum_ipv4(&v4.header().to_header(), udp.payload()),
                IpSlice::Ipv6(v6) => header.calc_checksum_ipv6(&v6.header().to_header(), udp.payload()),
            };
            (udp.checksum(), expected.unwrap())
        }
    };
    // Both forms of zero are right.
    let right = sum == expected || sum == 0xffff && expected == 0;
    right
        && ip
            .ipv4()
            .is_none_or(|v4| v4.header().to_header().calc_header_checksum() == v4.header().header_checksum())
}
