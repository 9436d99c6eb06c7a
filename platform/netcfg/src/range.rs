//! Is a range of addresses free on this host, and if not, which one is?

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::NetworkError;

/// Where a free range is looked for, in this order: parts of the private ranges (RFC 1918, RFC 6598) that home
/// routers, container engines and other overlays use least. They leave out the lower half of 100.64.0.0/10, where
/// Tailscale starts, and 172.16.0.0/14, where Docker does.
const CANDIDATES: [(Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(10, 64, 0, 0), 10),
    (Ipv4Addr::new(100, 96, 0, 0), 11),
    (Ipv4Addr::new(172, 20, 0, 0), 14),
];

/// The host uses part of the range for something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{range} intersects {owner}")]
pub struct RangeConflict {
    pub range: Ipv4Net,
    /// `eth0 10.64.3.0/24`, or `route 10.0.0.0/8 via 192.168.1.1 dev eth0`.
    pub owner: String,
    /// A range of the same size that nothing uses, if there is one.
    pub free: Option<Ipv4Net>,
}

impl RangeConflict {
    pub fn hint(&self) -> String {
        match self.free {
            Some(free) => format!("use a free range instead: vpn.cidr: {free} (the same on every machine)"),
            None => "choose another vpn.cidr (the same on every machine)".into(),
        }
    }
}

/// The range is not free, or it cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    #[error(transparent)]
    Conflict(#[from] RangeConflict),
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// A prefix that the host uses, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Occupied {
    pub(crate) prefix: Ipv4Net,
    pub(crate) owner: String,
}

pub(crate) fn check(range: Ipv4Net, occupied: &[Occupied]) -> Result<(), RangeConflict> {
    let Some(owner) = occupied.iter().find(|used| intersect(used.prefix, range)) else { return Ok(()) };
    let prefixes: Vec<_> = occupied.iter().map(|used| used.prefix).collect();
    Err(RangeConflict { range, owner: owner.owner.clone(), free: free_range(&prefixes, range.prefix_len()) })
}

/// The first private range of `prefix_len` bits that intersects none of `occupied`.
pub fn free_range(occupied: &[Ipv4Net], prefix_len: u8) -> Option<Ipv4Net> {
    let size = 32u8.checked_sub(prefix_len).map(|bits| 1u64 << bits)?;
    CANDIDATES.into_iter().find_map(|(base, len)| {
        let start = u64::from(u32::from(base));
        free_within(start, start + (1 << (32 - len)), size, occupied)
    })
}

/// Walks `start..end` in steps of `size`, from each occupied range straight to its end: as many steps as there
/// are occupied ranges, not as there are candidates.
fn free_within(start: u64, end: u64, size: u64, occupied: &[Ipv4Net]) -> Option<Ipv4Net> {
    let mut candidate = start;
    while candidate + size <= end {
        let range = net(candidate, size);
        match occupied.iter().find(|used| intersect(**used, range)) {
            Some(used) => candidate = (u64::from(u32::from(used.broadcast())) + 1).next_multiple_of(size),
            None => return Some(range),
        }
    }
    None
}

fn net(start: u64, size: u64) -> Ipv4Net {
    let start = u32::try_from(start).expect("candidates lie inside the IPv4 address space");
    let prefix_len = u8::try_from(32 - size.trailing_zeros()).expect("a size is a power of two up to 2^32");
    Ipv4Net::new(start.into(), prefix_len).expect("a prefix length is at most 32")
}

/// Prefixes are nested or apart.
fn intersect(left: Ipv4Net, right: Ipv4Net) -> bool {
    left.contains(&right) || right.contains(&left)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn on_an_empty_host_the_default_range_is_free() {
        assert_eq!(free_range(&[], 16), Some(range("10.64.0.0/16")));
        assert_eq!(check(range("10.64.0.0/16"), &[]), Ok(()));
    }

    #[test]
    fn a_conflict_names_the_owner_and_the_next_free_range_of_the_same_size() {
        let lan = Occupied { prefix: range("10.64.3.0/24"), owner: "eth0 10.64.3.0/24".into() };
        let conflict = check(range("10.64.0.0/16"), std::slice::from_ref(&lan)).unwrap_err();
        assert_eq!(conflict.free, Some(range("10.65.0.0/16")));
        assert_eq!(conflict.to_string(), "10.64.0.0/16 intersects eth0 10.64.3.0/24");
        assert!(conflict.hint().contains("vpn.cidr: 10.65.0.0/16"));
        assert_eq!(check(range("10.65.0.0/16"), &[lan]), Ok(()));
    }

    #[test]
    fn a_company_that_uses_all_of_ten_leaves_the_carrier_range() {
        assert_eq!(free_range(&[range("10.0.0.0/8")], 16), Some(range("100.96.0.0/16")));
        assert_eq!(
            free_range(&[range("10.0.0.0/8"), range("100.64.0.0/10")], 16),
            Some(range("172.20.0.0/16"))
        );
        let all = [range("10.0.0.0/8"), range("100.64.0.0/10"), range("172.16.0.0/12")];
        assert_eq!(free_range(&all, 16), None);
    }

    #[test]
    fn sizes_that_do_not_fit_anywhere_have_no_answer() {
        assert_eq!(free_range(&[], 9), None);
        assert_eq!(free_range(&[], 0), None);
        assert_eq!(free_range(&[], 33), None);
        assert_eq!(free_range(&[], 32), Some(range("10.64.0.0/32")));
    }

    proptest! {
        #[test]
        fn what_is_proposed_is_free_private_and_of_the_size_asked_for(
            occupied in proptest::collection::vec(prefixes(), 0..40),
            prefix_len in 0u8..=33,
        ) {
            if let Some(free) = free_range(&occupied, prefix_len) {
                prop_assert_eq!(free.prefix_len(), prefix_len);
                prop_assert_eq!(free.trunc(), free);
                prop_assert!(occupied.iter().all(|used| !intersect(*used, free)));
                let candidates = ["10.64.0.0/10", "100.96.0.0/11", "172.20.0.0/14"].map(range);
                prop_assert!(candidates.iter().any(|candidate| candidate.contains(&free)));
            }
        }

        #[test]
        fn no_free_range_means_that_every_candidate_is_taken(
            occupied in proptest::collection::vec(prefixes(), 0..12),
            prefix_len in 14u8..=18,
        ) {
            if free_range(&occupied, prefix_len).is_none() {
                let candidates = ["10.64.0.0/10", "100.96.0.0/11", "172.20.0.0/14"].map(range);
                for subnet in candidates.iter().flat_map(|candidate| candidate.subnets(prefix_len).unwrap()) {
                    prop_assert!(occupied.iter().any(|used| intersect(*used, subnet)), "{} is free", subnet);
                }
            }
        }
    }

    /// Prefixes that often fall into the candidates, and often cover all of them.
    fn prefixes() -> impl Strategy<Value = Ipv4Net> {
        let base = prop_oneof![
            (64u8..128, any::<u8>()).prop_map(|(b, c)| Ipv4Addr::new(10, b, c, 0)),
            (96u8..128, any::<u8>()).prop_map(|(b, c)| Ipv4Addr::new(100, b, c, 0)),
            (16u8..32, any::<u8>()).prop_map(|(b, c)| Ipv4Addr::new(172, b, c, 0)),
            any::<Ipv4Addr>(),
        ];
        (base, 8u8..=32).prop_map(|(address, len)| Ipv4Net::new(address, len).unwrap().trunc())
    }

    fn range(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }
}
