//! Who owns which IPv4 address: a pure function of pins, claims and holds.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use peerup_types::{AddressClaim, PeerId};

/// The result of applying the precedence rules of the crate's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    pub by_peer: BTreeMap<PeerId, Ipv4Addr>,
    pub by_address: BTreeMap<Ipv4Addr, PeerId>,
    /// Peers whose claimed address belongs to another peer.
    pub lost: BTreeMap<PeerId, Loss>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    pub address: Ipv4Addr,
    pub winner: PeerId,
}

impl Assignment {
    pub fn of<'a>(
        pins: impl IntoIterator<Item = (PeerId, Ipv4Addr)>,
        claims: impl IntoIterator<Item = &'a AddressClaim>,
        holds: impl IntoIterator<Item = (PeerId, Ipv4Addr)>,
    ) -> Self {
        let mut assignment = Self::default();
        for (peer, address) in pins {
            assignment.give(peer, address);
        }
        for claim in by_precedence(claims) {
            assignment.apply(claim);
        }
        for (peer, address) in holds {
            assignment.give(peer, address);
        }
        assignment
    }

    pub fn lowest_free(&self, prefix: Ipv4Net) -> Option<Ipv4Addr> {
        let first = u32::from(prefix.network()) + 1;
        let last = u32::from(prefix.broadcast()) - 1;
        (first..=last).map(Ipv4Addr::from).find(|address| !self.by_address.contains_key(address))
    }

    fn apply(&mut self, claim: &AddressClaim) {
        if self.give(claim.peer, claim.address) {
            return;
        }
        match self.by_address.get(&claim.address) {
            Some(winner) if *winner != claim.peer => {
                self.lost.insert(claim.peer, Loss { address: claim.address, winner: *winner });
            }
            // The peer is pinned, here or elsewhere.
            Some(_) | None => {}
        }
    }

    /// Whether both the peer and the address were free.
    fn give(&mut self, peer: PeerId, address: Ipv4Addr) -> bool {
        let free = !self.by_peer.contains_key(&peer) && !self.by_address.contains_key(&address);
        if free {
            self.by_peer.insert(peer, address);
            self.by_address.insert(address, peer);
        }
        free
    }
}

/// Lower epoch first, then the smaller peer ID in byte order.
fn by_precedence<'a>(claims: impl IntoIterator<Item = &'a AddressClaim>) -> Vec<&'a AddressClaim> {
    let mut claims: Vec<_> = claims.into_iter().collect();
    claims.sort_by_cached_key(|claim| (claim.epoch, claim.peer.to_bytes()));
    claims
}

/// Network and broadcast address are nobody's.
pub fn is_host(address: Ipv4Addr, prefix: Ipv4Net) -> bool {
    prefix.contains(&address) && address != prefix.network() && address != prefix.broadcast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_beat_claims_and_claims_beat_holds() {
        let [a, b, c] = [peer(1), peer(2), peer(3)];
        let assignment =
            Assignment::of([(a, host(1))], [&claim(b, 1, 5), &claim(c, 2, 9)], [(b, host(2)), (a, host(7))]);
        assert_eq!(assignment.by_peer, BTreeMap::from([(a, host(1)), (c, host(2))]));
        assert_eq!(assignment.lost, BTreeMap::from([(b, Loss { address: host(1), winner: a })]));
    }

    #[test]
    fn the_older_claim_wins_then_the_smaller_peer_id() {
        let [a, b, c] = [peer(1), peer(2), peer(3)];
        let claims = [claim(c, 1, 4), claim(a, 1, 5), claim(b, 2, 5), claim(a, 2, 5)];
        let winner =
            |claims: &[&AddressClaim], address| Assignment::of([], claims.to_vec(), []).by_address[&address];
        assert_eq!(winner(&[&claims[0], &claims[1]], host(1)), c);
        assert_eq!(winner(&[&claims[2], &claims[3]], host(2)), a);
        assert_eq!(winner(&[&claims[3], &claims[2]], host(2)), a);
    }

    #[test]
    fn a_pinned_peer_that_claims_something_else_has_not_lost_it_to_anybody() {
        let a = peer(1);
        let assignment = Assignment::of([(a, host(1))], [&claim(a, 2, 5)], []);
        assert_eq!(assignment.by_address, BTreeMap::from([(host(1), a)]));
        assert!(assignment.lost.is_empty());
    }

    #[test]
    fn the_lowest_free_address_skips_network_broadcast_and_owners() {
        let prefix = "10.64.0.0/30".parse().unwrap();
        let mut assignment = Assignment::default();
        assert_eq!(assignment.lowest_free(prefix), Some(host(1)));
        assignment.give(peer(1), host(1));
        assert_eq!(assignment.lowest_free(prefix), Some(host(2)));
        assignment.give(peer(2), host(2));
        assert_eq!(assignment.lowest_free(prefix), None);
    }

    fn claim(peer: PeerId, last: u8, epoch: u64) -> AddressClaim {
        AddressClaim { peer, address: host(last), epoch, signature: vec![] }
    }

    fn host(last: u8) -> Ipv4Addr {
        [10, 64, 0, last].into()
    }

    fn peer(fill: u8) -> PeerId {
        PeerId::from_bytes(&[&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20][..], &[fill; 32]].concat()).unwrap()
    }
}
