//! Opening NATs from both sides: when to try, whom to dial, and when it is hopeless.
//!
//! Both sides exchange their addresses over the path that they have and dial at the same moment (RFC 5128 §3.3). The
//! addresses name the ports that observers saw. Where one side's NAT maps each destination to another port (RFC 4787
//! §4.1), that port is of no use, but the other side may guess the next one, because many NATs give ports in sequence;
//! a few guesses, a few times. Where both do, no guess can be right, and an attempt is made every ten minutes only,
//! because networks change.

use std::{collections::BTreeSet, time::Duration};

use peerup_types::{Multiaddr, NatMapping, PathId, Protocol};
use serde::{Deserialize, Serialize};

use super::{Machine, dial::is_private};
use crate::{
    action::{Action, Role},
    candidate::{Group, MAX_CANDIDATES, dialable, group},
    moment::Moment,
    schedule::{Backoff, DIAL_PATIENCE},
};

/// A punch costs both sides a few packets. The first follows the relayed path at once; NAT state and radio
/// conditions change, so attempts never end.
pub const FIRST: Duration = Duration::from_secs(2);
const CAP: Duration = Duration::from_secs(60);
/// Between attempts that cannot succeed unless the network changed unnoticed.
const HOPELESS: Duration = Duration::from_secs(600);
/// A punch that either side started a moment ago is given this time before another one.
pub const SPACING: Duration = Duration::from_secs(2);
/// Every request makes us dial what the peer names: once in a while is enough for an honest one. Less than what the peer
/// leaves between its requests, because they do not all travel equally long.
const ANSWER_SPACING: Duration = Duration::from_secs(1);
/// A request that comes this soon after our own, or within about a round trip, was sent before ours arrived. Less than
/// [`POLITENESS`], so that of two first requests one of which got lost the other is answered.
const CROSSING: Duration = Duration::from_millis(500);
/// An answer that is later than this would make us dial when the peer has given up.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// The side with the larger peer ID starts its scheduled attempts this much later, so that the other goes first.
const POLITENESS: Duration = Duration::from_millis(700);
/// Ports guessed in one attempt, and attempts with guesses. Each guess is a dial of a few packets.
const GUESSES: u16 = 6;
const GUESSING: u32 = 5;
/// A larger step between two observed ports is no sequence.
const LARGEST_STEP: u16 = 64;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Punching {
    pub backoff: Backoff<Moment>,
    pub last: Option<Moment>,
    /// Attempts since the last direct path or the last change of network.
    pub failures: u32,
    /// Numbers our requests.
    attempt: u32,
    /// The request whose answer is awaited; the first answer counts.
    awaited: Option<u32>,
    last_answered: Option<Moment>,
    /// Our part in TCP's simultaneous open, and when it was last played.
    role: Option<(Role, Moment)>,
    pub own: NatMapping,
    pub theirs: NatMapping,
    /// Attempts in which ports were guessed.
    guessed: u32,
    /// One attempt although there is a direct path: there may be a better one.
    pub anyway: bool,
}

impl Default for Punching {
    fn default() -> Self {
        Self {
            backoff: Backoff::new(FIRST, CAP),
            last: None,
            failures: 0,
            attempt: 0,
            awaited: None,
            last_answered: None,
            role: None,
            own: NatMapping::Unknown,
            theirs: NatMapping::Unknown,
            guessed: 0,
            anyway: false,
        }
    }
}

impl Punching {
    pub fn both_symmetric(&self) -> bool {
        self.own.is_symmetric() && self.theirs.is_symmetric()
    }

    pub fn gave_up_guessing(&self) -> bool {
        self.guesses_ports() && self.guessed >= GUESSING
    }

    pub fn is_hopeless(&self) -> bool {
        self.both_symmetric() || self.gave_up_guessing()
    }

    fn guesses_ports(&self) -> bool {
        self.theirs.is_symmetric() && !self.own.is_symmetric()
    }

    pub fn forget_failures(&mut self) {
        self.failures = 0;
        self.guessed = 0;
        self.last = None;
    }

    pub fn succeeded(&mut self) {
        self.backoff.rest();
        self.forget_failures();
    }

