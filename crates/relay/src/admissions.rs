//! Which authorized nodes have opened the relay for a newcomer, and which guests use that.
//!
//! An *admission* belongs to the inviter who opened it and ends when the inviter closes it, when it has vouched for
//! somebody, when its time is up, or when the inviter loses its authorization. While any is open the gater lets
//! unknown peers in as guests, few and for a short while. The relay cannot tell guests apart: the secret of the
//! invite is between the two nodes. What it can do is keep every guest away from everybody but the inviters, and
//! that is what this machine decides. A guest that is on its way to one when the admission ends is cut off.
//!
//! It never decides who is authorized, and it holds no keys.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use peerup_types::PeerId;

/// Invites open at once: far more than people pair at the same moment, and little to remember.
pub const MAX_OPEN: usize = 32;
/// A code is typed or sent within the hour; an admission that outlives it serves nobody.
pub const MAX_TTL: Duration = Duration::from_secs(3600);
/// Pairing takes one circuit; a retry or two may overlap with it.
pub const MAX_CIRCUITS_PER_GUEST: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("an admission of no time admits nobody")]
    NoTime,
    #[error("{MAX_OPEN} admissions are open already")]
    Full,
}

/// The open admissions by inviter.
#[derive(Debug, Default)]
pub struct Admissions {
    open: BTreeMap<PeerId, Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    /// Circuits of guests that lead to this inviter. The gater caps the guests.
    guests: BTreeMap<PeerId, u32>,
}

impl Admissions {
    /// Opens an admission for `ttl`, at most [`MAX_TTL`]. One that the inviter has open gets the new time.
    pub fn open(&mut self, inviter: PeerId, ttl: Duration, now: Instant) -> Result<(), OpenError> {
        if ttl.is_zero() {
            return Err(OpenError::NoTime);
        }
        let until = now + ttl.min(MAX_TTL);
        if let Some(open) = self.open.get_mut(&inviter) {
            open.until = until;
            return Ok(());
        }
        if self.open.len() >= MAX_OPEN {
            return Err(OpenError::Full);
        }
        self.open.insert(inviter, Open { until, guests: BTreeMap::new() });
        Ok(())
    }

    /// Ends the inviter's admission. The guests that were on their way to it are returned, to be cut off.
    pub fn close(&mut self, inviter: &PeerId) -> Vec<PeerId> {
        self.open.remove(inviter).map(Open::into_guests).unwrap_or_default()
    }

    /// Whether `inviter` may vouch and guests may reach it.
    pub fn is_open(&self, inviter: &PeerId, now: Instant) -> bool {
        self.open.get(inviter).is_some_and(|open| now < open.until)
    }

    pub fn is_any_open(&self, now: Instant) -> bool {
        self.open.values().any(|open| now < open.until)
    }

    /// Whether a guest's circuit to `destination` may stay.
    pub fn handle_circuit_opened(&mut self, guest: PeerId, destination: &PeerId, now: Instant) -> bool {
        let open = self.open.get_mut(destination).filter(|open| now < open.until);
        let Some(open) = open else { return false };
        let circuits = open.guests.entry(guest).or_default();
        *circuits += 1;
        *circuits <= MAX_CIRCUITS_PER_GUEST
    }

    pub fn handle_circuit_closed(&mut self, source: &PeerId, destination: &PeerId) {
        let Some(open) = self.open.get_mut(destination) else { return };
        let Some(circuits) = open.guests.get_mut(source) else { return };
        *circuits -= 1;
        if *circuits == 0 {
            open.guests.remove(source);
        }
    }

    /// Every circuit is gone.
    pub fn handle_restart(&mut self) {
        self.open.values_mut().for_each(|open| open.guests.clear());
    }

    /// Ends the admissions of inviters that lost their authorization; returns their guests.
    pub fn handle_authorized(&mut self, is_authorized: impl Fn(&PeerId) -> bool) -> Vec<PeerId> {
        self.end(|inviter, _| !is_authorized(inviter))
    }

    /// Ends what has expired; returns the guests.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<PeerId> {
        self.end(|_, open| open.until <= now)
    }

    /// When the next admission expires.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.open.values().map(|open| open.until).min()
    }

    fn end(&mut self, over: impl Fn(&PeerId, &Open) -> bool) -> Vec<PeerId> {
        let mut guests = Vec::new();
        self.open.retain(|inviter, open| {
            let ends = over(inviter, open);
            if ends {
                guests.extend(open.guests.keys());
            }
            !ends
        });
        guests
    }
}

