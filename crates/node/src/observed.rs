//! What relays saw us as (server-reflexive candidates of RFC 8445): one address per relay, transport and family.
//!
//! An address is of use for a punch only if the connection it was seen on leaves from our listen port. The first
//! connection to a relay does. A further one beside it cannot, because TCP has the pair of addresses and ports in use
//! already, and libp2p takes another port without a word. So the oldest open connection is the one that counts. Once the
//! host has moved, every older connection counts less than any newer one.

use std::collections::{BTreeMap, VecDeque};

use peerup_path::{Group, group};
use peerup_types::{Multiaddr, PathId, PeerId};

/// Connections to one relay of one kind; there is one, and another while it is replaced.
const MAX_CONNECTIONS: usize = 4;

#[derive(Debug)]
struct Seen {
    path: PathId,
    address: Multiaddr,
    /// Seen before the host moved.
    stale: bool,
}

#[derive(Debug, Default)]
pub struct Observed {
    /// Oldest first.
    seen: BTreeMap<(PeerId, Group), VecDeque<Seen>>,
}

impl Observed {
    /// Takes what `relay` saw on `path`; `true` when that changes the address that counts.
    pub fn add(&mut self, relay: PeerId, path: PathId, address: &Multiaddr) -> bool {
        let Some(group) = group(address) else { return false };
        let seen = self.seen.entry((relay, group)).or_default();
        let before = counting(seen).cloned();
        match seen.iter_mut().find(|seen| seen.path == path) {
            Some(known) => (known.address, known.stale) = (address.clone(), false),
            None => {
                if seen.len() == MAX_CONNECTIONS {
                    seen.pop_front();
                }
                seen.push_back(Seen { path, address: address.clone(), stale: false });
            }
        }
        counting(seen) != before.as_ref()
    }

    /// The last one stays until another replaces it: a mapping outlives a connection for a while.
    pub fn closed(&mut self, path: PathId) {
        for seen in self.seen.values_mut() {
            if seen.len() > 1 {
                seen.retain(|seen| seen.path != path);
            } else if let Some(last) = seen.back_mut().filter(|seen| seen.path == path) {
                last.stale = true;
            }
        }
    }

    pub fn moved(&mut self) {
        self.seen.values_mut().flatten().for_each(|seen| seen.stale = true);
    }

    pub fn forget(&mut self, relay: &PeerId) {
        self.seen.retain(|(of, _), _| of != relay);
    }

    pub fn iter(&self) -> impl Iterator<Item = (Group, &Multiaddr)> + Clone {
        self.seen.iter().filter_map(|((_, group), seen)| Some((*group, counting(seen)?)))
    }

    pub fn addresses(&self) -> impl Iterator<Item = &Multiaddr> + Clone {
        self.iter().map(|(_, address)| address)
    }
}

fn counting(seen: &VecDeque<Seen>) -> Option<&Multiaddr> {
    seen.iter().find(|seen| !seen.stale).or_else(|| seen.back()).map(|seen| &seen.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "/ip4/198.51.100.7/tcp/14001";
    const SECOND: &str = "/ip4/198.51.100.7/tcp/15001";

    fn add(observed: &mut Observed, relay: PeerId, path: u64, address: &str) -> bool {
        observed.add(relay, PathId(path), &address.parse().unwrap())
    }

    fn addresses(observed: &Observed) -> Vec<String> {
        observed.addresses().map(ToString::to_string).collect()
    }

    #[test]
    fn a_second_connection_beside_the_first_leaves_from_another_port_and_tells_nothing() {
        let (mut observed, relay) = (Observed::default(), PeerId::random());
        assert!(add(&mut observed, relay, 1, FIRST));
        assert!(!add(&mut observed, relay, 2, SECOND));
        assert_eq!(addresses(&observed), [FIRST]);
        observed.closed(PathId(1));
        assert_eq!(addresses(&observed), [SECOND]);
    }

    #[test]
    fn a_mapping_that_moves_under_a_connection_replaces_the_older_one() {
        let (mut observed, relay) = (Observed::default(), PeerId::random());
        add(&mut observed, relay, 1, FIRST);
        assert!(add(&mut observed, relay, 1, SECOND));
        assert!(!add(&mut observed, relay, 1, SECOND));
        assert_eq!(addresses(&observed), [SECOND]);
        observed.forget(&relay);
        assert_eq!(addresses(&observed), [] as [&str; 0]);
    }

    #[test]
    fn a_connection_made_after_the_host_moved_counts_although_the_old_one_is_open() {
        let (mut observed, relay) = (Observed::default(), PeerId::random());
        add(&mut observed, relay, 1, FIRST);
        observed.moved();
        assert_eq!(addresses(&observed), [FIRST]);
        assert!(add(&mut observed, relay, 2, SECOND));
        assert_eq!(addresses(&observed), [SECOND]);
    }

    #[test]
    fn the_address_of_a_lost_connection_is_offered_until_the_next_one() {
        let (mut observed, relay) = (Observed::default(), PeerId::random());
        add(&mut observed, relay, 1, FIRST);
        observed.closed(PathId(1));
        assert_eq!(addresses(&observed), [FIRST]);
        assert!(add(&mut observed, relay, 2, SECOND));
        assert_eq!(addresses(&observed), [SECOND]);
    }
}
