//! Where peers were reached: the last good addresses, kept on disk between starts.
//!
//! An address enters the book only after a peer proved its identity there, so nobody else can put one in. It is a
//! hint all the same: the peer may have moved, and somebody else may answer, who then fails the handshake.

use std::collections::BTreeMap;

use peerup_types::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use crate::{Scope, endpoint, scope};

/// Seconds; a peer that was away for a longer holiday is found through a relay.
const KEPT_FOR: u64 = 30 * 24 * 3600;
/// Both transports and families, at home and elsewhere.
pub const MAX_PER_PEER: usize = 8;
const MAX_PEERS: usize = 1024;
/// Seconds between two entries of the same address: the file is not written for less.
const REFRESH: u64 = 6 * 3600;
const SCHEMA: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum BookError {
    #[error("not a list of addresses")]
    Syntax(#[source] serde_json::Error),
    #[error("schema {found} is newer than this peerup understands ({SCHEMA})")]
    Schema { found: u32 },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressBook {
    /// Newest first.
    peers: BTreeMap<PeerId, Vec<Entry>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    address: Multiaddr,
    /// Unix time of the last connection.
    at: u64,
}

#[derive(Serialize, Deserialize)]
struct File {
    schema: u32,
    peers: BTreeMap<String, Vec<Entry>>,
}

impl AddressBook {
    /// Reads what [`to_json`](Self::to_json) wrote. Entries that are too old, from the future, or no addresses of a
    /// host elsewhere are left out, and so is what is above the bounds.
    pub fn from_json(text: &str, unix_now: u64) -> Result<Self, BookError> {
        let File { schema, peers } = serde_json::from_str(text).map_err(BookError::Syntax)?;
        if schema > SCHEMA {
            return Err(BookError::Schema { found: schema });
        }
        let mut book = Self::default();
        for (peer, entries) in peers.into_iter().take(MAX_PEERS) {
            let Ok(peer) = peer.parse::<PeerId>() else { continue };
            let mut entries: Vec<Entry> =
                entries.into_iter().filter(|entry| entry.is_good(unix_now)).collect();
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.at));
            entries.truncate(MAX_PER_PEER);
            if !entries.is_empty() {
                book.peers.insert(peer, entries);
            }
        }
        Ok(book)
    }

    pub fn to_json(&self) -> String {
        let peers = self.peers.iter().map(|(peer, entries)| (peer.to_string(), entries.clone())).collect();
        let file = File { schema: SCHEMA, peers };
        serde_json::to_string_pretty(&file).expect("an address book has string keys only")
    }

    /// A peer proved its identity at `address`. Returns whether the file should be written.
    pub fn note(&mut self, peer: PeerId, address: &Multiaddr, unix_now: u64) -> bool {
        let entry = Entry { address: bare(address), at: unix_now };
        if !entry.is_good(unix_now) {
            return false;
        }
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer) {
            self.forget_oldest();
        }
        let entries = self.peers.entry(peer).or_default();
        let known = entries.iter().position(|known| known.address == entry.address);
        if known == Some(0) && unix_now < entries[0].at.saturating_add(REFRESH) {
            return false;
        }
        if let Some(known) = known {
            entries.remove(known);
        }
        entries.insert(0, entry);
        entries.truncate(MAX_PER_PEER);
        true
    }

    /// Newest first.
    pub fn addresses(&self, peer: &PeerId) -> impl Iterator<Item = &Multiaddr> {
        self.peers.get(peer).into_iter().flatten().map(|entry| &entry.address)
    }

    /// Forgets everybody who is no member any more. Returns whether the file should be written.
    pub fn retain(&mut self, is_member: impl Fn(&PeerId) -> bool) -> bool {
        let before = self.peers.len();
        self.peers.retain(|peer, _| is_member(peer));
        self.peers.len() != before
    }

    fn forget_oldest(&mut self) {
        let latest = |entries: &[Entry]| entries.first().map_or(0, |entry| entry.at);
        let oldest = self.peers.iter().min_by_key(|(_, entries)| latest(entries)).map(|(peer, _)| *peer);
        if let Some(oldest) = oldest {
            self.peers.remove(&oldest);
        }
    }
}

impl Entry {
    fn is_good(&self, unix_now: u64) -> bool {
        // A clock that was set back leaves entries from the future; a day is no harm.
        let fresh =
            self.at <= unix_now.saturating_add(24 * 3600) && unix_now < self.at.saturating_add(KEPT_FOR);
        fresh
            && endpoint(&self.address).is_some_and(|at| at.at.port() > 0 && scope(at.at.ip()) != Scope::Link)
    }
}

