//! A small network for the tests: this node is 10.64.0.1, the range 10.64.0.0/16, the MTU 1420.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use ipnet::IpNet;
use peerup_packet::IpPacket;
use peerup_types::{Keypair, OverlayAddrs, PeerId};

use crate::build::Builder;
use crate::table::{OverlayRange, RoutingTable};

pub(crate) const MTU: u16 = 1420;

pub(crate) fn own() -> OverlayAddrs {
    OverlayAddrs { v4: Some([10, 64, 0, 1].into()), v6: "fd12:3456:789a::1".parse().unwrap() }
}

pub(crate) fn overlay() -> OverlayRange {
    OverlayRange { v4: "10.64.0.0/16".parse().unwrap(), v6: "fd12:3456:789a::/48".parse().unwrap() }
}

pub(crate) fn builder() -> Builder {
    RoutingTable::builder(own(), overlay(), MTU)
}

pub(crate) fn peer(seed: u8) -> PeerId {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap().public().to_peer_id()
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A UDP packet of `len` bytes in all.
pub(crate) fn udp(source: &str, destination: &str, len: usize) -> Vec<u8> {
    udp_between(source.parse().unwrap(), destination.parse().unwrap(), len)
}

pub(crate) fn udp_between(source: IpAddr, destination: IpAddr, len: usize) -> Vec<u8> {
    let (builder, headers) = match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => (PacketBuilder::ipv4(s.octets(), d.octets(), 64), 28),
        (IpAddr::V6(s), IpAddr::V6(d)) => (PacketBuilder::ipv6(s.octets(), d.octets(), 64), 48),
        mixed => panic!("a packet has one family: {mixed:?}"),
    };
    let mut bytes = Vec::new();
    builder.udp(5000, 53).write(&mut bytes, &vec![0; len - headers]).unwrap();
    bytes
}

pub(crate) fn parse(bytes: &[u8]) -> IpPacket<'_> {
    IpPacket::parse(bytes).unwrap()
}