impl Open {
    fn into_guests(self) -> Vec<PeerId> {
        self.guests.into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_guest_reaches_an_inviter_with_an_open_admission_and_nobody_else() {
        let (mut admissions, inviter, now) = opened();
        let (guest, other) = (PeerId::random(), PeerId::random());
        assert!(admissions.handle_circuit_opened(guest, &inviter, now));
        assert!(!admissions.handle_circuit_opened(guest, &other, now));
        assert!(admissions.is_any_open(now));
    }

    #[test]
    fn closing_ends_the_admission_and_names_the_guests_on_their_way() {
        let (mut admissions, inviter, now) = opened();
        let (stays, left) = (PeerId::random(), PeerId::random());
        admissions.handle_circuit_opened(stays, &inviter, now);
        admissions.handle_circuit_opened(left, &inviter, now);
        admissions.handle_circuit_closed(&left, &inviter);
        assert_eq!(admissions.close(&inviter), [stays]);
        assert!(!admissions.is_open(&inviter, now) && !admissions.is_any_open(now));
        assert!(!admissions.handle_circuit_opened(stays, &inviter, now));
        assert!(admissions.close(&inviter).is_empty());
    }

    #[test]
    fn an_admission_expires_also_before_the_timer_runs() {
        let (mut admissions, inviter, now) = opened();
        let guest = PeerId::random();
        admissions.handle_circuit_opened(guest, &inviter, now);
        assert_eq!(admissions.poll_timeout(), Some(now + MINUTE));
        assert!(admissions.handle_timeout(now + MINUTE - Duration::from_millis(1)).is_empty());
        assert!(admissions.is_open(&inviter, now + MINUTE - Duration::from_millis(1)));
        assert!(!admissions.is_open(&inviter, now + MINUTE));
        assert!(!admissions.handle_circuit_opened(guest, &inviter, now + MINUTE));
        assert_eq!(admissions.handle_timeout(now + MINUTE), [guest]);
        assert_eq!(admissions.poll_timeout(), None);
    }

    #[test]
    fn an_inviter_has_one_admission_and_a_new_one_replaces_its_time() {
        let (mut admissions, inviter, now) = opened();
        admissions.open(inviter, 2 * MINUTE, now + MINUTE / 2).unwrap();
        assert_eq!(admissions.poll_timeout(), Some(now + MINUTE / 2 + 2 * MINUTE));
        admissions.close(&inviter);
        assert!(!admissions.is_any_open(now));
    }

    #[test]
    fn no_admission_lasts_longer_than_an_hour_and_none_lasts_no_time() {
        let (mut admissions, inviter, now) = opened();
        admissions.open(inviter, Duration::from_secs(u32::MAX.into()), now).unwrap();
        assert_eq!(admissions.poll_timeout(), Some(now + MAX_TTL));
        assert_eq!(admissions.open(inviter, Duration::ZERO, now), Err(OpenError::NoTime));
    }

    #[test]
    fn a_bounded_number_of_inviters_has_an_admission_and_those_can_renew_it() {
        let (mut admissions, inviter, now) = opened();
        for _ in 1..MAX_OPEN {
            admissions.open(PeerId::random(), MINUTE, now).unwrap();
        }
        assert_eq!(admissions.open(PeerId::random(), MINUTE, now), Err(OpenError::Full));
        admissions.open(inviter, MINUTE, now).unwrap();
        admissions.handle_timeout(now + MINUTE);
        admissions.open(PeerId::random(), MINUTE, now + MINUTE).unwrap();
    }

    #[test]
    fn a_guest_has_a_bounded_number_of_circuits_at_once() {
        let (mut admissions, inviter, now) = opened();
        let guest = PeerId::random();
        for _ in 0..MAX_CIRCUITS_PER_GUEST {
            assert!(admissions.handle_circuit_opened(guest, &inviter, now));
        }
        assert!(!admissions.handle_circuit_opened(guest, &inviter, now));
        admissions.handle_circuit_closed(&guest, &inviter);
        admissions.handle_circuit_closed(&guest, &inviter);
        assert!(admissions.handle_circuit_opened(guest, &inviter, now));
    }

    #[test]
    fn an_inviter_that_loses_its_authorization_loses_its_admission() {
        let (mut admissions, inviter, now) = opened();
        let (other, guest) = (PeerId::random(), PeerId::random());
        admissions.open(other, MINUTE, now).unwrap();
        admissions.handle_circuit_opened(guest, &inviter, now);
        assert_eq!(admissions.handle_authorized(|peer| *peer == other), [guest]);
        assert!(!admissions.is_open(&inviter, now) && admissions.is_open(&other, now));
    }

    #[test]
    fn circuits_that_nobody_counted_may_close() {
        let (mut admissions, inviter, now) = opened();
        let guest = PeerId::random();
        admissions.handle_circuit_opened(guest, &inviter, now);
        admissions.handle_restart();
        admissions.handle_circuit_closed(&guest, &inviter);
        admissions.handle_circuit_closed(&guest, &guest);
        assert!(admissions.close(&inviter).is_empty());
    }

    fn opened() -> (Admissions, PeerId, Instant) {
        let (mut admissions, inviter, now) = (Admissions::default(), PeerId::random(), peerup_clock::now());
        admissions.open(inviter, MINUTE, now).unwrap();
        (admissions, inviter, now)
    }
}
