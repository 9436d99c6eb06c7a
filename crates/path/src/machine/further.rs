//! Looking for what is missing beside a direct path: a better family, and the other carrier, or a second QUIC connection
//! in its place.
//!
//! What is missing may become possible without anybody being told: a firewall opens, a provider's IPv6 begins to work. So
//! both sides ask each other for their addresses now and then and dial what they do not have, as they do when they punch.
//! A peer without traffic is left alone.

use std::time::Duration;

use peerup_types::{CarrierKind, Family, PathClass, PathKind};

use super::{Machine, dial::kind};
use crate::{action::Role, candidate::group, moment::Moment, schedule::Backoff};

/// The first attempt comes after everything urgent. An attempt costs two frames, and a few packets for each address that
/// leads nowhere.
const FIRST: Duration = Duration::from_secs(15);
const CAP: Duration = Duration::from_secs(300);
/// A second QUIC connection is dialed when the attempt to find TCP has had its time, or TCP would make it surplus at once.
const SECOND_AFTER: Duration = Duration::from_secs(20);
/// After a change of network: the addresses that come with it are mostly offered by then.
const SOON: Duration = Duration::from_secs(2);
/// The side with the larger peer ID leaves the attempt to the other one for this long.
const POLITENESS: Duration = Duration::from_secs(3);

pub fn backoff() -> Backoff<Moment> {
    Backoff::new(FIRST, CAP)
}

pub fn second_backoff() -> Backoff<Moment> {
    Backoff::new(SECOND_AFTER, CAP)
}

impl Machine {
    /// Whether packets go direct, and no connection leads the way and takes the carrier of `kind`, which is at least as
    /// good a way as the one in use.
    pub(super) fn is_missing(&self, kind: PathKind) -> bool {
        let active = self.active_path().filter(|active| active.is_direct());
        active.is_some_and(|active| kind.family <= active.opened.kind.family && !self.has_good(kind))
    }

    pub(super) fn misses_something(&self) -> bool {
        let families = [Family::Ipv6, Family::Ipv4].into_iter();
        let kinds = families.flat_map(|family| {
            let carriers = [CarrierKind::TcpStream, CarrierKind::QuicStream];
            carriers.map(|carrier| PathKind { class: PathClass::Direct, family, carrier })
        });
        let mut kinds = kinds;
        kinds.any(|kind| self.is_missing(kind))
    }

    pub(super) fn tend_further(&mut self, now: Moment) {
        if !self.misses_something() {
            self.further.rest();
        } else if self.further.due().is_none() {
            self.further.hasten(now + FIRST + self.politeness());
        }
    }

    pub(super) fn look_further_soon(&mut self, now: Moment) {
        if self.further.due().is_some() {
            self.further.hasten(now + SOON + self.politeness());
        }
    }

    /// When to look again; an idle peer is not looked at.
    pub(super) fn further_due(&self) -> Option<Moment> {
        self.further.due().filter(|_| self.idle_at.is_some())
    }

    pub(super) fn look_further(&mut self, now: Moment) {
        self.further.attempted(now, &mut self.dice);
        let missing = |address: &&_| group(address).is_some_and(|group| self.is_missing(kind(group)));
        let known = self.direct.iter().filter(missing).cloned().collect();
        self.plan(known, Role::Dialer, now);
        self.punch.anyway = true;
        self.punch.hasten(now);
    }

    pub(super) fn tend_second(&mut self, now: Moment) {
        if self.lacking_second().is_none() {
            self.second.rest();
        } else if self.second.due().is_none() {
            self.second.hasten(now + SECOND_AFTER + self.politeness());
        }
    }

    pub(super) fn second_due(&self) -> Option<Moment> {
        self.second.due().filter(|_| self.idle_at.is_some())
    }

    pub(super) fn dial_second(&mut self, now: Moment) {
        self.second.attempted(now, &mut self.dice);
        if let Some(address) = self.lacking_second().filter(|address| !self.is_under_way(address, now)) {
            self.dial(address, Role::Dialer, now);
        }
    }

    /// The peer asks for our addresses: its attempt is ours, too. It may have a reason of its own, so it is none to wait
    /// longer than before.
    pub(super) fn looked_further(&mut self, now: Moment) {
        if self.further.due().is_some() {
            self.further.defer(now, &mut self.dice);
        }
    }

    fn politeness(&self) -> Duration {
        if self.first { Duration::ZERO } else { POLITENESS }
    }
}
