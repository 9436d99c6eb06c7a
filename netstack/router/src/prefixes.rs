//! Longest prefix match, made once and then only asked.
//!
//! Prefixes are flattened into ranges that do not overlap, sorted by their first address, each with the owner of the
//! longest prefix that holds it. A lookup is then the search for the last range that begins at or before the address,
//! whatever lengths there are. Ranges are indexed as a level-compressed trie does it (Nilsson, Karlsson 1999): a node divides
//! what lies between its first and its last range into about as many slots of equal width as it has ranges, so that a slot
//! mostly holds one or two. A slot that holds many has a node of its own.
//!
//! `n` prefixes make at most `2n + 1` ranges, a node at most twice as many slots as it has ranges, and nodes lie at most
//! [`DEEPEST`] deep; what is dense below that is searched by halving. No hashing: the same prefixes make the same structure
//! in every process, and nobody can choose addresses that are slow.

use std::collections::{BTreeMap, btree_map::Entry};
use std::fmt::Debug;

use crate::table::PeerIndex;

/// Ranges in one slot that are not worth a node.
const FEW: usize = 8;
/// Levels of nodes.
const DEEPEST: usize = 4;
/// No node.
const LEAF: u32 = u32::MAX;

/// An address as a number.
pub(crate) trait Number: Copy + Ord + Debug {
    const ZERO: Self;
    const BITS: u8;

    /// The first number behind a prefix of `len` bits; `None` behind the last one.
    fn behind(self, len: u8) -> Option<Self>;

    /// How many steps of `1 << shift` after `first` this lies.
    fn steps(self, first: Self, shift: u8) -> usize;

    /// The smallest shift for which this is less than `1 << bits` steps after `first`.
    fn shift(self, first: Self, bits: u32) -> u8;
}

macro_rules! number {
    ($type:ty) => {
        impl Number for $type {
            const ZERO: Self = 0;
            const BITS: u8 = <$type>::BITS as u8;

            fn behind(self, len: u8) -> Option<Self> {
                let size = <$type>::checked_shl(1, (<Self as Number>::BITS - len).into())?;
                self.checked_add(size)
            }

            fn steps(self, first: Self, shift: u8) -> usize {
                usize::try_from((self - first) >> shift).unwrap_or(usize::MAX)
            }

            fn shift(self, first: Self, bits: u32) -> u8 {
                (<$type>::BITS - (self - first).leading_zeros()).saturating_sub(bits) as u8
            }
        }
    };
}

number!(u32);
number!(u128);

/// Prefixes while they are collected: each has one owner.
#[derive(Debug, Clone)]
pub(crate) struct Collected<N>(BTreeMap<(N, u8), PeerIndex>);

impl<N: Number> Collected<N> {
    pub(crate) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds a prefix, `network` without host bits; if somebody has exactly this one, nothing changes and the owner is
    /// returned.
    pub(crate) fn insert(&mut self, network: N, len: u8, owner: PeerIndex) -> Result<(), PeerIndex> {
        match self.0.entry((network, len)) {
            Entry::Occupied(taken) => Err(*taken.get()),
            Entry::Vacant(vacant) => {
                vacant.insert(owner);
                Ok(())
            }
        }
    }
}

/// From `first` until the next range begins, addresses belong to `owner`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range<N> {
    first: N,
    owner: Option<PeerIndex>,
    /// They were given out one by one.
    host: bool,
}

#[derive(Debug, Clone)]
struct Node<N> {
    /// Where its first range begins.
    first: N,
    /// A slot is `1 << shift` wide.
    shift: u8,
    /// Behind the last one stands where the ranges end.
    slots: Vec<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The first range that begins in this slot or behind it.
    range: u32,
    /// The node of this slot's ranges.
    node: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Prefixes<N> {
    /// The first begins at zero.
    ranges: Vec<Range<N>>,
    /// The last is the root.
    nodes: Vec<Node<N>>,
}

impl<N: Number> Prefixes<N> {
    pub(crate) fn new(collected: Collected<N>) -> Self {
        let mut this = Self { ranges: flatten(collected), nodes: Vec::new() };
        this.divide(0, this.ranges.len(), 1);
        this
    }

