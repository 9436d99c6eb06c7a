//! Which of our addresses others have reached unasked.
//!
//! A peer that connects to us and tells in identify under which address it did so has proved that address, unless we
//! had opened our own NAT or firewall towards it. Of the filters of RFC 4787 §5 the common ones let in whatever comes
//! from an IP address that packets were sent to, from any of its ports, and a mapping lives as long as the
//! connection that keeps it open. So a connection counts only when we have not sent anything to that IP address over
//! the same transport for a while, and when no relayed path to the peer was open, over which the two of us (or stock
//! DCUtR) could have agreed to punch.
//!
//! What this process does not know of, such as mappings that an earlier one left behind, may still let a peer in. An
//! endpoint-dependent NAT ("symmetric") shows a different address to everybody, and a single peer could invent one.
//! Hence an address that is none of this host's own needs two witnesses: two peers, from two IP addresses.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use peerup_path::group;
use peerup_types::{Multiaddr, PathId, PeerId, Protocol};

/// Longer than common NATs and firewalls keep an unanswered flow (120 s for TCP, RFC 5382 REQ-5 allows 240 s).
const OPENED_FOR: Duration = Duration::from_secs(240);
/// A race dials a few addresses of each peer; older dials are forgotten first.
const MAX_PAST: usize = 512;
/// Inbound connections whose identify is awaited.
const MAX_PENDING: usize = 64;
const MAX_REACHED: usize = 16;
/// Addresses that one peer has named.
const MAX_NAMED: usize = 64;

/// What lets a peer in without its address being reachable for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// Packets of ours to this IP address.
    Sent { to: IpAddr, tcp: bool },
    /// A path on which a punch can be agreed upon.
    Relayed(PeerId),
}

/// A connection that came unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Witness {
    peer: PeerId,
    from: IpAddr,
}

#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// By the connection that keeps it open.
    open: BTreeMap<PathId, Opening>,
    past: VecDeque<(Instant, Opening)>,
    /// Dials that were decided since the time was told last.
    undated: Vec<Opening>,
    /// Connections that came unasked and have not been identified.
    pending: BTreeMap<PathId, (Witness, Multiaddr)>,
    named: VecDeque<(Multiaddr, Witness)>,
    addresses: Vec<Multiaddr>,
}

impl Reached {
    /// We send to these addresses, from about the next [`handle_time`](Self::handle_time) on.
    pub(crate) fn handle_dial<'a>(&mut self, addresses: impl IntoIterator<Item = &'a Multiaddr>) {
        self.undated.extend(addresses.into_iter().filter_map(sent));
        let excess = self.undated.len().saturating_sub(MAX_PAST);
        self.undated.drain(..excess);
    }

    pub(crate) fn handle_time(&mut self, now: Instant) {
        self.past.extend(self.undated.drain(..).map(|opening| (now, opening)));
        let excess = self.past.len().saturating_sub(MAX_PAST);
        self.past.drain(..excess);
    }

    /// A direct connection that we made.
    pub(crate) fn handle_outbound(&mut self, path: PathId, remote: &Multiaddr) {
        self.open.extend(sent(remote).map(|opening| (path, opening)));
    }

    /// A connection through a relay, whoever made it.
    pub(crate) fn handle_relayed(&mut self, path: PathId, peer: PeerId) {
        self.open.insert(path, Opening::Relayed(peer));
    }

    /// A direct inbound connection of a member from `remote`.
    pub(crate) fn handle_inbound(&mut self, path: PathId, peer: PeerId, remote: &Multiaddr, now: Instant) {
        self.handle_time(now);
        let Some(opening @ Opening::Sent { to: from, .. }) = sent(remote) else { return };
        if self.is_open(opening, now) || self.is_open(Opening::Relayed(peer), now) {
            self.open.insert(path, opening);
        } else if self.pending.len() < MAX_PENDING {
            self.pending.insert(path, (Witness { peer, from }, remote.clone()));
        }
    }

    /// The peer on `path` told which of our addresses it sees; `true` when that proves one more. `own` says whether an
    /// interface has this IP address.
    pub(crate) fn handle_identified(&mut self, path: PathId, observed: &Multiaddr, own: bool) -> bool {
        let Some((witness, remote)) = self.pending.remove(&path) else { return false };
        if group(observed).is_none() || group(observed) != group(&remote) {
            return false;
        }
        let observed = bare(observed);
        let proved =
            own || self.named.iter().any(|(named, other)| *named == observed && witness.confirms(other));
        if proved {
            return self.add(observed);
        }
        if !self.named.contains(&(observed.clone(), witness)) {
            self.named.push_back((observed, witness));
        }
        if self.named.len() > MAX_NAMED {
            self.named.pop_front();
        }
        false
    }

    /// An address that somebody else proved; `true` when it is news.
    pub(crate) fn add(&mut self, address: Multiaddr) -> bool {
        let address = bare(&address);
        if self.addresses.contains(&address) || self.addresses.len() >= MAX_REACHED {
            return false;
        }
        self.addresses.push(address);
        true
    }

    pub(crate) fn handle_closed(&mut self, path: PathId, now: Instant) {
        self.pending.remove(&path);
        if let Some(opening) = self.open.remove(&path) {
            self.past.push_back((now, opening));
            self.handle_time(now);
        }
    }

    /// The host is somewhere else.
    pub(crate) fn forget(&mut self) {
        self.addresses.clear();
        self.named.clear();
        self.pending.clear();
    }

    pub(crate) fn addresses(&self) -> &[Multiaddr] {
        &self.addresses
    }

    fn is_open(&self, opening: Opening, now: Instant) -> bool {
        let recent = |(at, past): &(Instant, Opening)| *past == opening && *at + OPENED_FOR > now;
        self.open.values().any(|open| *open == opening) || self.past.iter().any(recent)
    }
}

