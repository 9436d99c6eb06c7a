//! Building a table, one peer and one prefix at a time.
//!
//! Each refusal is about one peer or one prefix; the rest of the table stands. Were it otherwise, one peer that
//! claims too much would take the network down for all.

use ipnet::IpNet;
use peerup_types::{OverlayAddrs, PeerId};

use crate::prefixes::{Collected, Prefixes};
use crate::table::{OverlayRange, Peer, PeerIndex, Reachability, RoutingTable};

/// Far beyond what the other rooms plan for.
pub const MAX_PEERS: usize = 4096;
/// Full, a table takes about 4 MiB when all are IPv6 and 2 MiB when all are IPv4, and twice that when half of the prefixes
/// lie in the others.
pub const MAX_PREFIXES: usize = 32 * MAX_PEERS;

#[derive(Debug)]
pub struct Builder {
    own: OverlayAddrs,
    overlay: OverlayRange,
    mtu: u16,
    peers: Vec<Peer>,
    /// Sorted.
    by_id: Vec<(PeerId, PeerIndex)>,
    v4: Collected<u32>,
    v6: Collected<u128>,
    prefixes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddPeerError {
    #[error("{peer} is already in the table")]
    Duplicate { peer: PeerId },
    #[error("the table is full: {MAX_PEERS} peers")]
    Full,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddPrefixError {
    #[error("{prefix} belongs to {owner}")]
    Taken { prefix: IpNet, owner: PeerId },
    #[error("{prefix} is an address of this node")]
    Own { prefix: IpNet },
    #[error("{prefix} is a multicast range")]
    Multicast { prefix: IpNet },
    #[error("{prefix} is a part of the overlay, where only single addresses are given out")]
    PartOfOverlay { prefix: IpNet },
    #[error("the table is full: {MAX_PREFIXES} prefixes")]
    Full,
}

impl Builder {
    pub(crate) fn new(own: OverlayAddrs, overlay: OverlayRange, mtu: u16) -> Self {
        let (v4, v6) = (Collected::new(), Collected::new());
        Self { own, overlay, mtu, peers: Vec::new(), by_id: Vec::new(), v4, v6, prefixes: 0 }
    }

    pub fn add_peer(&mut self, peer: PeerId, reachability: Reachability) -> Result<PeerIndex, AddPeerError> {
        let Err(at) = self.by_id.binary_search_by_key(&peer, |(id, _)| *id) else {
            return Err(AddPeerError::Duplicate { peer });
        };
        if self.peers.len() == MAX_PEERS {
            return Err(AddPeerError::Full);
        }
        let index = PeerIndex::new(self.peers.len() as u32);
        self.peers.push(Peer { id: peer, reachability, mtu: self.mtu });
        self.by_id.insert(at, (peer, index));
        Ok(index)
    }

    /// The peer's interface takes packets of at most `mtu` bytes.
    pub fn limit_mtu(&mut self, peer: PeerIndex, mtu: u16) {
        if let Some(peer) = self.peers.get_mut(peer.as_usize()) {
            peer.mtu = peer.mtu.min(mtu);
        }
    }

    /// Gives a peer of this builder a host or a subnet. Host bits are ignored.
    pub fn add_prefix(&mut self, peer: PeerIndex, prefix: IpNet) -> Result<(), AddPrefixError> {
        let prefix = prefix.trunc();
        if self.is_own(prefix) {
            return Err(AddPrefixError::Own { prefix });
        }
        if prefix.network().is_multicast() {
            return Err(AddPrefixError::Multicast { prefix });
        }
        if !is_host(prefix) && self.overlay.covers(prefix) {
            return Err(AddPrefixError::PartOfOverlay { prefix });
        }
        if self.prefixes == MAX_PREFIXES {
            return Err(AddPrefixError::Full);
        }
        self.insert(peer, prefix).map_err(|owner| {
            let owner = self.peers[owner.as_usize()].id;
            AddPrefixError::Taken { prefix, owner }
        })?;
        self.prefixes += 1;
        Ok(())
    }

    /// A subnet around the overlay is fine: inside the overlay only single addresses are looked up.
    fn is_own(&self, prefix: IpNet) -> bool {
        is_host(prefix) && self.own.contains(prefix.addr())
    }

    fn insert(&mut self, peer: PeerIndex, prefix: IpNet) -> Result<(), PeerIndex> {
        match prefix {
            IpNet::V4(v4) => self.v4.insert(v4.network().to_bits(), v4.prefix_len(), peer),
            IpNet::V6(v6) => self.v6.insert(v6.network().to_bits(), v6.prefix_len(), peer),
        }
    }

    pub fn build(self) -> RoutingTable {
        let Self { own, overlay, mtu, peers, by_id, v4, v6, prefixes: _ } = self;
        RoutingTable { own, overlay, mtu, peers, by_id, v4: Prefixes::new(v4), v6: Prefixes::new(v6) }
    }
}

fn is_host(prefix: IpNet) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn a_prefix_that_is_taken_names_its_owner_and_leaves_the_rest_standing() {
        let mut builder = builder();
        let first = builder.add_peer(peer(1), Reachability::Online).unwrap();
        let second = builder.add_peer(peer(2), Reachability::Online).unwrap();
        builder.add_prefix(first, net("10.64.0.2/32")).unwrap();
        let error = AddPrefixError::Taken { prefix: net("10.64.0.2/32"), owner: peer(1) };
        assert_eq!(builder.add_prefix(second, net("10.64.0.2/32")), Err(error));
        builder.add_prefix(second, net("10.64.0.3/32")).unwrap();
        let table = builder.build();
        assert_eq!(table.owner("10.64.0.2".parse().unwrap()), Some(first));
        assert_eq!(table.owner("10.64.0.3".parse().unwrap()), Some(second));
    }

    #[test]
    fn own_addresses_and_multicast_belong_to_no_peer() {
        let mut builder = builder();
        let peer = builder.add_peer(peer(1), Reachability::Online).unwrap();
        for own in ["10.64.0.1/32", "fd12:3456:789a::1/128"] {
            let error = AddPrefixError::Own { prefix: net(own) };
            assert_eq!(builder.add_prefix(peer, net(own)), Err(error));
        }
        for multicast in ["224.0.0.0/4", "ff02::1/128"] {
            let error = AddPrefixError::Multicast { prefix: net(multicast) };
            assert_eq!(builder.add_prefix(peer, net(multicast)), Err(error));
        }
    }

    #[test]
    fn the_overlay_is_given_out_address_by_address() {
        let mut builder = builder();
        let peer = builder.add_peer(peer(1), Reachability::Online).unwrap();
        for part in ["10.64.5.0/24", "10.64.0.0/16", "fd12:3456:789a:1::/64"] {
            let error = AddPrefixError::PartOfOverlay { prefix: net(part) };
            assert_eq!(builder.add_prefix(peer, net(part)), Err(error));
        }
        for good in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "10.64.5.1/32"] {
            builder.add_prefix(peer, net(good)).unwrap();
        }
    }

