//! The table and its two questions.

use std::net::IpAddr;
use std::num::NonZero;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use peerup_packet::IpPacket;
use peerup_types::{OverlayAddrs, PeerId};

use crate::build::Builder;
use crate::drops::DropReason;
use crate::prefixes::{Number, Prefixes};

/// A peer's place in one table. Every table numbers anew: whoever keeps one across a change of tables asks
/// [`RoutingTable::index_of`] again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIndex(
    /// One more than the index, so that "no peer" takes no room in a table.
    NonZero<u16>,
);

impl PeerIndex {
    pub(crate) const fn new(index: u32) -> Self {
        assert!(index < u16::MAX as u32, "a table has at most a few thousand peers");
        Self(NonZero::new(index as u16 + 1).expect("one more than an index is not zero"))
    }

    pub fn as_usize(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// What is known about a peer when the table is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// A path is up.
    Online,
    /// Not connected, but it may become so: packets are routed and wait in its lanes.
    Connecting,
    /// Known not to answer: packets are refused at once.
    Offline,
}

/// The addresses of the overlay, assigned or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverlayRange {
    pub v4: Ipv4Net,
    pub v6: Ipv6Net,
}

impl OverlayRange {
    pub fn contains(&self, addr: IpAddr) -> bool {
        // Each lookup asks this; `ipnet` compares addresses piece by piece.
        match addr {
            IpAddr::V4(v4) => v4.to_bits().shares(self.v4.addr().to_bits(), self.v4.prefix_len()),
            IpAddr::V6(v6) => v6.to_bits().shares(self.v6.addr().to_bits(), self.v6.prefix_len()),
        }
    }

    /// Whether all of `prefix` lies in the range.
    pub(crate) fn covers(&self, prefix: IpNet) -> bool {
        match prefix {
            IpNet::V4(v4) => self.v4.contains(&v4),
            IpNet::V6(v6) => self.v6.contains(&v6),
        }
    }

    /// The address that means "everybody in the range"; /31 and /32 have none (RFC 3021).
    fn is_broadcast(&self, addr: IpAddr) -> bool {
        self.v4.prefix_len() < 31 && addr == IpAddr::V4(self.v4.broadcast())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) reachability: Reachability,
    /// The longest packet that the peer's own interface takes, and ours.
    pub(crate) mtu: u16,
}

/// Immutable; see the crate's documentation.
#[derive(Debug, Clone)]
pub struct RoutingTable {
    pub(crate) own: OverlayAddrs,
    pub(crate) overlay: OverlayRange,
    pub(crate) mtu: u16,
    pub(crate) peers: Vec<Peer>,
    /// `(peer, index)`, sorted.
    pub(crate) by_id: Vec<(PeerId, PeerIndex)>,
    pub(crate) v4: Prefixes<u32>,
    pub(crate) v6: Prefixes<u128>,
}

impl RoutingTable {
    pub fn builder(own: OverlayAddrs, overlay: OverlayRange, mtu: u16) -> Builder {
        Builder::new(own, overlay, mtu)
    }

    /// The peer that a packet from the TUN device goes to.
    pub fn outbound(&self, packet: &IpPacket<'_>) -> Result<PeerIndex, DropReason> {
        self.outbound_within(packet, packet.as_bytes().len())
    }

    /// The same for a super-packet: `longest` is the longest packet that it becomes, which is what the MTU bounds.
    pub fn outbound_within(&self, packet: &IpPacket<'_>, longest: usize) -> Result<PeerIndex, DropReason> {
        let (source, destination) = (packet.source(), packet.destination());
        if self.is_group(destination) || source.is_multicast() {
            return Err(DropReason::Multicast);
        }
        if !self.own.contains(source) {
            return Err(DropReason::SourceNotOwn);
        }
        if self.own.contains(destination) {
            return Err(DropReason::DestinationOwn);
        }
        if packet.is_source_routed() {
            return Err(DropReason::SourceRouted);
        }
        let index = self.route(destination)?;
        if longest > usize::from(self.mtu_to(index)) {
            return Err(DropReason::TooBig);
        }
        Ok(index)
    }

    fn route(&self, destination: IpAddr) -> Result<PeerIndex, DropReason> {
        let Some(index) = self.owner(destination) else {
            let inside = self.overlay.contains(destination);
            return Err(if inside { DropReason::NoPeer } else { DropReason::OutsideOverlay });
        };
        match self.peers[index.as_usize()].reachability {
            Reachability::Online | Reachability::Connecting => Ok(index),
            Reachability::Offline => Err(DropReason::PeerOffline),
        }
    }

    /// Whether a packet that `from` sent may enter the TUN device. The source must route back to `from`: a
    /// longer prefix of somebody else inside one of `from`'s is somebody else's.
    pub fn inbound(&self, from: PeerIndex, packet: &IpPacket<'_>) -> Result<(), DropReason> {
        if self.peers.get(from.as_usize()).is_none() {
            return Err(DropReason::UnknownPeer);
        }
        if self.own.contains(packet.source()) || self.owner(packet.source()) != Some(from) {
            return Err(DropReason::Spoofed);
        }
        if self.is_group(packet.destination()) {
            return Err(DropReason::Multicast);
        }
        if !self.own.contains(packet.destination()) {
            return Err(DropReason::NotForUs);
        }
        // What ends at this node by its destination must not go on from here (RFC 5095, RFC 7126 §4.3).
        if packet.is_source_routed() {
            return Err(DropReason::SourceRouted);
        }
        Ok(())
    }

    fn is_group(&self, addr: IpAddr) -> bool {
        let limited_broadcast = addr == IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
        addr.is_multicast() || limited_broadcast || self.overlay.is_broadcast(addr)
    }

    /// The peer an address belongs to: in the overlay the one that has exactly this address, elsewhere the one
    /// with the longest prefix around it. So a peer with a subnet or a default route around the overlay gets
    /// neither this node's addresses nor those nobody has.
    pub fn owner(&self, addr: IpAddr) -> Option<PeerIndex> {
        match (addr, self.overlay.contains(addr)) {
            (IpAddr::V4(v4), true) => self.v4.lookup_host(v4.to_bits()),
            (IpAddr::V4(v4), false) => self.v4.lookup(v4.to_bits()),
            (IpAddr::V6(v6), true) => self.v6.lookup_host(v6.to_bits()),
            (IpAddr::V6(v6), false) => self.v6.lookup(v6.to_bits()),
        }
    }

    /// `None` for an index of a larger table.
    pub fn peer(&self, index: PeerIndex) -> Option<&PeerId> {
        self.peers.get(index.as_usize()).map(|peer| &peer.id)
    }

    pub fn reachability(&self, index: PeerIndex) -> Option<Reachability> {
        self.peers.get(index.as_usize()).map(|peer| peer.reachability)
    }

    pub fn index_of(&self, peer: &PeerId) -> Option<PeerIndex> {
        let at = self.by_id.binary_search_by_key(peer, |(id, _)| *id).ok()?;
        Some(self.by_id[at].1)
    }

    /// All peers, in the order of their indexes.
    pub fn peers(&self) -> impl Iterator<Item = (PeerIndex, &PeerId)> {
        self.peers.iter().enumerate().map(|(at, peer)| (PeerIndex::new(at as u32), &peer.id))
    }

    pub fn own(&self) -> OverlayAddrs {
        self.own
    }

    /// Of our own interface.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// The longest packet that may go to a peer.
    pub fn mtu_to(&self, index: PeerIndex) -> u16 {
        self.peers.get(index.as_usize()).map_or(self.mtu, |peer| peer.mtu)
    }
}

#[cfg(test)]
mod tests;
