//! Longest prefix match, made once and then only asked.
//!
//! Prefixes are flattened into ranges, sorted by their first address: one for each prefix, from its network to where the
//! next range begins. A range says how long its prefix is, whose it is, and whose the addresses are that lie behind the
//! prefix. So a prefix that has none inside it needs no second range for its end; one that is around others needs it.
//! A lookup is then the search for the last range that begins at or before the address, whatever lengths there are.
//!
//! Ranges are indexed as a level-compressed trie does it (Nilsson, Karlsson 1999): a node divides what lies between its
//! first and its last range into slots of equal width, between a quarter as many as it has ranges and as many, so that a
//! slot mostly holds few. A slot that holds more has a node of its own.
//!
//! What takes the time is the cache: a lookup waits for a slot and then for its ranges, each at a random place. Hence
//! slots of four bytes, and ranges with everything about them in one place, without the padding of a number of 16 bytes.
//! Few ranges are compared all at once: how many begin before the address is not to be foreseen, so that a loop would
//! mostly go on wrongly.
//!
//! `n` prefixes make at most `2n + 1` ranges, a node at most two slots more than it has ranges, and nodes lie at most
//! [`DEEPEST`] deep; what is dense below that is searched by halving. No hashing: the same prefixes make the same
//! structure in every process, and nobody can choose addresses that are slow.

use std::collections::{BTreeMap, btree_map::Entry};
use std::fmt::Debug;

use crate::table::PeerIndex;

/// Ranges in one slot that are not worth a node. As measured: with fewer there are more nodes on the way, with more a
/// lookup reads more than it needs.
const FEW: usize = 6;
/// Levels of nodes.
const DEEPEST: usize = 4;
/// Marks the number of a node where else that of a range stands.
const NODE: u32 = 1 << 31;

/// An address as a number.
pub(crate) trait Number: Copy + Ord + Debug {
    /// As it stands in a range: 16 bytes that may begin at any multiple of eight.
    type Parts: Copy + Debug;

    const ZERO: Self;
    const MAX: Self;
    const BITS: u8;

    fn parts(self) -> Self::Parts;
    fn of(parts: Self::Parts) -> Self;

    /// The first number behind a prefix of `len` bits; `None` behind the last one.
    fn behind(self, len: u8) -> Option<Self>;

    /// Whether the first `len` bits of both are the same.
    fn shares(self, other: Self, len: u8) -> bool;

    /// How many steps of `1 << shift` after `first` this lies.
    fn steps(self, first: Self, shift: u8) -> usize;

    /// The smallest shift for which this is less than `1 << bits` steps after `first`.
    fn shift(self, first: Self, bits: u32) -> u8;
}

