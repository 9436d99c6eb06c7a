//! ICMP: echo requests are answered (RFC 792, RFC 4443 §4.2), and errors say whom they are about.

use std::net::{IpAddr, SocketAddr};

use peerup_packet::{IpPacket, checksum, protocol};

use crate::datagram;

/// The flow that an ICMP error is about, seen from here, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub protocol: u8,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Nobody listens on the port; otherwise the host is not reached.
    pub refused: bool,
}

/// The answer to an echo request.
pub(crate) fn answer(packet: &IpPacket<'_>) -> Option<Vec<u8>> {
    let (request, reply) = if packet.is_ipv4() { (8, 0) } else { (128, 129) };
    let body = packet.payload();
    if body.len() < 8 || body[0] != request {
        return None;
    }
    let mut icmp = body.to_vec();
    icmp[0] = reply;
    icmp[2..4].copy_from_slice(&[0, 0]);
    let (from, to) = (packet.destination(), packet.source());
    let sum = match packet.is_ipv4() {
        true => checksum::internet(&[&icmp]),
        false => {
            let pseudo = checksum::pseudo_header(from, to, protocol::ICMPV6, icmp.len());
            checksum::internet(&[&pseudo.to_be_bytes(), &icmp])
        }
    };
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    datagram::ip(from, to, packet.protocol(), &icmp)
}

/// What an ICMP error quotes, if it is an error that ends a connection attempt.
pub(crate) fn complaint(packet: &IpPacket<'_>) -> Option<Complaint> {
    let body = packet.payload();
    let (kind, code) = (*body.first()?, *body.get(1)?);
    let refused = match (packet.is_ipv4(), kind, code) {
        (true, 3, 3) | (false, 1, 4) => true,
        // Not "fragmentation needed": that is about a packet, not about the host.
        (true, 3, code) if code != 4 => false,
        (false, 1, _) => false,
        _ => return None,
    };
    let quoted = Quoted::parse(body.get(8..)?)?;
    Some(Complaint { protocol: quoted.protocol, local: quoted.source, remote: quoted.destination, refused })
}

/// The beginning of a packet: addresses and ports; the rest may be missing (RFC 792: 64 bits of payload).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quoted {
    pub protocol: u8,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// Of the transport header, from the beginning of the quote.
    pub transport_at: usize,
}

impl Quoted {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (protocol, source, destination, transport_at): (u8, IpAddr, IpAddr, usize) =
            match bytes.first()? >> 4 {
                4 => {
                    let header_len = usize::from(bytes[0] & 0x0f) * 4;
                    let header: &[u8; 20] = bytes.first_chunk()?;
                    let source: [u8; 4] = *header[12..].first_chunk()?;
                    let destination: [u8; 4] = *header[16..].first_chunk()?;
                    (header[9], source.into(), destination.into(), header_len)
                }
                6 => {
                    let header: &[u8; 40] = bytes.first_chunk()?;
                    let source: [u8; 16] = *header[8..].first_chunk()?;
                    let destination: [u8; 16] = *header[24..].first_chunk()?;
                    (header[6], source.into(), destination.into(), 40)
                }
                _ => return None,
            };
        let transport = bytes.get(transport_at..)?;
        let (from, to) = match protocol {
            protocol::TCP | protocol::UDP => {
                let [s0, s1, d0, d1] = *transport.first_chunk()?;
                (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]))
            }
            protocol::ICMP | protocol::ICMPV6 => {
                let [_, _, _, _, i0, i1] = *transport.first_chunk()?;
                (u16::from_be_bytes([i0, i1]), 0)
            }
            _ => return None,
        };
        let [source, destination] = [(source, from), (destination, to)].map(SocketAddr::from);
        Some(Self { protocol, source, destination, transport_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use peerup_packet::{Unreachable, unreachable};

    #[test]
    fn an_echo_is_answered_with_the_same_bytes_and_a_right_checksum() {
        for v6 in [false, true] {
            let mut bytes = Vec::new();
            match v6 {
                false => PacketBuilder::ipv4([10, 64, 0, 2], [10, 64, 0, 1], 64)
                    .icmpv4_echo_request(7, 9)
                    .write(&mut bytes, b"hello"),
                true => PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 64)
                    .icmpv6_echo_request(7, 9)
                    .write(&mut bytes, b"hello"),
            }
            .unwrap();
            let reply = answer(&IpPacket::parse(&bytes).unwrap()).unwrap();
            let parsed = IpPacket::parse(&reply).unwrap();
            let expected = match v6 {
                false => etherparse::Icmpv4Type::EchoReply(etherparse::IcmpEchoHeader { id: 7, seq: 9 })
                    .calc_checksum(b"hello"),
                true => etherparse::Icmpv6Type::EchoReply(etherparse::IcmpEchoHeader { id: 7, seq: 9 })
                    .calc_checksum([0xfe; 16], [0xfd; 16], b"hello")
                    .unwrap(),
            };
            let got = u16::from_be_bytes([parsed.payload()[2], parsed.payload()[3]]);
            assert_eq!((got, &parsed.payload()[8..]), (expected, &b"hello"[..]));
            assert_eq!(answer(&parsed), None, "a reply is not answered");
        }
    }

    #[test]
    fn an_error_names_the_flow_it_is_about() {
        let mut bytes = Vec::new();
        let syn = PacketBuilder::ipv4([10, 64, 0, 1], [10, 64, 0, 2], 64).tcp(40_000, 22, 1, 1000).syn();
        syn.write(&mut bytes, &[]).unwrap();
        let original = IpPacket::parse(&bytes).unwrap();
        for (why, refused) in [(Unreachable::Host, false), (Unreachable::Port, true)] {
            let error = unreachable(&original, "10.64.0.2".parse().unwrap(), why).unwrap();
            let complaint = complaint(&IpPacket::parse(&error).unwrap()).unwrap();
            assert_eq!(complaint.local.to_string(), "10.64.0.1:40000");
            assert_eq!(complaint.remote.to_string(), "10.64.0.2:22");
            assert_eq!((complaint.protocol, complaint.refused), (protocol::TCP, refused));
        }
    }
}
