//! Is a path alive? Round-trip estimation after RFC 6298 and probe bookkeeping.

use std::time::{Duration, Instant};

/// Between probes of the active path while there is traffic.
const ACTIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Standby paths are only kept honest: their death costs nothing until they are needed.
const STANDBY_INTERVAL: Duration = Duration::from_secs(5);
/// An answer may always take this long, whatever the estimate: schedulers and radios stall.
const MIN_PATIENCE: Duration = Duration::from_millis(250);
/// Patience before the first measurement.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
/// No estimate makes a probe wait longer; a queue of this length is not a usable path either. Three of these and an
/// interval stay below five seconds, within which packets leave a dead path.
const MAX_PATIENCE: Duration = Duration::from_millis(1250);
/// Unanswered probes in a row that make a path suspect.
const MAX_UNANSWERED: u32 = 3;
/// A timer that fires this late means that this host was busy or asleep, not that the peer was silent.
const OWN_DELAY: Duration = Duration::from_millis(150);

#[derive(Debug, Clone)]
pub struct Liveness {
    srtt: Option<Duration>,
    rttvar: Duration,
    next_probe: Instant,
    outstanding: Option<Instant>,
    unanswered: u32,
    /// Whether the outstanding probe was repeated because this host was late.
    excused: bool,
    /// Smoothed share of probes without an answer.
    loss: f64,
}

/// What [`Liveness::handle_timeout`] found. `Dead` comes again with every further round of unanswered probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Alive,
    ProbeDue,
    Dead,
}

impl Liveness {
    pub fn new(now: Instant) -> Self {
        Self {
            srtt: None,
            rttvar: Duration::ZERO,
            next_probe: now,
            outstanding: None,
            unanswered: 0,
            excused: false,
            loss: 0.0,
        }
    }

    pub fn rtt(&self) -> Option<Duration> {
        self.srtt
    }

    /// Share of unanswered probes, over about the last sixteen.
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// The round trip of an answered probe: smooths by RFC 6298 §2. An answer that a stalled stream held back proves
    /// life, but tells nothing of the distance; `false` says so.
    pub fn answered(&mut self, rtt: Duration) -> bool {
        if rtt > MAX_PATIENCE {
            self.heard();
            return false;
        }
        self.rttvar = match self.srtt {
            None => rtt / 2,
            Some(srtt) => (self.rttvar * 3 + srtt.abs_diff(rtt)) / 4,
        };
        self.srtt = Some(self.srtt.map_or(rtt, |srtt| (srtt * 7 + rtt) / 8));
        self.loss *= 15.0 / 16.0;
        self.heard();
        true
    }

    /// Any frame from the peer on this path proves life as well as an answer does.
    pub fn heard(&mut self) {
        self.outstanding = None;
        self.unanswered = 0;
        self.excused = false;
    }

    /// Whether the last probe went unanswered: not dead, but nothing to move to either.
    pub fn is_in_doubt(&self) -> bool {
        self.unanswered > 0
    }

    /// Whether an answer is due.
    pub fn is_awaited(&self) -> bool {
        self.outstanding.is_some()
    }

    /// Something is wrong with another path: find out about this one before it is needed.
    pub fn hurry(&mut self, now: Instant) {
        self.next_probe = self.next_probe.min(now);
    }

    /// Forgets what was not answered: there was no reason to expect an answer (idle, suspended).
    pub fn rest(&mut self, now: Instant) {
        self.heard();
        self.next_probe = now;
    }

    pub fn handle_timeout(&mut self, active: bool, now: Instant) -> Verdict {
        if let Some(sent) = self.outstanding {
            let due = sent + self.patience();
            if now < due {
                return Verdict::Alive;
            }
            self.outstanding = None;
            if now > due + OWN_DELAY && !self.excused {
                // The answer may wait in a queue that this host had no time to read: ask again, once.
                self.excused = true;
                self.outstanding = Some(now);
                return Verdict::ProbeDue;
            }
            self.unanswered += 1;
            self.loss = (self.loss * 15.0 + 1.0) / 16.0;
            if self.unanswered >= MAX_UNANSWERED {
                self.unanswered = 0;
                self.next_probe = now;
                return Verdict::Dead;
            }
            self.next_probe = now;
        }
        if now < self.next_probe {
            return Verdict::Alive;
        }
        self.outstanding = Some(now);
        self.next_probe = now + if active { ACTIVE_INTERVAL } else { STANDBY_INTERVAL };
        Verdict::ProbeDue
    }

    pub fn poll_timeout(&self) -> Instant {
        self.outstanding.map_or(self.next_probe, |sent| sent + self.patience())
    }

    fn patience(&self) -> Duration {
        let estimate = self.srtt.map_or(FIRST_PATIENCE, |srtt| srtt + self.rttvar * 4);
        estimate.clamp(MIN_PATIENCE, MAX_PATIENCE)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn three_unanswered_probes_make_a_path_dead_within_two_seconds() {
        let start = Instant::now();
        let mut live = Liveness::new(start);
        for _ in 0..10 {
            live.answered(millis(30));
        }
        let mut now = start;
        let death = loop {
            match live.handle_timeout(true, now) {
                Verdict::Dead => break now,
                Verdict::Alive | Verdict::ProbeDue => now = live.poll_timeout(),
            }
        };
        assert!(death - start <= Duration::from_secs(2), "{:?}", death - start);
    }

    #[test]
    fn any_frame_from_the_peer_keeps_a_path_alive() {
        let start = Instant::now();
        let mut live = Liveness::new(start);
        for step in 0..200 {
            live.heard();
            assert_ne!(live.handle_timeout(true, start + millis(step * 100)), Verdict::Dead);
        }
    }

    #[test]
    fn an_answer_that_was_held_back_is_no_measurement() {
        let mut live = Liveness::new(Instant::now());
        live.answered(millis(80));
        assert!(!live.answered(millis(4000)));
        assert_eq!((live.rtt(), live.patience()), (Some(millis(80)), MIN_PATIENCE));
    }

    #[test]
    fn the_first_sample_sets_the_estimate_and_later_ones_move_it_slowly() {
        let mut live = Liveness::new(Instant::now());
        live.answered(millis(80));
        assert_eq!(live.rtt(), Some(millis(80)));
        live.answered(millis(160));
        assert_eq!(live.rtt(), Some(millis(90)));
    }
}
