//! Dials take turns: only so many at once, relays first.
//!
//! A dial of an address that does not answer costs packets for seconds, and many at once fill the tables of home routers
//! and look like a scan. So there is one cap for the whole node, whatever its peers want. What waits too long is
//! dropped: a punch has its moment, and whoever wanted the dial asks again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use peerup_path::Role;
use peerup_types::{Multiaddr, PeerId};

use crate::action::Action;

/// Dials under way at once (RFC 8305 and the complaints about other overlays suggest a small number; half of them
/// are mostly circuits, which are over in a round trip).
pub const MAX_DIALS: usize = 16;
/// Dials that wait: every candidate of a few dozen peers.
const MAX_WAITING: usize = 512;
/// A dial whose end was not reported is over by now: transports give up sooner.
const LONGEST: Duration = Duration::from_secs(12);
/// A direct dial that waited this long is not what was wanted any more.
const STALE: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Without a relay there are neither circuits nor punches.
    Relay,
    Circuit,
    Direct,
}

#[derive(Debug, Clone)]
pub struct Dial {
    pub peer: PeerId,
    pub addresses: Vec<Multiaddr>,
    pub role: Role,
}

#[derive(Debug, Default)]
pub struct Dials {
    waiting: BTreeMap<(Urgency, u64), (Dial, Option<Instant>)>,
    under_way: Vec<(Dial, Instant)>,
    next: u64,
    most: usize,
}

impl Dials {
    pub fn ask(&mut self, dial: Dial, urgency: Urgency) {
        let same = |other: &Dial| other.peer == dial.peer && other.addresses == dial.addresses;
        if self.waiting.len() >= MAX_WAITING || self.waiting.values().any(|(other, _)| same(other)) {
            return;
        }
        self.next += 1;
        self.waiting.insert((urgency, self.next), (dial, None));
    }

    /// Starts what may start.
    pub fn start(&mut self, now: Instant) -> Vec<Action> {
        self.under_way.retain(|(_, since)| *since + LONGEST > now);
        self.waiting.retain(|(urgency, _), (_, since)| {
            let waited = now.saturating_duration_since(*since.get_or_insert(now));
            *urgency != Urgency::Direct || waited < STALE
        });
        let mut started = Vec::new();
        while self.under_way.len() < MAX_DIALS
            && let Some((_, (dial, _))) = self.waiting.pop_first()
        {
            let Dial { peer, addresses, role } = dial.clone();
            started.push(Action::Dial { peer, addresses, role });
            self.under_way.push((dial, now));
        }
        self.most = self.most.max(self.under_way.len());
        started
    }

    /// A dial of `peer` succeeded or failed: the one of these addresses, or else the oldest.
    pub fn ended(&mut self, peer: &PeerId, addresses: &[Multiaddr]) {
        let exact = |(dial, _): &(Dial, Instant)| dial.peer == *peer && dial.addresses == addresses;
        let some = |(dial, _): &(Dial, Instant)| dial.peer == *peer;
        let found = self.under_way.iter().position(exact).or_else(|| self.under_way.iter().position(some));
        if let Some(index) = found {
            self.under_way.remove(index);
        }
    }

    /// Who is not `known` any more is not dialed.
    pub fn retain(&mut self, known: impl Fn(&PeerId) -> bool) {
        self.waiting.retain(|_, (dial, _)| known(&dial.peer));
    }

    /// Room is made by the end of a dial, or by time where the end is not reported.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let oldest = self.under_way.iter().map(|(_, since)| *since + LONGEST).min();
        oldest.filter(|_| !self.waiting.is_empty())
    }

    pub fn most(&self) -> usize {
        self.most
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;

    fn dial(peer: PeerId, port: u16) -> Dial {
        let address = format!("/ip4/192.0.2.1/udp/{port}/quic-v1").parse().unwrap();
        Dial { peer, addresses: vec![address], role: Role::Dialer }
    }

    #[test]
    fn only_so_many_dials_are_under_way_and_each_end_makes_room_for_one() {
        let (mut dials, peer, now) = (Dials::default(), PeerId::random(), Instant::now());
        (1..100).for_each(|port| dials.ask(dial(peer, port), Urgency::Direct));
        assert_eq!(dials.start(now).len(), MAX_DIALS);
        assert_eq!(dials.start(now).len(), 0);
        dials.ended(&peer, &dial(peer, 3).addresses);
        assert_eq!(dials.start(now).len(), 1);
        assert_eq!(dials.most(), MAX_DIALS);
    }

    #[test]
    fn relays_and_circuits_go_before_direct_dials() {
        let (mut dials, peer, now) = (Dials::default(), PeerId::random(), Instant::now());
        (1..=20).for_each(|port| dials.ask(dial(peer, port), Urgency::Direct));
        dials.ask(dial(peer, 100), Urgency::Circuit);
        dials.ask(dial(peer, 200), Urgency::Relay);
        let ports: Vec<String> = dials
            .start(now)
            .iter()
            .map(|action| match action {
                Action::Dial { addresses, .. } => addresses[0].to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(ports[0].contains("/200/") && ports[1].contains("/100/"), "{ports:?}");
    }

    #[test]
    fn dials_whose_end_is_never_reported_do_not_block_for_ever() {
        let (mut dials, peer, now) = (Dials::default(), PeerId::random(), Instant::now());
        (1..=16).for_each(|port| dials.ask(dial(peer, port), Urgency::Direct));
        dials.start(now);
        dials.ask(dial(peer, 100), Urgency::Circuit);
        assert_eq!(dials.poll_timeout(), Some(now + LONGEST));
        assert_eq!(dials.start(now + LONGEST).len(), 1);
    }

    #[test]
    fn a_direct_dial_that_waited_too_long_is_dropped() {
        let (mut dials, peer, now) = (Dials::default(), PeerId::random(), Instant::now());
        (1..=17).for_each(|port| dials.ask(dial(peer, port), Urgency::Direct));
        dials.start(now);
        dials.ended(&peer, &dial(peer, 1).addresses);
        assert_eq!(dials.start(now + STALE).len(), 0);
    }
}
