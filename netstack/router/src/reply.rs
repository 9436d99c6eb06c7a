//! What a dropped packet's sender is told.

use peerup_packet::{IpPacket, Unreachable, too_big, unreachable};

use crate::drops::DropReason;
use crate::table::RoutingTable;

/// The ICMP answer to write back to the TUN device, if the sender can use one.
///
/// Only drops on the way out are answered: an answer to the peer's host would need the very path that is in
/// question, and an answer to a spoofed packet would go to the wrong host. The answer comes from the address
/// that was not reached, because a kernel refuses packets that arrive from an address of its own.
pub fn reply_for(reason: DropReason, packet: &IpPacket<'_>, table: &RoutingTable) -> Option<Vec<u8>> {
    let from = packet.destination();
    match reason {
        DropReason::TooBig => {
            too_big(packet, from, table.owner(from).map_or(table.mtu(), |peer| table.mtu_to(peer)))
        }
        DropReason::OutsideOverlay => unreachable(packet, from, Unreachable::NoRoute),
        DropReason::NoPeer | DropReason::PeerOffline | DropReason::ConnectTimeout => {
            unreachable(packet, from, Unreachable::Host)
        }
        DropReason::SourceNotOwn => unreachable(packet, from, Unreachable::AdminProhibited),
        // Loss that congestion control reads by itself.
        DropReason::QueueFull | DropReason::QueueCongestion | DropReason::QueueDelay => None,
        DropReason::PathClosed => None,
        DropReason::Malformed | DropReason::Multicast | DropReason::SourceRouted => None,
        DropReason::DestinationOwn => None,
        DropReason::UnknownPeer | DropReason::Spoofed | DropReason::NotForUs | DropReason::TunWrite => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    /// ICMP type and code of the answer to a packet from this node to a peer.
    fn answer(reason: DropReason, source: &str, destination: &str) -> Option<(u8, u8)> {
        let bytes = udp(source, destination, 100);
        let reply = reply_for(reason, &parse(&bytes), &builder().build())?;
        let reply = parse(&reply);
        assert_eq!(
            (reply.source().to_string(), reply.destination().to_string()),
            (destination.into(), source.into())
        );
        Some((reply.payload()[0], reply.payload()[1]))
    }

    #[test]
    fn peers_that_cannot_be_reached_make_connections_fail_at_once() {
        for reason in [DropReason::NoPeer, DropReason::PeerOffline, DropReason::ConnectTimeout] {
            assert_eq!(answer(reason, "10.64.0.1", "10.64.0.9"), Some((3, 1)), "{reason}");
            assert_eq!(answer(reason, "fd12:3456:789a::1", "fd12:3456:789a::9"), Some((1, 3)), "{reason}");
        }
    }

    #[test]
    fn oversize_packets_are_answered_with_the_mtu() {
        let bytes = udp("10.64.0.1", "10.64.0.2", 1500);
        let reply = reply_for(DropReason::TooBig, &parse(&bytes), &builder().build()).unwrap();
        assert_eq!(parse(&reply).payload()[..8][4..], [0, 0, 0x05, 0x8c]);
        assert_eq!(answer(DropReason::TooBig, "10.64.0.1", "10.64.0.2"), Some((3, 4)));
    }

    #[test]
    fn destinations_and_sources_outside_the_overlay_are_told_apart() {
        assert_eq!(answer(DropReason::OutsideOverlay, "10.64.0.1", "192.0.2.1"), Some((3, 0)));
        assert_eq!(answer(DropReason::SourceNotOwn, "192.0.2.1", "10.64.0.2"), Some((3, 13)));
    }

    #[test]
    fn what_peers_sent_and_what_queues_dropped_is_not_answered() {
        for reason in [
            DropReason::Spoofed,
            DropReason::NotForUs,
            DropReason::UnknownPeer,
            DropReason::QueueFull,
            DropReason::QueueCongestion,
            DropReason::QueueDelay,
            DropReason::Malformed,
        ] {
            assert_eq!(answer(reason, "10.64.0.1", "10.64.0.2"), None, "{reason}");
        }
    }
}
