//! Members that relay for other members, and our reservations with them (docs/adr/0046).
//!
//! A member says in its hello, and again when that changes, at which addresses it relays. We reserve with the first
//! [`KEPT`] of them to which we have a direct path, in the order of their peer IDs: members that know the same relays
//! thus choose the same ones and meet there. libp2p makes reservations on direct connections only, so this machine
//! never dials; reaching a member is the business of its path machine, and a peer relay that nobody can reach directly
//! is none. Asking again after a refusal or a loss is: libp2p does not.
//!
//! A member whose own offer names an address of the internet is reached without help and reserves nowhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use peerup_path::dialable;
use peerup_types::{Multiaddr, PathId, PeerId};
use peerup_wire::MAX_RELAY_ADDRS;

use crate::addresses::is_global;

/// Reservations kept with peers: one at work, one that stands by.
const KEPT: usize = 2;
/// First and longest wait after a refusal or a loss. A relay that refuses for lack of room has room when somebody
/// leaves, which nobody announces.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// A request that is answered later than this was lost.
const ANSWER_DEADLINE: Duration = Duration::from_secs(12);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Requested { until: Instant },
    Held,
    Waiting { until: Instant },
}

#[derive(Debug, Default)]
pub(crate) struct PeerRelays {
    /// Where members relay; one that does not has no entry.
    offers: BTreeMap<PeerId, Vec<Multiaddr>>,
    /// Direct paths on which hellos were exchanged.
    direct: BTreeMap<PathId, PeerId>,
    reservations: BTreeMap<PeerId, State>,
    /// Refusals and losses in a row.
    failures: BTreeMap<PeerId, u32>,
    own: Vec<Multiaddr>,
}

impl PeerRelays {
    /// Where we relay ourselves.
    pub(crate) fn own(&self) -> &[Multiaddr] {
        &self.own
    }

    /// `true` when it is news.
    pub(crate) fn set_own(&mut self, mut addresses: Vec<Multiaddr>) -> bool {
        addresses.truncate(MAX_RELAY_ADDRS);
        let news = self.own != addresses;
        self.own = addresses;
        news
    }

    /// Takes what a member offers; the addresses that are news come back.
    pub(crate) fn handle_offer(&mut self, peer: PeerId, offered: &[Multiaddr]) -> Vec<Multiaddr> {
        let offered: Vec<Multiaddr> =
            offered.iter().filter(|address| dialable(address)).take(MAX_RELAY_ADDRS).cloned().collect();
        if offered.is_empty() {
            self.offers.remove(&peer);
            return Vec::new();
        }
        let before = self.offers.insert(peer, offered.clone()).unwrap_or_default();
        offered.into_iter().filter(|address| !before.contains(address)).collect()
    }

    pub(crate) fn retain_members(&mut self, is_member: impl Fn(&PeerId) -> bool) {
        self.offers.retain(|peer, _| is_member(peer));
        self.reservations.retain(|peer, _| is_member(peer));
        self.failures.retain(|peer, _| is_member(peer));
        self.direct.retain(|_, peer| is_member(peer));
    }

    pub(crate) fn handle_direct(&mut self, peer: PeerId, path: PathId) {
        self.direct.insert(path, peer);
    }

    /// The peer comes back when this was the last direct path to it.
    pub(crate) fn handle_closed(&mut self, path: PathId) -> Option<PeerId> {
        let peer = self.direct.remove(&path)?;
        (!self.direct.values().any(|other| *other == peer)).then_some(peer)
    }

    /// `true` when the reservation is new.
    pub(crate) fn handle_reserved(&mut self, relay: PeerId) -> bool {
        self.failures.remove(&relay);
        self.reservations.insert(relay, State::Held) != Some(State::Held)
    }

    /// The reservation or the request for it is gone; `true` when it was held.
    pub(crate) fn handle_lost(&mut self, relay: PeerId, now: Instant) -> bool {
        let failures = self.failures.entry(relay).or_default();
        let wait = FIRST_RETRY.saturating_mul(1 << (*failures).min(8)).min(LONGEST_RETRY);
        *failures += 1;
        self.reservations.insert(relay, State::Waiting { until: now + wait }) == Some(State::Held)
    }

    /// The requests to make at this moment. `taken` are relays that somebody else looks after.
    pub(crate) fn requests(
        &mut self,
        taken: impl Fn(&PeerId) -> bool,
        now: Instant,
    ) -> Vec<(PeerId, Multiaddr)> {
        self.reservations.retain(|_, state| match state {
            State::Requested { until } | State::Waiting { until } => *until > now,
            State::Held => true,
        });
        if self.own.iter().any(is_global) {
            return Vec::new();
        }
        let busy = |state: &&State| !matches!(state, State::Waiting { .. });
        let room = KEPT.saturating_sub(self.reservations.values().filter(busy).count());
        let connected: BTreeSet<&PeerId> = self.direct.values().collect();
        let free = |relay: &PeerId| connected.contains(relay) && !self.reservations.contains_key(relay);
        let wanted: Vec<(PeerId, Multiaddr)> = self
            .offers
            .iter()
            .filter(|(relay, _)| free(relay) && !taken(relay))
            .filter_map(|(relay, addresses)| Some((*relay, addresses.first()?.clone())))
            .take(room)
            .collect();
        let until = now + ANSWER_DEADLINE;
        self.reservations.extend(wanted.iter().map(|(relay, _)| (*relay, State::Requested { until })));
        wanted
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.reservations.values().filter_map(|state| match state {
            State::Requested { until } | State::Waiting { until } => Some(*until),
            State::Held => None,
        });
        due.min()
    }