macro_rules! number {
    ($type:ty, $parts:ty, $into:expr, $from:expr) => {
        impl Number for $type {
            type Parts = $parts;

            const ZERO: Self = 0;
            const MAX: Self = <$type>::MAX;
            const BITS: u8 = <$type>::BITS as u8;

            fn parts(self) -> Self::Parts {
                $into(self)
            }

            fn of(parts: Self::Parts) -> Self {
                $from(parts)
            }

            fn behind(self, len: u8) -> Option<Self> {
                let size = <$type>::checked_shl(1, (<Self as Number>::BITS - len).into())?;
                self.checked_add(size)
            }

            fn shares(self, other: Self, len: u8) -> bool {
                (self ^ other).leading_zeros() >= len.into()
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

number!(u32, u32, |number| number, |number| number);
number!(u128, [u64; 2], |number| [(number >> 64) as u64, number as u64], |[high, low]: [u64; 2]| {
    u128::from(high) << 64 | u128::from(low)
});

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

/// What is known of the addresses from `first` until the next range begins.
#[derive(Debug, Clone, Copy)]
struct Range<N: Number> {
    first: N::Parts,
    /// Those that have so many bits in common with `first` belong to `inside`, the others to `around`.
    len: u8,
    inside: Option<PeerIndex>,
    around: Option<PeerIndex>,
}

impl<N: Number> Range<N> {
    fn first(&self) -> N {
        N::of(self.first)
    }

    /// Cold makes this a branch, which is foreseen: who waits for the owner does not wait for the comparison too.
    #[cold]
    fn around(&self) -> Option<PeerIndex> {
        self.around
    }
}

#[derive(Debug, Clone)]
struct Node<N> {
    /// Where its first range begins.
    first: N,
    /// A slot is `1 << shift` wide.
    shift: u8,
    /// The slot of what lies before `first`; the others follow.
    slots: u32,
    /// How many follow. The last is that of what lies behind the others.
    follow: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Prefixes<N: Number> {
    /// The first begins at zero. That of the very last address stands behind them, so that [`FEW`] can be read from
    /// everywhere.
    ranges: Vec<Range<N>>,
    /// Those of all nodes. Each has its node, or the first range that begins in it or behind it.
    slots: Vec<u32>,
    /// The last is the root.
    nodes: Vec<Node<N>>,
}

impl<N: Number> Prefixes<N> {
    pub(crate) fn new(collected: Collected<N>) -> Self {
        let mut ranges = flatten(collected);
        let count = ranges.len() - 1;
        ranges.extend([ranges[count]; FEW - 1]);
        let mut this = Self { ranges, slots: Vec::new(), nodes: Vec::new() };
        // What lies before the first prefix would make all slots wider.
        this.divide(1.min(count - 1), count, 1);
        this
    }

    /// The owner of the longest prefix that holds the address.
    pub(crate) fn lookup(&self, addr: N) -> Option<PeerIndex> {
        let range = self.range(addr);
        if addr.shares(range.first(), range.len) { range.inside } else { range.around() }
    }

    /// The owner of the address itself, whatever prefixes are around it.
    pub(crate) fn lookup_host(&self, addr: N) -> Option<PeerIndex> {
        let range = self.range(addr);
        if range.first() == addr && range.len == N::BITS { range.inside } else { None }
    }

    fn range(&self, addr: N) -> &Range<N> {
        let mut node = &self.nodes[self.nodes.len() - 1];
        loop {
            let slot = self.slots[node.slot(addr)];
            if slot & NODE != 0 {
                node = &self.nodes[(slot & !NODE) as usize];
                continue;
            }
            let start = slot as usize;
            let few: &[_; FEW] =
                self.ranges[start..].first_chunk().expect("the very last address stands there often enough");
            // Those of later slots begin behind the address.
            let begun = few.iter().map(|range| usize::from(range.first() <= addr)).sum();
            let begun = if begun < FEW { begun } else { self.begun(start, addr) };
            // Before the first range of a slot the last one of an earlier slot goes on.
            return &self.ranges[start + begun - 1];
        }
    }

    /// How many ranges from `start` on begin at or before the address; where they lie dense.
    #[cold]
    fn begun(&self, start: usize, addr: N) -> usize {
        let ranges = &self.ranges[start..];
        let mut reach = FEW;
        while ranges.get(reach).is_some_and(|range| range.first() <= addr) {
            reach *= 2;
        }
        ranges[..reach.min(ranges.len())].partition_point(|range| range.first() <= addr)
    }

    /// Makes a node of `ranges[start..end]` and returns its number.
    fn divide(&mut self, start: usize, end: usize, depth: usize) -> u32 {
        let (first, last) = (self.ranges[start].first(), self.ranges[end - 1].first());
        let shift = last.shift(first, (end - start).ilog2().max(1));
        let (slots, inner) = (self.slots.len(), last.steps(first, shift) + 1);
        self.slots.resize(slots + inner + 2, start as u32);
        let mut at = start;
        for step in 0..inner {
            let inside =
                self.ranges[at..end].partition_point(|range| range.first().steps(first, shift) <= step);
            let dense = inside > FEW && depth < DEEPEST;
            let slot = if dense { NODE | self.divide(at, at + inside, depth + 1) } else { at as u32 };
            self.slots[slots + 1 + step] = slot;
            at += inside;
        }
        self.slots[slots + 1 + inner] = end as u32;
        self.nodes.push(Node { first, shift, slots: slots as u32, follow: inner as u32 + 1 });
        (self.nodes.len() - 1) as u32
    }
}

impl<N: Number> Node<N> {
    fn slot(&self, addr: N) -> usize {
        let follow = self.follow as usize;
        let after =
            if addr < self.first { 0 } else { addr.steps(self.first, self.shift).min(follow - 1) + 1 };
        self.slots as usize + after
    }
}

/// A prefix that the current one lies in.
struct Outer<N> {
    /// Where it ends.
    behind: Option<N>,
    owner: PeerIndex,
}

/// Ranges without gaps, and once more that of the very last address.
fn flatten<N: Number>(collected: Collected<N>) -> Vec<Range<N>> {
    let mut ranges = vec![Range { first: N::ZERO.parts(), len: 0, inside: None, around: None }];
    // A shorter prefix sorts before those inside it.
    let mut outer: Vec<Outer<N>> = Vec::new();
    for ((network, len), owner) in collected.0 {
        leave(&mut ranges, &mut outer, |behind| behind <= network);
        let around = outer.last().map(|prefix| prefix.owner);
        push(&mut ranges, Range { first: network.parts(), len, inside: Some(owner), around });
        outer.push(Outer { behind: network.behind(len), owner });
    }
    leave(&mut ranges, &mut outer, |_| true);
    let owner = outer.last().map(|prefix| prefix.owner);
    let end = Range { first: N::MAX.parts(), len: 0, inside: owner, around: owner };
    ranges.push(ranges.last().filter(|last| last.first() == N::MAX).copied().unwrap_or(end));
    ranges
}

/// Goes on with what is around the prefixes that end, unless the last range says that already.
fn leave<N: Number>(ranges: &mut Vec<Range<N>>, outer: &mut Vec<Outer<N>>, ends: impl Fn(N) -> bool) {
    while let Some(prefix) = outer.pop_if(|prefix| prefix.behind.is_some_and(&ends)) {
        let owner = outer.last().map(|prefix| prefix.owner);
        if let Some(first) = prefix.behind
            && ranges.last().is_none_or(|last| last.around != owner)
        {
            push(ranges, Range { first: first.parts(), len: 0, inside: owner, around: owner });
        }
    }
}

fn push<N: Number>(ranges: &mut Vec<Range<N>>, range: Range<N>) {
    ranges.pop_if(|last| last.first() == range.first());
    ranges.push(range);
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
        let (ranges, slots) = (prefixes.ranges.len() - FEW, prefixes.slots.len());
        assert!(ranges <= 2 * corners.len() + 1, "{ranges} of {}", corners.len());
        assert!(slots <= ranges * 2 * DEEPEST, "{slots} of {ranges}");
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
            // Few, so that neighbours meet that have the same.
            let (network, owner) = (trim(*network, *len), PEER(owner as u32 % 7));
            if collected.insert(network, *len, owner).is_ok() {
                list.push((network, *len, owner));
            }
        }
        let prefixes = Prefixes::new(collected);
        let borders = list.iter().flat_map(|(network, len, _)| [Some(*network), network.behind(*len)]);
        for addr in addrs.iter().copied().chain(borders.flatten()).chain([N::ZERO, N::MAX]) {
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