impl Witness {
    fn confirms(&self, other: &Self) -> bool {
        self.peer != other.peer && self.from != other.from
    }
}

/// IP address and transport, which is the least that a filter looks at.
fn sent(address: &Multiaddr) -> Option<Opening> {
    let tcp = group(address)?.is_tcp();
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(Opening::Sent { to: ip.into(), tcp }),
        Protocol::Ip6(ip) => Some(Opening::Sent { to: ip.into(), tcp }),
        _ => None,
    }
}

fn bare(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;

    const OWN: &str = "/ip4/203.0.113.9/udp/4001/quic-v1";
    const ANNA: &str = "/ip4/198.51.100.2/udp/5000/quic-v1";
    const BERT: &str = "/ip4/198.51.100.3/udp/5000/quic-v1";

    #[test]
    fn a_connection_that_came_unasked_proves_an_address_of_our_own() {
        let (mut reached, anna) = (Reached::default(), PeerId::random());
        reached.handle_inbound(PathId(1), anna, &addr(ANNA), Instant::now());
        assert!(reached.handle_identified(PathId(1), &addr(OWN), true));
        assert!(!reached.handle_identified(PathId(1), &addr(OWN), true), "once");
        assert_eq!(reached.addresses(), [addr(OWN)]);
        reached.forget();
        assert!(reached.addresses().is_empty());
    }

    #[test]
    fn the_address_of_a_router_needs_two_peers_from_two_places() {
        let (anna, bert, now) = (PeerId::random(), PeerId::random(), Instant::now());
        let seen = |reached: &mut Reached, path, peer, from: &str, observed: &str| {
            reached.handle_inbound(PathId(path), peer, &addr(from), now);
            reached.handle_identified(PathId(path), &addr(observed), false)
        };
        let mut alone = Reached::default();
        assert!(!seen(&mut alone, 1, anna, ANNA, OWN));
        assert!(!seen(&mut alone, 2, anna, BERT, OWN), "the same peer");
        let mut reached = Reached::default();
        assert!(!seen(&mut reached, 1, anna, ANNA, OWN));
        assert!(!seen(&mut reached, 2, bert, ANNA, OWN), "from the same place");
        // An endpoint-dependent NAT shows everybody another port.
        assert!(!seen(&mut reached, 4, bert, BERT, "/ip4/203.0.113.9/udp/4002/quic-v1"));
        assert!(seen(&mut reached, 5, bert, BERT, OWN));
    }

    #[test]
    fn a_connection_from_where_we_sent_to_proves_nothing_for_a_while_from_whatever_port() {
        let (mut reached, anna, now) = (Reached::default(), PeerId::random(), Instant::now());
        reached.handle_dial([&addr(ANNA), &addr("/ip4/198.51.100.3/tcp/1")]);
        let mut seen = |path, from: &str, now| {
            reached.handle_inbound(PathId(path), anna, &addr(from), now);
            reached.handle_identified(PathId(path), &addr(OWN), true)
        };
        assert!(!seen(1, ANNA, now));
        assert!(!seen(2, "/ip4/198.51.100.2/udp/5001/quic-v1", now));
        // Another transport has mappings of its own.
        assert!(seen(3, BERT, now));
    }

    #[test]
    fn a_mapping_lives_as_long_as_the_connection_that_keeps_it_open_and_a_while_longer() {
        let (mut reached, anna, start) = (Reached::default(), PeerId::random(), Instant::now());
        reached.handle_outbound(PathId(1), &addr(ANNA));
        let later = start + 10 * OPENED_FOR;
        let seen = |reached: &mut Reached, path, now| {
            reached.handle_inbound(PathId(path), anna, &addr(ANNA), now);
            let proved = reached.handle_identified(PathId(path), &addr(OWN), true);
            reached.handle_closed(PathId(path), now);
            proved
        };
        assert!(!seen(&mut reached, 2, later));
        reached.handle_closed(PathId(1), later);
        assert!(!seen(&mut reached, 3, later + OPENED_FOR / 2));
        assert!(seen(&mut reached, 4, later + OPENED_FOR * 3));
    }

    #[test]
    fn who_could_have_agreed_on_a_punch_proves_nothing() {
        let (mut reached, anna, now) = (Reached::default(), PeerId::random(), Instant::now());
        reached.handle_relayed(PathId(1), anna);
        reached.handle_inbound(PathId(2), anna, &addr(ANNA), now);
        assert!(!reached.handle_identified(PathId(2), &addr(OWN), true));
        reached.handle_closed(PathId(1), now);
        reached.handle_inbound(PathId(3), anna, &addr(ANNA), now);
        assert!(!reached.handle_identified(PathId(3), &addr(OWN), true));
    }

    #[test]
    fn what_a_peer_names_has_to_be_an_address_that_its_connection_can_have_come_to() {
        let (mut reached, anna) = (Reached::default(), PeerId::random());
        for (path, named) in ["/ip4/127.0.0.1/tcp/4001", "/ip4/203.0.113.9/tcp/4001"].into_iter().enumerate()
        {
            let path = PathId(path as u64);
            reached.handle_inbound(path, anna, &addr(ANNA), Instant::now());
            assert!(!reached.handle_identified(path, &addr(named), true), "{named}");
        }
        assert!(!reached.handle_identified(PathId(9), &addr(OWN), true), "nobody connected on this path");
    }

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }
}
