//! Who is connected from where, and how many of one place hold a reservation.
//!
//! libp2p caps reservations in total and per peer. A stranger at an open relay has as many peer IDs as it likes,
//! but few addresses, so the relay also counts the peers with a reservation per IP address and per network. It
//! hears of a reservation when it has been granted; one too many is ended by disconnecting its peer.
//!
//! A network is an IPv4 /16 or an IPv6 /32, about what a provider gets at once; there is no table of autonomous
//! systems here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use peerup_types::{PathId, PeerId};

/// More peers of one place have a reservation than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    #[error("too many peers with a reservation at {0}")]
    Address(IpAddr),
    #[error("too many peers with a reservation in the network of {0}")]
    Network(IpAddr),
}

#[derive(Debug)]
pub struct Connections {
    max_per_ip: usize,
    max_per_network: usize,
    paths: BTreeMap<PathId, (PeerId, Option<IpAddr>)>,
    reserved: BTreeSet<PeerId>,
}

impl Connections {
    pub fn new(max_per_ip: usize, max_per_network: usize) -> Self {
        Self { max_per_ip, max_per_network, paths: BTreeMap::new(), reserved: BTreeSet::new() }
    }

    pub fn handle_opened(&mut self, path: PathId, peer: PeerId, from: Option<IpAddr>) {
        self.paths.insert(path, (peer, from));
    }

    pub fn handle_closed(&mut self, path: PathId) {
        let Some((peer, _)) = self.paths.remove(&path) else { return };
        if !self.paths.values().any(|(other, _)| *other == peer) {
            self.reserved.remove(&peer);
        }
    }

    /// `peer` got a reservation. A peer that has several counts once.
    pub fn handle_reservation(&mut self, peer: PeerId) -> Result<(), Exceeded> {
        if !self.reserved.insert(peer) {
            return Ok(());
        }
        let checked = self.check(&peer);
        if checked.is_err() {
            self.reserved.remove(&peer);
        }
        checked
    }

    /// The reservation of a peer that stays connected ran out.
    pub fn handle_reservation_ended(&mut self, peer: &PeerId) {
        self.reserved.remove(peer);
    }

    /// Peers that hold a reservation.
    pub fn reserved(&self) -> usize {
        self.reserved.len()
    }

    /// Every connection is gone.
    pub fn handle_restart(&mut self) {
        self.paths.clear();
        self.reserved.clear();
    }

    pub fn peers(&self) -> BTreeSet<PeerId> {
        self.paths.values().map(|(peer, _)| *peer).collect()
    }

    pub fn len(&self) -> usize {
        self.paths.len()
    }

    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    fn check(&self, peer: &PeerId) -> Result<(), Exceeded> {
        let own = self.paths.values().filter(|(other, _)| other == peer).filter_map(|(_, from)| *from);
        for ip in own {
            if self.reserved_from(|from| from == ip) > self.max_per_ip {
                return Err(Exceeded::Address(ip));
            }
            if self.reserved_from(|from| network(from) == network(ip)) > self.max_per_network {
                return Err(Exceeded::Network(ip));
            }
        }
        Ok(())
    }

    fn reserved_from(&self, place: impl Fn(IpAddr) -> bool) -> usize {
        let here = self.paths.values().filter(|(_, from)| from.is_some_and(&place));
        here.map(|(peer, _)| peer).filter(|peer| self.reserved.contains(peer)).collect::<BTreeSet<_>>().len()
    }
}

fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & 0xffff_0000).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 96)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_so_many_reservations_and_others_get_theirs() {
        let mut connections = Connections::new(2, 100);
        let peers = [1, 2, 3].map(|path| connected(&mut connections, path, "192.0.2.1"));
        let elsewhere = connected(&mut connections, 4, "192.0.2.2");
        connections.handle_reservation(peers[0]).unwrap();
        connections.handle_reservation(peers[1]).unwrap();
        let exceeded = Exceeded::Address("192.0.2.1".parse().unwrap());
        assert_eq!(connections.handle_reservation(peers[2]), Err(exceeded));
        connections.handle_reservation(elsewhere).unwrap();
        connections.handle_reservation(peers[0]).expect("a renewal takes no further place");
    }

    #[test]
    fn a_network_is_counted_whatever_address_its_peers_use() {
        let mut connections = Connections::new(100, 2);
        for (path, from) in [(1, "2001:db8:1::1"), (2, "2001:db8:2::1")] {
            let peer = connected(&mut connections, path, from);
            connections.handle_reservation(peer).unwrap();
        }
        let (inside, outside) =
            (connected(&mut connections, 3, "2001:db8:3::1"), connected(&mut connections, 4, "2001:db9::1"));
        assert!(matches!(connections.handle_reservation(inside), Err(Exceeded::Network(_))));
        connections.handle_reservation(outside).unwrap();
        assert_eq!(network("203.0.113.5".parse().unwrap()), IpAddr::from([203, 0, 0, 0]));
    }

    #[test]
    fn a_peer_gives_its_place_back_with_its_last_connection() {
        let mut connections = Connections::new(1, 100);
        let (first, second) =
            (connected(&mut connections, 1, "192.0.2.1"), connected(&mut connections, 2, "192.0.2.1"));
        connections.handle_opened(PathId(3), first, None);
        connections.handle_reservation(first).unwrap();
        connections.handle_closed(PathId(3));
        assert!(connections.handle_reservation(second).is_err());
        connections.handle_closed(PathId(1));
        connections.handle_reservation(second).unwrap();
        assert_eq!((connections.len(), connections.peers()), (1, BTreeSet::from([second])));
        connections.handle_restart();
        assert!(connections.is_empty());
    }

    fn connected(connections: &mut Connections, path: u64, from: &str) -> PeerId {
        let peer = PeerId::random();
        connections.handle_opened(PathId(path), peer, Some(from.parse().unwrap()));
        peer
    }
}
