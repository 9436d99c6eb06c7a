//! Longest prefix match over at most a few thousand prefixes of one family.
//!
//! One sorted list per prefix length in use, longest first. An overlay mostly has host prefixes, so a lookup is
//! one binary search; each further length in use costs one more. No hashing: the same prefixes make the same
//! structure in every process.

use crate::table::PeerIndex;

/// An address of either family as a number, and how many bits it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bits {
    pub(crate) value: u128,
    pub(crate) width: u8,
}

impl Bits {
    fn prefix(self, len: u8) -> u128 {
        match self.width - len {
            128 => 0,
            host_bits => self.value >> host_bits,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Prefixes {
    by_length: Vec<OneLength>,
}

#[derive(Debug, Clone)]
struct OneLength {
    len: u8,
    /// Sorted by prefix.
    owners: Vec<(u128, PeerIndex)>,
}

impl Prefixes {
    /// Adds a prefix; if somebody has exactly this one, nothing changes and the owner is returned.
    pub(crate) fn insert(&mut self, network: Bits, len: u8, owner: PeerIndex) -> Result<(), PeerIndex> {
        let owners = self.of_length(len);
        let prefix = network.prefix(len);
        match owners.binary_search_by_key(&prefix, |(known, _)| *known) {
            Ok(at) => Err(owners[at].1),
            Err(at) => {
                owners.insert(at, (prefix, owner));
                Ok(())
            }
        }
    }

    fn of_length(&mut self, len: u8) -> &mut Vec<(u128, PeerIndex)> {
        let at = self.by_length.partition_point(|other| other.len > len);
        if self.by_length.get(at).is_none_or(|found| found.len != len) {
            self.by_length.insert(at, OneLength { len, owners: Vec::new() });
        }
        &mut self.by_length[at].owners
    }

    /// The owner of the longest prefix that holds the address.
    pub(crate) fn lookup(&self, addr: Bits) -> Option<PeerIndex> {
        self.by_length.iter().find_map(|one| one.lookup(addr))
    }

    /// The owner of the address itself, whatever prefixes are around it.
    pub(crate) fn lookup_host(&self, addr: Bits) -> Option<PeerIndex> {
        self.by_length.first().filter(|longest| longest.len == addr.width)?.lookup(addr)
    }
}

impl OneLength {
    fn lookup(&self, addr: Bits) -> Option<PeerIndex> {
        let prefix = addr.prefix(self.len);
        let at = self.owners.binary_search_by_key(&prefix, |(known, _)| *known).ok()?;
        Some(self.owners[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    const PEER: fn(u32) -> PeerIndex = PeerIndex::new;

    fn v4(a: [u8; 4]) -> Bits {
        Bits { value: u128::from(u32::from_be_bytes(a)), width: 32 }
    }

    #[test]
    fn the_longest_prefix_wins_whatever_the_order_of_insertion() {
        let mut routes =
            [([10, 64, 0, 7], 32, 1), ([10, 64, 0, 0], 24, 2), ([10, 0, 0, 0], 8, 3), ([0; 4], 0, 4)];
        for _ in 0..routes.len() {
            routes.rotate_left(1);
            let mut prefixes = Prefixes::default();
            for (network, len, owner) in routes {
                prefixes.insert(v4(network), len, PEER(owner)).unwrap();
            }
            for (addr, owner) in
                [([10, 64, 0, 7], 1), ([10, 64, 0, 8], 2), ([10, 65, 0, 8], 3), ([11, 0, 0, 1], 4)]
            {
                assert_eq!(prefixes.lookup(v4(addr)), Some(PEER(owner)));
            }
        }
    }

    #[test]
    fn a_prefix_has_one_owner() {
        let mut prefixes = Prefixes::default();
        prefixes.insert(v4([10, 0, 0, 0]), 8, PEER(1)).unwrap();
        assert_eq!(prefixes.insert(v4([10, 9, 9, 9]), 8, PEER(2)), Err(PEER(1)));
        assert_eq!(prefixes.lookup(v4([10, 1, 1, 1])), Some(PEER(1)));
    }

    #[test]
    fn a_host_lookup_ignores_prefixes_around_the_address() {
        let mut prefixes = Prefixes::default();
        prefixes.insert(v4([10, 0, 0, 0]), 8, PEER(1)).unwrap();
        assert_eq!(prefixes.lookup_host(v4([10, 0, 0, 0])), None);
        prefixes.insert(v4([10, 0, 0, 7]), 32, PEER(2)).unwrap();
        assert_eq!(prefixes.lookup_host(v4([10, 0, 0, 7])), Some(PEER(2)));
        assert_eq!(prefixes.lookup_host(v4([10, 0, 0, 8])), None);
    }

    #[test]
    fn a_default_route_of_ipv6_holds_everything() {
        let mut prefixes = Prefixes::default();
        prefixes.insert(Bits { value: 0, width: 128 }, 0, PEER(1)).unwrap();
        assert_eq!(prefixes.lookup(Bits { value: u128::MAX, width: 128 }), Some(PEER(1)));
    }

    proptest! {
        #[test]
        fn lookups_agree_with_trying_every_prefix(
            routes in vec((any::<u32>(), 0..=32u8), 0..40), addrs in vec(any::<u32>(), 20),
        ) {
            // Few distinct high bits, so that prefixes and addresses meet.
            let squeeze = |n: u32| Bits { value: u128::from(n & 0xc000_0003), width: 32 };
            let mut prefixes = Prefixes::default();
            let mut list = Vec::new();
            for (owner, (network, len)) in routes.into_iter().enumerate() {
                let owner = PEER(owner as u32);
                if prefixes.insert(squeeze(network), len, owner).is_ok() {
                    list.push((squeeze(network).prefix(len), len, owner));
                }
            }
            for addr in addrs.into_iter().map(squeeze) {
                let holding = list.iter().filter(|(prefix, len, _)| addr.prefix(*len) == *prefix);
                let expected = holding.max_by_key(|(_, len, _)| *len).map(|(_, _, owner)| *owner);
                prop_assert_eq!(prefixes.lookup(addr), expected);
            }
        }
    }
}
