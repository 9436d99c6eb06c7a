//! Reaching a peer that is out of reach, and keeping a relayed path at hand.

use std::time::Duration;

use peerup_types::{Multiaddr, PeerId, Protocol};

use super::{MAX_CIRCUITS, Machine, READY_DEADLINE, dial::kind};
use crate::{
    action::Role,
    candidate::{MAX_CANDIDATES, dialable, group},
    moment::Moment,
    schedule::Backoff,
};

/// First and longest wait between attempts to reach a peer that is not there.
const FIRST: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(60);
/// A packet for an absent peer starts an attempt at once, but not more often than this.
const WANTED_SPACING: Duration = Duration::from_secs(1);
/// Somebody is still waiting for the answer to a packet of so long ago.
const WANTED_FOR: Duration = Duration::from_secs(3);
/// The side with the larger peer ID starts attempts that no packet waits for this much later, so that mostly one side
/// dials.
const POLITENESS: Duration = Duration::from_millis(500);
/// A relayed path beside a direct one is a precaution: it comes after everything urgent, and the side with the larger
/// peer ID leaves it to the other for longer.
const STANDBY_AFTER: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];
const STANDBY_FIRST: Duration = Duration::from_secs(5);
const STANDBY_CAP: Duration = Duration::from_secs(300);
/// For a peer without traffic it is not asked for for ever: a relay that has no reservation of the peer mostly never gets
/// one, and each question costs six packets.
const STANDBY_WHILE_IDLE: u32 = 3;

pub fn backoff() -> Backoff<Moment> {
    let mut reach = Backoff::new(FIRST, CAP);
    reach.hasten(Moment::default());
    reach
}

pub fn standby_backoff() -> Backoff<Moment> {
    Backoff::new(STANDBY_FIRST, STANDBY_CAP)
}

impl Machine {
    /// A packet for the peer found no path.
    pub(super) fn wanted(&mut self, now: Moment) {
        self.wanted_at = Some(now);
        let spaced = self.last_reach.is_none_or(|at| at + WANTED_SPACING <= now);
        if self.active.is_none() && spaced {
            self.reach.hasten(now);
        }
    }

    /// The relays through which the peer may be reached changed.
    pub(super) fn set_circuits(&mut self, mut circuits: Vec<Multiaddr>, now: Moment) {
        circuits.truncate(MAX_CIRCUITS);
        let known = std::mem::replace(&mut self.circuits, circuits.clone());
        circuits.retain(|circuit| !known.contains(circuit));
        if circuits.is_empty() || self.has_direct() {
            return;
        }
        match self.active {
            None => {
                let awaited = self.wanted_at.is_some_and(|at| now.since(at) < WANTED_FOR);
                let wait = if self.first || awaited { Duration::ZERO } else { POLITENESS };
                self.reach.hasten(now + wait);
            }
            // A better relay than the one in use, or one to fall back to.
            // The peer may get its own reservation there a moment later, so one attempt is not enough.
            Some(_) => {
                circuits.into_iter().for_each(|circuit| self.dial(circuit, Role::Dialer, now));
                self.standby.hasten(now + STANDBY_AFTER[usize::from(!self.first)]);
            }
        }
    }

    /// Circuits through relays that no path leads through: the peer may have got its reservation there meanwhile.
    pub(super) fn dial_missing_circuits(&mut self, now: Moment) {
        self.missing_circuits().into_iter().for_each(|circuit| self.dial(circuit, Role::Dialer, now));
    }

    fn missing_circuits(&self) -> Vec<Multiaddr> {
        let used = |relay: PeerId| self.paths.values().any(|path| path.opened.relay == Some(relay));
        let missing = |circuit: &&Multiaddr| relay_of(circuit).is_some_and(|relay| !used(relay));
        self.circuits.iter().filter(missing).cloned().collect()
    }

    /// A direct address of the peer became known (multicast DNS, configuration).
    pub(super) fn address(&mut self, address: Multiaddr, now: Moment) {
        if !dialable(&address) || self.direct.contains(&address) {
            return;
        }
        self.remember(address.clone());
        let missing = group(&address).is_some_and(|group| self.is_missing(kind(group)));
        if missing || !self.has_direct() {
            if self.active.is_none() {
                self.last_reach = Some(now);
                self.connecting_until = Some(now + READY_DEADLINE);
            }
            let wait = if self.first { Duration::ZERO } else { POLITENESS };
            self.plan(vec![address], Role::Dialer, now + wait);
        }
    }

    pub(super) fn remember(&mut self, address: Multiaddr) {
        self.direct.retain(|known| *known != address);
        if self.direct.len() >= MAX_CANDIDATES {
            self.direct.pop_front();
        }
        self.direct.push_back(address);
    }

    pub(super) fn reach_out(&mut self, now: Moment) {
        self.last_reach = Some(now);
        self.connecting_until = Some(now + READY_DEADLINE);
        self.reach.attempted(now, &mut self.dice);
        for circuit in self.circuits.clone() {
            self.dial(circuit, Role::Dialer, now);
        }
        self.plan(self.direct.iter().cloned().collect(), Role::Dialer, now);
    }

    /// The peer went away and said so.
    pub(super) fn reach_later(&mut self, now: Moment) {
        self.reach.rest();
        self.reach.postpone(now + FIRST * 5);
        self.last_reach = Some(now);
        self.connecting_until = None;
    }

    /// While a direct path is in use a relayed one is kept beside it, so that there is something to move to at once. A
    /// relayed peer is asked for through every relay: one may be better, or be there when the other goes.
    pub(super) fn tend_standby(&mut self, now: Moment) {
        let relayed = self.paths.values().any(|path| !path.is_direct() && path.retiring.is_none());
        let wanted = match (self.active, self.has_direct()) {
            (None, _) => false,
            (Some(_), true) => !relayed && !self.circuits.is_empty(),
            (Some(_), false) => !self.missing_circuits().is_empty(),
        };
        if !wanted {
            self.standby.rest();
        } else if self.standby.due().is_none() {
            self.standby.hasten(now + STANDBY_AFTER[usize::from(!self.first)]);
        }
    }

    /// When to ask for it next.
    pub(super) fn standby_due(&self) -> Option<Moment> {
        let worth =
            !self.has_direct() || self.idle_at.is_some() || self.standby.attempts() < STANDBY_WHILE_IDLE;
        self.standby.due().filter(|_| worth)
    }

    pub(super) fn dial_standby(&mut self, now: Moment) {
        let turn = self.standby.attempts() as usize % self.circuits.len().max(1);
        self.standby.attempted(now, &mut self.dice);
        if !self.has_direct() {
            return self.dial_missing_circuits(now);
        }
        if let Some(circuit) = self.circuits.get(turn).cloned() {
            self.dial(circuit, Role::Dialer, now);
        }
    }
}

/// The relay of a circuit address.
fn relay_of(circuit: &Multiaddr) -> Option<PeerId> {
    circuit.iter().take_while(|part| *part != Protocol::P2pCircuit).find_map(|part| match part {
        Protocol::P2p(relay) => Some(relay),
        _ => None,
    })
}