    /// The owner of the longest prefix that holds the address.
    pub(crate) fn lookup(&self, addr: N) -> Option<PeerIndex> {
        self.range(addr).owner
    }

    /// The owner of the address itself, whatever prefixes are around it.
    pub(crate) fn lookup_host(&self, addr: N) -> Option<PeerIndex> {
        let range = self.range(addr);
        range.owner.filter(|_| range.host)
    }

    fn range(&self, addr: N) -> &Range<N> {
        let mut at = self.nodes.len() - 1;
        loop {
            let node = &self.nodes[at];
            let last = node.slots.len() - 2;
            let slot_at = addr.steps(node.first, node.shift).min(last);
            let Slot { range, node: below } = node.slots[slot_at];
            if below != LEAF && self.nodes[below as usize].first <= addr {
                at = below as usize;
                continue;
            }
            // Before the first range of a slot the last one of an earlier slot goes on.
            let end = if below == LEAF { node.slots[slot_at + 1].range } else { range };
            let inside = &self.ranges[range as usize..end as usize];
            return &self.ranges[range as usize + inside.partition_point(|inside| inside.first <= addr) - 1];
        }
    }

    /// Makes a node of `ranges[start..end]` and returns its number.
    fn divide(&mut self, start: usize, end: usize, depth: usize) -> u32 {
        let (first, last) = (self.ranges[start].first, self.ranges[end - 1].first);
        let shift = last.shift(first, (end - start).ilog2() + 1);
        let mut slots = Vec::with_capacity(last.steps(first, shift) + 2);
        let mut at = start;
        for step in 0..=last.steps(first, shift) {
            let inside =
                self.ranges[at..end].partition_point(|range| range.first.steps(first, shift) <= step);
            let dense = inside > FEW && shift > 0 && depth < DEEPEST;
            let node = if dense { self.divide(at, at + inside, depth + 1) } else { LEAF };
            slots.push(Slot { range: at as u32, node });
            at += inside;
        }
        slots.push(Slot { range: end as u32, node: LEAF });
        self.nodes.push(Node { first, shift, slots });
        (self.nodes.len() - 1) as u32
    }
}

/// Ranges without overlaps, without gaps, and no two neighbours alike.
fn flatten<N: Number>(collected: Collected<N>) -> Vec<Range<N>> {
    let mut ranges = vec![Range { first: N::ZERO, owner: None, host: false }];
    // The prefixes around the current one, with where they end. A shorter one sorts before those inside it.
    let mut around: Vec<(Option<N>, PeerIndex)> = Vec::new();
    for ((network, len), owner) in collected.0 {
        leave(&mut ranges, &mut around, |behind| behind <= network);
        push(&mut ranges, Range { first: network, owner: Some(owner), host: len == N::BITS });
        around.push((network.behind(len), owner));
    }
    leave(&mut ranges, &mut around, |_| true);
    ranges
}

/// Goes on with what is around the prefixes that end.
fn leave<N: Number>(
    ranges: &mut Vec<Range<N>>,
    around: &mut Vec<(Option<N>, PeerIndex)>,
    ends: impl Fn(N) -> bool,
) {
    while let Some((Some(behind), _)) = around.pop_if(|(behind, _)| behind.is_some_and(&ends)) {
        let owner = around.last().map(|(_, owner)| *owner);
        push(ranges, Range { first: behind, owner, host: false });
    }
}

fn push<N: Number>(ranges: &mut Vec<Range<N>>, range: Range<N>) {
    ranges.pop_if(|last| last.first == range.first);
    if ranges.last().is_none_or(|last| (last.owner, last.host) != (range.owner, range.host)) {
        ranges.push(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    const PEER: fn(u32) -> PeerIndex = PeerIndex::new;

    fn v4(a: [u8; 4]) -> u32 {
        u32::from_be_bytes(a)
    }

    fn prefixes<N: Number>(routes: impl IntoIterator<Item = (N, u8, u32)>) -> Prefixes<N> {
        let mut collected = Collected::new();
        for (network, len, owner) in routes {
            collected.insert(network, len, PEER(owner)).unwrap();
        }
        Prefixes::new(collected)
    }

    #[test]
    fn the_longest_prefix_wins_whatever_the_order_of_insertion() {
        let mut routes =
            [([10, 64, 0, 7], 32, 1), ([10, 64, 0, 0], 24, 2), ([10, 0, 0, 0], 8, 3), ([0; 4], 0, 4)];
        for _ in 0..routes.len() {
            routes.rotate_left(1);
            let prefixes = prefixes(routes.map(|(network, len, owner)| (v4(network), len, owner)));
            for (addr, owner) in
                [([10, 64, 0, 7], 1), ([10, 64, 0, 8], 2), ([10, 65, 0, 8], 3), ([11, 0, 0, 1], 4)]
            {
                assert_eq!(prefixes.lookup(v4(addr)), Some(PEER(owner)));
            }
        }
    }

    #[test]
    fn a_prefix_has_one_owner() {
        let mut collected = Collected::new();
        collected.insert(v4([10, 0, 0, 0]), 8, PEER(1)).unwrap();
        assert_eq!(collected.insert(v4([10, 0, 0, 0]), 8, PEER(2)), Err(PEER(1)));
        collected.insert(v4([10, 0, 0, 0]), 9, PEER(2)).unwrap();
        assert_eq!(Prefixes::new(collected).lookup(v4([10, 129, 1, 1])), Some(PEER(1)));
    }

    #[test]
    fn a_host_lookup_ignores_prefixes_around_the_address() {
        let prefixes =
            prefixes([(v4([10, 0, 0, 0]), 8, 1), (v4([10, 0, 0, 7]), 32, 2), (v4([10, 0, 0, 8]), 32, 2)]);
        assert_eq!(prefixes.lookup_host(v4([10, 0, 0, 0])), None);
        for host in [7, 8] {
            assert_eq!(prefixes.lookup_host(v4([10, 0, 0, host])), Some(PEER(2)));
        }
        assert_eq!(prefixes.lookup_host(v4([10, 0, 0, 9])), None);
        assert_eq!(prefixes.lookup(v4([10, 0, 0, 9])), Some(PEER(1)));
    }

    #[test]
    fn nothing_and_everything() {
        for addr in [0, 1, u128::MAX] {
            assert_eq!(prefixes::<u128>([]).lookup(addr), None);
            assert_eq!(prefixes([(0u128, 0, 1)]).lookup(addr), Some(PEER(1)));
            let ends = prefixes([(0u128, 128, 1), (u128::MAX, 128, 2)]);
            let owner = [(0, PEER(1)), (u128::MAX, PEER(2))].into_iter().find(|(host, _)| *host == addr);
            assert_eq!(ends.lookup(addr), owner.map(|(_, owner)| owner));
        }
    }

    /// Half of all prefixes in half of what is left, again and again: a trie that divides evenly finds nothing to divide.
    #[test]
    fn dense_corners_are_found_and_memory_stays_in_proportion() {
        let routes: Vec<_> = (0..128u8).flat_map(|len| (0..40u128).map(move |n| (len, n))).collect();
        let corners: BTreeMap<u128, u32> = routes
            .iter()
            .map(|(len, n)| ((1u128 << 127 >> len).wrapping_add(n.wrapping_mul(7)), u32::from(*len)))
            .collect();
        let prefixes = prefixes(corners.iter().map(|(addr, owner)| (*addr, 128, *owner)));
        for (addr, owner) in &corners {
            assert_eq!(prefixes.lookup_host(*addr), Some(PEER(*owner)));
            assert!(corners.contains_key(&(addr + 1)) || prefixes.lookup(addr + 1).is_none());
        }
        let slots: usize = prefixes.nodes.iter().map(|node| node.slots.len()).sum();
        assert!(slots <= prefixes.ranges.len() * 2 * DEEPEST, "{slots} of {}", prefixes.ranges.len());
    }

    /// Addresses and networks from few distinct bits, so that they meet.
    fn agree<N: Number + proptest::arbitrary::Arbitrary>(
        routes: &[(N, u8)],
        addrs: &[N],
        within: impl Fn(N, N, u8) -> bool,
        trim: impl Fn(N, u8) -> N,
    ) -> Result<(), TestCaseError> {
        let (mut collected, mut list) = (Collected::new(), Vec::new());
        for (owner, (network, len)) in routes.iter().enumerate() {
            let (network, owner) = (trim(*network, *len), PEER(owner as u32));
            if collected.insert(network, *len, owner).is_ok() {
                list.push((network, *len, owner));
            }
        }
        let prefixes = Prefixes::new(collected);
        let borders = list.iter().flat_map(|(network, len, _)| [Some(*network), network.behind(*len)]);
        for addr in addrs.iter().copied().chain(borders.flatten()) {
            let holding = list.iter().filter(|(network, len, _)| within(addr, *network, *len));
            let longest = holding.max_by_key(|(_, len, _)| *len);
            prop_assert_eq!(prefixes.lookup(addr), longest.map(|(_, _, owner)| *owner));
            let host = longest.filter(|(_, len, _)| *len == N::BITS).map(|(_, _, owner)| *owner);
            prop_assert_eq!(prefixes.lookup_host(addr), host);
        }
        Ok(())
    }

    fn network4(addr: u32, len: u8) -> u32 {
        addr & u32::MAX.checked_shl((32 - len).into()).unwrap_or(0)
    }

    fn network6(addr: u128, len: u8) -> u128 {
        addr & u128::MAX.checked_shl((128 - len).into()).unwrap_or(0)
    }

    proptest! {
        #[test]
        fn lookups_agree_with_trying_every_prefix(
            routes in vec((any::<u32>(), 0..=32u8), 0..60), addrs in vec(any::<u32>(), 20), mask in any::<u32>(),
        ) {
            let routes: Vec<_> = routes.into_iter().map(|(network, len)| (network & mask, len)).collect();
            let addrs: Vec<_> = addrs.into_iter().map(|addr| addr & mask).collect();
            agree(&routes, &addrs, |addr, network, len| network4(addr, len) == network, network4)?;
        }

        #[test]
        fn lookups_of_ipv6_agree_with_trying_every_prefix(
            routes in vec((any::<u128>(), 0..=128u8), 0..60), addrs in vec(any::<u128>(), 20), mask in any::<u128>(),
        ) {
            let routes: Vec<_> = routes.into_iter().map(|(network, len)| (network & mask, len)).collect();
            let addrs: Vec<_> = addrs.into_iter().map(|addr| addr & mask).collect();
            agree(&routes, &addrs, |addr, network, len| network6(addr, len) == network, network6)?;
        }

        #[test]
        fn many_hosts_in_a_small_range_agree_too(
            hosts in vec(0..2000u32, 100..600), addrs in vec(0..2100u32, 50), base in any::<u32>(),
        ) {
            let base = base.min(u32::MAX - 3000);
            let routes: Vec<_> = hosts.into_iter().map(|host| (base + host, 32)).collect();
            let addrs: Vec<_> = addrs.into_iter().map(|addr| base + addr).collect();
            agree(&routes, &addrs, |addr, network, len| network4(addr, len) == network, network4)?;
        }
    }
}