    /// Tries at `at`, or when it is time for another hopeless attempt.
    pub fn hasten(&mut self, at: Moment) {
        match self.last.filter(|_| self.is_hopeless()) {
            Some(last) => self.backoff.postpone(at.max(last + HOPELESS)),
            None => self.backoff.hasten(at),
        }
    }
}

impl Machine {
    pub(super) fn punch_after_ready(&mut self, now: Moment) {
        if !self.has_direct() {
            let wait = if self.first { Duration::ZERO } else { POLITENESS };
            self.punch.hasten(now + wait);
        }
    }

    /// We have a new address to offer.
    pub(super) fn new_candidate(&mut self, now: Moment) {
        if self.active.is_none() {
            return;
        }
        self.punch.anyway = !self.has_direct() || self.misses_something();
        if self.punch.anyway {
            self.punch.hasten(now);
        }
    }

    pub(super) fn mapping_changed(&mut self, now: Moment) {
        self.punch.guessed = 0;
        if self.active.is_some() && !self.has_direct() {
            self.punch.hasten(now);
        }
    }

    pub(super) fn request_punch(&mut self, now: Moment) {
        let needed = !self.has_direct() || self.punch.anyway;
        let Some(path) = self.active.filter(|_| needed) else { return self.punch.backoff.rest() };
        if let Some(recent) = self.punch.last.filter(|at| *at + SPACING > now) {
            self.punch.backoff.postpone(recent + SPACING);
            return;
        }
        self.punched(now);
        self.punch.attempt = self.punch.attempt.wrapping_add(1);
        self.punch.awaited = Some(self.punch.attempt);
        self.actions.push_back(Action::RequestPunch { path, attempt: self.punch.attempt });
        if !self.has_direct() {
            self.dial_missing_circuits(now);
        }
    }

    /// The peer asks to punch and offers its addresses: answer, and dial when the answer is there.
    ///
    /// Who asks is the dialer of TCP's simultaneous open. Where both ask at once both would answer and both listen, so the
    /// request of the side that goes first is the one that counts.
    pub(super) fn punch_requested(
        &mut self,
        path: PathId,
        attempt: u32,
        offered: &[Multiaddr],
        mapping: NatMapping,
        now: Moment,
    ) {
        // What is answered on a path that is not ready here gets lost, and then only one side has an attempt.
        let Some(relayed) = self.paths.get(&path).filter(|path| path.is_usable()) else { return };
        let rtt = relayed.live.rtt.smoothed().unwrap_or_default();
        let crossing = CROSSING.max(rtt * 3 / 2);
        let asked = self.punch.awaited.is_some() && self.punch.last.is_some_and(|at| at + crossing > now);
        if (asked && self.first) || self.punch.last_answered.is_some_and(|at| at + ANSWER_SPACING > now) {
            return;
        }
        self.punch.awaited = None;
        self.punch.last_answered = Some(now);
        let travel = rtt / 2;
        self.actions.push_back(Action::ReplyPunch { path, attempt });
        self.learn_mapping(mapping);
        self.punched(now);
        self.looked_further(now);
        let targets = self.targets(offered, now);
        let role = self.role(Role::Listener, now);
        self.plan(targets, role, now + travel);
    }

    /// The peer's answer to our punch request: dial at once, for the peer dials as this arrives.
    pub(super) fn punch_replied(
        &mut self,
        attempt: u32,
        offered: &[Multiaddr],
        mapping: NatMapping,
        now: Moment,
    ) {
        // An answer that nobody asked for would make us dial on the peer's schedule alone.
        let timely = self.punch.last.is_some_and(|at| at + ANSWERED_WITHIN >= now);
        if self.punch.awaited != Some(attempt) || !timely {
            return;
        }
        self.punch.awaited = None;
        self.learn_mapping(mapping);
        let targets = self.targets(offered, now);
        let role = self.role(Role::Dialer, now);
        self.plan(targets, role, now);
        if self.punch.is_hopeless() {
            self.punch.hasten(now);
        }
    }

    fn learn_mapping(&mut self, mapping: NatMapping) {
        if std::mem::replace(&mut self.punch.theirs, mapping) != mapping {
            self.punch.guessed = 0;
        }
    }

