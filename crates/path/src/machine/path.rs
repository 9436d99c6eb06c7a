//! One path: a connection that the swarm reported, and what became of it.

use serde::{Deserialize, Serialize};

use crate::{action::Opened, liveness::Liveness, moment::Moment};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Path {
    pub opened: Opened,
    pub since: Moment,
    /// When hello and ack had crossed it.
    pub ready: Option<Moment>,
    /// Either side announced that it goes away; it takes no new packets.
    pub retiring: Option<Moment>,
    pub suspicion: Option<Suspicion>,
    /// How often this path has been suspect: each time it has to prove itself for longer.
    pub strikes: u32,
    pub live: Liveness,
    /// Since when it has been clearly better than the path in use, and its samples at that time.
    pub ahead: Option<(Moment, u32)>,
    /// Since when the path in use, of a lower rank, has not been clearly better than this one.
    pub level: Option<Moment>,
}

/// A path that stopped answering. It stays open for a while: a busy host or a bad moment on the radio is not the end
/// of a path, and answers make it good again.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Suspicion {
    pub since: Moment,
    /// Timely answers in a row.
    pub answers: u32,
}

impl Path {
    pub fn new(opened: Opened, now: Moment) -> Self {
        Self {
            opened,
            since: now,
            ready: None,
            retiring: None,
            suspicion: None,
            strikes: 0,
            live: Liveness::new(now),
            ahead: None,
            level: None,
        }
    }

    pub fn is_usable(&self) -> bool {
        self.ready.is_some() && self.retiring.is_none()
    }

    pub fn is_good(&self) -> bool {
        self.is_usable() && self.suspicion.is_none()
    }

    pub fn is_direct(&self) -> bool {
        self.opened.is_direct()
    }

    pub fn suspect(&mut self, now: Moment) {
        self.suspicion = Some(Suspicion { since: now, answers: 0 });
        self.strikes = self.strikes.saturating_add(1);
        self.ahead = None;
        self.level = None;
    }

    /// Only a timely answer speaks for a suspect path: the others come from a stream that was held up. One lost probe
    /// and it begins anew.
    pub fn count_answer(&mut self, timely: bool) {
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.answers = suspicion.answers.saturating_add(u32::from(timely));
        }
    }

    pub fn count_loss(&mut self) {
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.answers = 0;
        }
    }

    /// Whether a suspect path has answered often enough.
    pub fn has_proved_itself(&self) -> bool {
        self.suspicion.is_some_and(|suspicion| suspicion.answers >= self.answers_needed())
    }

    /// Two, doubled with each strike, so that a path that comes and goes is not switched to and fro.
    pub fn answers_needed(&self) -> u32 {
        1 << self.strikes.clamp(1, 5)
    }

    pub fn absolve(&mut self) {
        self.suspicion = None;
        self.live.absolve();
    }
}
