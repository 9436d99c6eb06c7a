//! Inner packets, honest and not.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;

/// Marks this program's pings in a capture.
pub const PAYLOAD: &[u8; 16] = b"peerup mallory! ";

const ECHO_REPLY: u8 = 0;
const ICMP_OFFSET: usize = 20;

/// An ICMP echo request.
pub fn ping(source: Ipv4Addr, destination: Ipv4Addr, number: u16) -> Vec<u8> {
    let builder =
        PacketBuilder::ipv4(source.octets(), destination.octets(), 64).icmpv4_echo_request(0x6d61, number);
    let mut packet = Vec::with_capacity(builder.size(PAYLOAD.len()));
    builder.write(&mut packet, PAYLOAD).expect("a vector takes everything");
    packet
}

/// The number of the ping that `packet` answers.
pub fn answered(packet: &[u8]) -> Option<u16> {
    let icmp = packet.get(ICMP_OFFSET..)?;
    let is_reply = *icmp.first()? == ECHO_REPLY && icmp.ends_with(PAYLOAD);
    is_reply.then_some(u16::from_be_bytes([*icmp.get(6)?, *icmp.get(7)?]))
}