    fn punched(&mut self, now: Moment) {
        self.punch.last = Some(now);
        self.punch.anyway = false;
        if self.has_direct() {
            return self.punch.backoff.rest();
        }
        self.punch.failures = self.punch.failures.saturating_add(1);
        self.punch.backoff.attempted(now, &mut self.dice);
        if self.punch.is_hopeless() {
            self.punch.backoff.postpone(now + HOPELESS.mul_f64(self.dice.spread()));
        }
    }

    /// The part to play, which is `role` unless dials of an earlier attempt may still be under way: theirs are the parts
    /// that both sides know.
    fn role(&mut self, role: Role, now: Moment) -> Role {
        let kept = self.punch.role.filter(|(_, at)| now.since(*at) < DIAL_PATIENCE).map(|(role, _)| role);
        let role = kept.unwrap_or(role);
        self.punch.role = Some((role, now));
        role
    }

    /// Which of the offered addresses to dial, and which ports to guess.
    fn targets(&mut self, offered: &[Multiaddr], now: Moment) -> Vec<Multiaddr> {
        let offered = offered.iter().filter(|address| dialable(address)).take(MAX_CANDIDATES);
        if self.punch.both_symmetric() {
            // What needs no NAT may still work.
            return offered.filter(|address| is_private(address) || is_v6(address)).cloned().collect();
        }
        let mut targets: Vec<Multiaddr> = offered.cloned().collect();
        if self.punch.guesses_ports() && self.punch.guessed < GUESSING {
            let fresh = |guess: &Multiaddr| !self.is_under_way(guess, now);
            let guesses: Vec<Multiaddr> = guess_ports(&targets).into_iter().filter(fresh).collect();
            self.punch.guessed += u32::from(!guesses.is_empty());
            targets.extend(guesses);
        }
        targets
    }
}

/// The ports that a NAT which gives them in sequence is about to give, from those that observers saw.
fn guess_ports(offered: &[Multiaddr]) -> Vec<Multiaddr> {
    let seen = offered.iter().filter(|address| group(address) == Some(Group::QuicV4) && !is_private(address));
    let Some(newest) = seen.clone().max_by_key(|address| port(address)) else { return Vec::new() };
    let ip = newest.iter().next();
    let ports: BTreeSet<u16> = seen.filter(|address| address.iter().next() == ip).filter_map(port).collect();
    let neighbours = ports.iter().zip(ports.iter().skip(1));
    let step = neighbours.map(|(low, high)| high - low).filter(|step| *step <= LARGEST_STEP).min();
    let (Some(last), step) = (ports.last().copied(), step.unwrap_or(1)) else { return Vec::new() };
    let next = (1..=GUESSES).filter_map(|turn| last.checked_add(step.checked_mul(turn)?));
    next.filter_map(|port| with_port(newest, port)).collect()
}

fn port(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Udp(port) => Some(port),
        _ => None,
    })
}

fn with_port(address: &Multiaddr, port: u16) -> Option<Multiaddr> {
    let ip = address.iter().next()?;
    Some(Multiaddr::empty().with(ip).with(Protocol::Udp(port)).with(Protocol::QuicV1))
}

fn is_v6(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Ip6(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered<const N: usize>(ports: [u16; N]) -> Vec<Multiaddr> {
        ports.map(|port| format!("/ip4/198.51.100.7/udp/{port}/quic-v1").parse().unwrap()).to_vec()
    }

    fn guessed<const N: usize>(ports: [u16; N]) -> Vec<u16> {
        guess_ports(&offered(ports)).iter().filter_map(port).collect()
    }

    #[test]
    fn ports_are_guessed_in_the_steps_that_observers_saw() {
        assert_eq!(guessed([20_000, 20_007]), [20_014, 20_021, 20_028, 20_035, 20_042, 20_049]);
        assert_eq!(guessed([20_000]), [20_001, 20_002, 20_003, 20_004, 20_005, 20_006]);
        assert_eq!(guessed([20_000, 40_000]), [40_001, 40_002, 40_003, 40_004, 40_005, 40_006]);
        assert_eq!(guessed([65_530, 65_533]), [] as [u16; 0]);
        assert_eq!(guessed([]), [] as [u16; 0]);
    }
}