/// Without `/p2p/…`.
fn bare(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, peerup_types::Protocol::P2p(_))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn addr(host: u16, port: u16) -> Multiaddr {
        format!("/ip4/192.168.{}.{}/udp/{port}/quic-v1", host >> 8, host & 255).parse().unwrap()
    }

    #[test]
    fn what_was_noted_is_read_again_newest_first() {
        let (mut book, peer) = (AddressBook::default(), PeerId::random());
        assert!(book.note(peer, &addr(1, 4001), NOW));
        assert!(book.note(peer, &addr(2, 4001), NOW + 1));
        let again = AddressBook::from_json(&book.to_json(), NOW + 2).unwrap();
        assert_eq!(again, book);
        assert_eq!(again.addresses(&peer).collect::<Vec<_>>(), [&addr(2, 4001), &addr(1, 4001)]);
    }

    #[test]
    fn thirty_days_later_an_address_is_forgotten() {
        let (mut book, peer) = (AddressBook::default(), PeerId::random());
        book.note(peer, &addr(1, 4001), NOW);
        let read = |at| AddressBook::from_json(&book.to_json(), at).unwrap().addresses(&peer).count();
        assert_eq!((read(NOW + KEPT_FOR - 1), read(NOW + KEPT_FOR)), (1, 0));
        assert_eq!(read(NOW - 3 * 24 * 3600), 0, "from the future");
    }

    #[test]
    fn the_same_address_is_written_again_only_after_hours() {
        let (mut book, peer) = (AddressBook::default(), PeerId::random());
        assert!(book.note(peer, &addr(1, 4001), NOW));
        assert!(!book.note(peer, &addr(1, 4001), NOW + REFRESH - 1));
        assert!(book.note(peer, &addr(1, 4001), NOW + REFRESH));
        assert_eq!(book.addresses(&peer).count(), 1);
    }

    #[test]
    fn only_addresses_of_a_host_elsewhere_are_kept_and_few_per_peer() {
        let (mut book, peer) = (AddressBook::default(), PeerId::random());
        for bad in
            ["/ip4/127.0.0.1/tcp/1", "/ip4/192.0.2.1/tcp/0", "/dns4/example.org/tcp/1", "/ip6/fe80::1/tcp/1"]
        {
            assert!(!book.note(peer, &bad.parse().unwrap(), NOW), "{bad}");
        }
        for port in 1..100 {
            book.note(peer, &addr(1, port), NOW);
        }
        assert_eq!(book.addresses(&peer).count(), MAX_PER_PEER);
        assert_eq!(book.addresses(&peer).next(), Some(&addr(1, 99)));
        assert!(book.retain(|_| false));
        assert_eq!(book, AddressBook::default());
    }

    #[test]
    fn a_full_book_forgets_whoever_was_met_longest_ago() {
        let mut book = AddressBook::default();
        let first = PeerId::random();
        book.note(first, &addr(1, 1), NOW);
        for n in 0..MAX_PEERS as u64 {
            book.note(PeerId::random(), &addr(1, 1), NOW + 1 + n);
        }
        assert_eq!((book.peers.len(), book.addresses(&first).count()), (MAX_PEERS, 0));
    }

    #[test]
    fn a_newer_schema_is_not_guessed_at() {
        let error = AddressBook::from_json(r#"{"schema":2,"peers":{}}"#, NOW).unwrap_err();
        assert!(matches!(error, BookError::Schema { found: 2 }));
        assert!(matches!(AddressBook::from_json("", NOW), Err(BookError::Syntax(_))));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,300}", now in any::<u64>()) {
            let _ = AddressBook::from_json(&text, now);
        }

        #[test]
        fn a_book_of_any_addresses_reads_back_within_its_bounds(ports in prop::collection::vec(any::<u16>(), 0..40)) {
            let (mut book, peer) = (AddressBook::default(), PeerId::random());
            for (n, port) in ports.iter().enumerate() {
                book.note(peer, &addr(*port, *port), NOW + n as u64);
            }
            let again = AddressBook::from_json(&book.to_json(), NOW + 40).unwrap();
            prop_assert!(again.addresses(&peer).count() <= MAX_PER_PEER);
            prop_assert_eq!(again, book);
        }
    }
}