    #[test]
    fn a_peer_stands_once_in_a_table() {
        let mut builder = builder();
        builder.add_peer(peer(1), Reachability::Online).unwrap();
        let error = AddPeerError::Duplicate { peer: peer(1) };
        assert_eq!(builder.add_peer(peer(1), Reachability::Offline), Err(error));
    }

    #[test]
    fn a_full_table_takes_no_further_prefix() {
        let mut builder = builder();
        let owner = builder.add_peer(peer(1), Reachability::Online).unwrap();
        for n in 0..MAX_PREFIXES as u128 {
            let addr = std::net::Ipv6Addr::from_bits(0xfd99 << 112 | n);
            builder.add_prefix(owner, IpNet::new(addr.into(), 128).unwrap()).unwrap();
        }
        assert_eq!(builder.add_prefix(owner, net("10.64.0.2/32")), Err(AddPrefixError::Full));
    }

    #[test]
    fn peers_are_found_by_id_and_by_index() {
        let mut builder = builder();
        let indexes = [3, 1, 2].map(|n| builder.add_peer(peer(n), Reachability::Online).unwrap());
        let table = builder.build();
        for (index, n) in indexes.into_iter().zip([3, 1, 2]) {
            assert_eq!(table.index_of(&peer(n)), Some(index));
            assert_eq!(table.peer(index), Some(&peer(n)));
        }
        assert_eq!(table.index_of(&peer(9)), None);
        assert_eq!(table.peer(PeerIndex::new(3)), None);
    }
}