    pub(crate) fn is_held(&self, relay: &PeerId) -> bool {
        self.reservations.get(relay) == Some(&State::Held)
    }

    pub(crate) fn offers(&self, peer: &PeerId) -> bool {
        self.offers.contains_key(peer)
    }

    /// Where a peer relays, as it said last; nothing where it does not.
    pub(crate) fn offer_of(&self, peer: &PeerId) -> &[Multiaddr] {
        self.offers.get(peer).map(Vec::as_slice).unwrap_or_default()
    }

    /// Peers that relay and to which there is a direct path, those with a reservation of ours first.
    pub(crate) fn usable(&self) -> Vec<(PeerId, &Multiaddr)> {
        let connected: BTreeSet<&PeerId> = self.direct.values().collect();
        let mut usable: Vec<_> = self
            .offers
            .iter()
            .filter(|(relay, _)| connected.contains(relay) || self.is_held(relay))
            .filter_map(|(relay, addresses)| Some((*relay, addresses.first()?)))
            .collect();
        usable.sort_by_key(|(relay, _)| !self.is_held(relay));
        usable
    }

    /// Peers with which a reservation is held.
    pub(crate) fn held(&self) -> impl Iterator<Item = (PeerId, &[Multiaddr])> {
        let held = self.reservations.iter().filter(|(_, state)| **state == State::Held);
        held.map(|(relay, _)| (*relay, self.offer_of(relay)))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;

    const NOBODY: fn(&PeerId) -> bool = |_| false;

    #[test]
    fn two_connected_peer_relays_are_asked_in_the_order_of_their_ids() {
        let (mut relays, ids, now) = offering(4);
        // The first one is known by hearsay only.
        for (path, id) in ids.iter().enumerate().skip(1) {
            relays.handle_direct(*id, PathId(path as u64));
        }
        assert_eq!(asked(&mut relays, now), ids[1..3]);
        assert_eq!(asked(&mut relays, now), []);
        assert!(relays.handle_reserved(ids[1]) && !relays.handle_reserved(ids[1]));
        let usable: Vec<PeerId> = relays.usable().into_iter().map(|(id, _)| id).collect();
        assert_eq!(usable, [ids[1], ids[2], ids[3]]);
    }

    #[test]
    fn one_that_refuses_makes_room_for_the_next_and_is_asked_again_later() {
        let (mut relays, ids, now) = offering(3);
        ids.iter().enumerate().for_each(|(path, id)| relays.handle_direct(*id, PathId(path as u64)));
        assert_eq!(asked(&mut relays, now), ids[..2]);
        assert!(!relays.handle_lost(ids[0], now));
        assert_eq!(asked(&mut relays, now), [ids[2]]);
        assert!(!relays.handle_lost(ids[2], now));
        assert_eq!(asked(&mut relays, now), []);
        let due = relays.poll_timeout().unwrap();
        assert_eq!(due, now + FIRST_RETRY);
        assert_eq!(asked(&mut relays, due), [ids[0]]);
        for _ in 0..20 {
            relays.handle_lost(ids[0], due);
        }
        relays.handle_reserved(ids[1]);
        relays.handle_reserved(ids[2]);
        assert_eq!(relays.poll_timeout(), Some(due + LONGEST_RETRY));
    }

    #[test]
    fn a_request_without_an_answer_is_made_again() {
        let (mut relays, ids, now) = offering(1);
        relays.handle_direct(ids[0], PathId(1));
        assert_eq!(asked(&mut relays, now), ids);
        assert_eq!(relays.poll_timeout(), Some(now + ANSWER_DEADLINE));
        assert_eq!(asked(&mut relays, now + ANSWER_DEADLINE), ids);
    }

    #[test]
    fn who_is_reachable_reserves_nowhere_and_who_is_only_on_the_lan_does() {
        let (mut relays, ids, now) = offering(1);
        relays.handle_direct(ids[0], PathId(1));
        assert!(relays.set_own(vec![addr("/ip4/203.0.113.9/tcp/4001")]));
        assert_eq!(asked(&mut relays, now), []);
        assert!(relays.set_own(vec![addr("/ip4/192.168.1.9/tcp/4001")]));
        assert_eq!(asked(&mut relays, now), ids);
    }

    #[test]
    fn an_offer_is_capped_and_checked_and_can_be_withdrawn() {
        let (mut relays, peer) = (PeerRelays::default(), PeerId::random());
        let good = addr("/ip4/192.0.2.1/tcp/4001");
        let offered = [addr("/ip4/127.0.0.1/tcp/1"), good.clone()];
        assert_eq!(relays.handle_offer(peer, &offered), offered[1..]);
        assert_eq!(relays.handle_offer(peer, std::slice::from_ref(&good)), []);
        let many: Vec<Multiaddr> = (1..100).map(|port| addr(&format!("/ip4/192.0.2.1/tcp/{port}"))).collect();
        assert_eq!(relays.handle_offer(peer, &many).len(), MAX_RELAY_ADDRS);
        relays.handle_offer(peer, &[]);
        assert!(!relays.offers(&peer));
    }

    fn offering(count: usize) -> (PeerRelays, Vec<PeerId>, Instant) {
        let mut ids: Vec<PeerId> = (0..count).map(|_| PeerId::random()).collect();
        ids.sort();
        let mut relays = PeerRelays::default();
        for id in &ids {
            relays.handle_offer(*id, &[addr("/ip4/203.0.113.1/udp/4001/quic-v1")]);
        }
        (relays, ids, Instant::now())
    }

    fn asked(relays: &mut PeerRelays, now: Instant) -> Vec<PeerId> {
        relays.requests(NOBODY, now).into_iter().map(|(relay, _)| relay).collect()
    }

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }
}
