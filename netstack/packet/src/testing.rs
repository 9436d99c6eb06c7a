//! Packets for the tests of this crate, built by etherparse.

use etherparse::{
    IpFragOffset, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder, TcpOptionElement,
};
use proptest::{collection::vec, prelude::*};

pub(crate) const V4: ([u8; 4], [u8; 4]) = ([10, 64, 0, 1], [10, 64, 0, 2]);
pub(crate) const V6: ([u8; 16], [u8; 16]) = (
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
);

pub(crate) fn udp4(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(V4.0, V4.1, 64).udp(5000, 53).write(&mut bytes, payload).unwrap();
    bytes
}

pub(crate) fn udp6(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv6(V6.0, V6.1, 64).udp(5000, 53).write(&mut bytes, payload).unwrap();
    bytes
}

/// A UDP packet behind a chain of extension headers of which the first has number `first`.
pub(crate) fn udp6_behind(first: u8, chain: &[u8]) -> Vec<u8> {
    let mut bytes = udp6(b"hello");
    bytes.splice(40..40, chain.iter().copied());
    bytes[6] = first;
    let payload_len = (bytes.len() - 40) as u16;
    bytes[4..6].copy_from_slice(&payload_len.to_be_bytes());
    bytes
}

pub(crate) fn icmp_echo4() -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(V4.0, V4.1, 64).icmpv4_echo_request(1, 1).write(&mut bytes, b"ping").unwrap();
    bytes
}

pub(crate) fn icmp_echo6() -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv6(V6.0, V6.1, 64).icmpv6_echo_request(1, 1).write(&mut bytes, b"ping").unwrap();
    bytes
}

/// A TCP segment without payload.
pub(crate) fn tcp(v6: bool, flags: TcpFlags, options: &[TcpOptionElement]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ip = if v6 { PacketBuilder::ipv6(V6.0, V6.1, 64) } else { PacketBuilder::ipv4(V4.0, V4.1, 64) };
    let mut tcp = ip.tcp(40_000, 22, 1, 64_240).options(options).unwrap();
    if flags.syn {
        tcp = tcp.syn();
    }
    if flags.ack {
        tcp = tcp.ack(7);
    }
    tcp.write(&mut bytes, &[]).unwrap();
    bytes
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct TcpFlags {
    pub(crate) syn: bool,
    pub(crate) ack: bool,
}

pub(crate) const SYN: TcpFlags = TcpFlags { syn: true, ack: false };
pub(crate) const SYN_ACK: TcpFlags = TcpFlags { syn: true, ack: true };
pub(crate) const ACK: TcpFlags = TcpFlags { syn: false, ack: true };

/// Well-formed packets of both families with any addresses, protocol, payload and fragmentation.
pub(crate) fn any_packet() -> impl Strategy<Value = Vec<u8>> {
    let protocol = prop_oneof![Just(1u8), Just(6), Just(17), Just(58), Just(132), 140..250u8];
    (any::<bool>(), protocol, vec(any::<u8>(), 0..900), any::<bool>(), 0..3u16).prop_flat_map(
        |(v6, protocol, payload, more, offset)| {
            if v6 {
                any::<([u8; 16], [u8; 16], u32)>()
                    .prop_map(move |(s, d, label)| {
                        ipv6(s, d, label & 0xf_ffff, protocol, (offset, more), &payload)
                    })
                    .boxed()
            } else {
                any::<([u8; 4], [u8; 4])>()
                    .prop_map(move |(s, d)| ipv4(s, d, protocol, (offset, more), &payload))
                    .boxed()
            }
        },
    )
}

fn ipv4(
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    (offset, more): (u16, bool),
    payload: &[u8],
) -> Vec<u8> {
    let mut header =
        Ipv4Header::new(payload.len() as u16, 64, IpNumber(protocol), source, destination).unwrap();
    header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
    header.more_fragments = more;
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes()[..], payload].concat()
}

fn ipv6(
    source: [u8; 16],
    destination: [u8; 16],
    label: u32,
    protocol: u8,
    (offset, more): (u16, bool),
    payload: &[u8],
) -> Vec<u8> {
    let fragmented = offset > 0 || more;
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    let extension = [protocol, 0, high, low, 0, 0, 0, 9];
    let extension = if fragmented { &extension[..] } else { &[] };
    let header = Ipv6Header {
        flow_label: Ipv6FlowLabel::try_new(label).unwrap(),
        payload_length: (extension.len() + payload.len()) as u16,
        next_header: IpNumber(if fragmented { 44 } else { protocol }),
        hop_limit: 64,
        source,
        destination,
        ..Default::default()
    };
    [&header.to_bytes()[..], extension, payload].concat()
}
