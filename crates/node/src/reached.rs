//! Which of our addresses others have reached unasked.
//!
//! A peer that connects to us and tells in identify under which address it did so has proved that address, unless we
//! had opened our own NAT or firewall towards it: RFC 4787 §5 filters let in what answers an outbound packet. So a
//! connection counts only when we did not dial the remote address a moment ago, and when no relayed path to the peer
//! was open, over which the two of us (or stock DCUtR) could have agreed to punch.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use peerup_path::dialable;
use peerup_types::{Multiaddr, PathId, Protocol};

/// Longer than common NATs and firewalls keep an unanswered flow (120 s for TCP, RFC 5382 REQ-5 allows 240 s).
const OPENED_FOR: Duration = Duration::from_secs(240);
/// A race dials a few addresses of each peer; older dials are forgotten first.
const MAX_DIALS: usize = 512;
/// Inbound connections whose identify is awaited.
const MAX_PENDING: usize = 64;
const MAX_REACHED: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Reached {
    dials: VecDeque<(Instant, Multiaddr)>,
    /// Dials that were decided since the time was told last.
    undated: Vec<Multiaddr>,
    /// Connections that came unasked and have not been identified.
    pending: BTreeSet<PathId>,
    addresses: Vec<Multiaddr>,
}

impl Reached {
    /// We send to these addresses, from about the next [`handle_time`](Self::handle_time) on.
    pub(crate) fn handle_dial<'a>(&mut self, addresses: impl IntoIterator<Item = &'a Multiaddr>) {
        self.undated.extend(addresses.into_iter().filter_map(endpoint));
        let excess = self.undated.len().saturating_sub(MAX_DIALS);
        self.undated.drain(..excess);
    }

    pub(crate) fn handle_time(&mut self, now: Instant) {
        self.dials.extend(self.undated.drain(..).map(|endpoint| (now, endpoint)));
        let excess = self.dials.len().saturating_sub(MAX_DIALS);
        self.dials.drain(..excess);
    }

    /// A direct inbound connection from `remote`.
    pub(crate) fn handle_inbound(&mut self, path: PathId, remote: &Multiaddr, now: Instant) {
        self.handle_time(now);
        let Some(remote) = endpoint(remote) else { return };
        let opened = |(at, dialed): &(Instant, Multiaddr)| *dialed == remote && *at + OPENED_FOR > now;
        if !self.dials.iter().any(opened) && self.pending.len() < MAX_PENDING {
            self.pending.insert(path);
        }
    }

    /// The peer on `path` told which of our addresses it sees; `true` when it proves one more.
    pub(crate) fn handle_identified(&mut self, path: PathId, observed: &Multiaddr) -> bool {
        let proves = self.pending.remove(&path) && dialable(observed);
        if proves {
            return self.add(observed.clone());
        }
        false
    }

    /// An address that somebody else proved; `true` when it is news.
    pub(crate) fn add(&mut self, address: Multiaddr) -> bool {
        let address = address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect();
        if self.addresses.contains(&address) || self.addresses.len() >= MAX_REACHED {
            return false;
        }
        self.addresses.push(address);
        true
    }

    pub(crate) fn handle_closed(&mut self, path: PathId) {
        self.pending.remove(&path);
    }

    /// The host is somewhere else.
    pub(crate) fn forget(&mut self) {
        self.addresses.clear();
        self.pending.clear();
    }

    pub(crate) fn addresses(&self) -> &[Multiaddr] {
        &self.addresses
    }
}

/// IP address and port, which is what a filter looks at.
fn endpoint(address: &Multiaddr) -> Option<Multiaddr> {
    dialable(address).then(|| address.iter().take(2).collect())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;

    const OWN: &str = "/ip4/203.0.113.9/udp/4001/quic-v1";
    const PEER: &str = "/ip4/198.51.100.2/udp/5000/quic-v1";

    #[test]
    fn a_connection_that_came_unasked_proves_the_address_that_its_peer_names() {
        let mut reached = Reached::default();
        reached.handle_inbound(PathId(1), &addr(PEER), Instant::now());
        assert!(reached.handle_identified(PathId(1), &addr(OWN)));
        assert!(!reached.handle_identified(PathId(1), &addr(OWN)), "once");
        assert_eq!(reached.addresses(), [addr(OWN)]);
        reached.forget();
        assert!(reached.addresses().is_empty());
    }

    #[test]
    fn a_connection_from_where_we_sent_to_proves_nothing_for_a_while() {
        let (mut reached, now) = (Reached::default(), Instant::now());
        reached.handle_dial([&addr(PEER), &addr("/ip4/198.51.100.3/tcp/1")]);
        reached.handle_inbound(PathId(1), &addr(PEER), now);
        assert!(!reached.handle_identified(PathId(1), &addr(OWN)));
        // Another port of the same host is another flow.
        reached.handle_inbound(PathId(2), &addr("/ip4/198.51.100.2/udp/5001/quic-v1"), now);
        assert!(reached.handle_identified(PathId(2), &addr(OWN)));
        reached.handle_inbound(PathId(3), &addr(PEER), now + OPENED_FOR);
        assert!(reached.handle_identified(PathId(3), &addr("/ip4/203.0.113.9/tcp/4001")));
    }

    #[test]
    fn what_a_peer_names_has_to_be_an_address() {
        let mut reached = Reached::default();
        reached.handle_inbound(PathId(1), &addr(PEER), Instant::now());
        assert!(!reached.handle_identified(PathId(1), &addr("/ip4/127.0.0.1/tcp/4001")));
        assert!(!reached.handle_identified(PathId(9), &addr(OWN)), "nobody connected on this path");
    }

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }
}
