//! Is a path alive? Probe bookkeeping.
//!
//! A probe that finds no answer within `max(250 ms, srtt + 4·rttvar)` is lost, unless anything was heard from the peer
//! meanwhile: a stream that still delivers is alive however late its answers are. The first lost probe, or traffic
//! without an answer, puts the path in doubt; from then on a probe leaves every 250 ms, whatever is outstanding. Three
//! lost probes without a sign of life make the path dead, and so does a loss of more than 30 % over ten seconds.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    measure::{Losses, RoundTrip},
    moment::Moment,
};

/// Between probes of the active path while there is traffic, and of one that is suspect.
const ACTIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Standby paths are kept honest and measured: their death costs nothing until they are needed.
const STANDBY_INTERVAL: Duration = Duration::from_secs(5);
/// While a path is in doubt (DESIGN §4).
const DOUBT_INTERVAL: Duration = Duration::from_millis(250);
/// A fresh path is measured quickly: no path is preferred for its round trip before it is known.
const MEASURE_INTERVAL: Duration = Duration::from_millis(200);
/// Samples that make a measurement.
pub const MEASURED: u32 = 3;
/// An answer may always take this long, whatever the estimate: schedulers and radios stall.
const MIN_PATIENCE: Duration = Duration::from_millis(250);
/// Patience before the first measurement, and the longest for a path with a round trip below half a second: traffic
/// unanswered for 500 ms, three probes within another 500 ms, and this, make two seconds from cut to switch.
const USUAL_PATIENCE: Duration = Duration::from_secs(1);
/// Paths with long round trips get twice that round trip, up to here.
const MAX_PATIENCE: Duration = Duration::from_secs(3);
/// Unanswered probes in a row that make a path dead.
const MAX_UNANSWERED: u32 = 3;
/// Loss that makes a path dead: the share, over this time, among this many probes.
const DEADLY_LOSS: f64 = 0.3;
pub const LOSS_WINDOW: Duration = Duration::from_secs(10);
pub const LOSS_PROBES: usize = 6;
/// A timer that fires this late means that this host was busy or asleep, not that the peer was silent.
const OWN_DELAY: Duration = Duration::from_millis(150);
/// Probes outstanding at once: the longest patience at the shortest interval, and a few.
const MAX_OUTSTANDING: usize = 16;

/// What a path is to its peer, which decides how often it is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    Active,
    Standby,
    Suspect,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Liveness {
    pub rtt: RoundTrip,
    pub losses: Losses,
    last_sent: Option<Moment>,
    outstanding: VecDeque<Moment>,
    unanswered: u32,
    /// A probe is due then, whatever the interval says.
    hurried: Option<Moment>,
    /// Traffic went unanswered.
    urged: bool,
    /// Whether a probe was repeated because this host was late.
    excused: bool,
    last_heard: Moment,
}

/// What [`Liveness::handle_timeout`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Finding {
    pub probe: bool,
    /// A probe was lost.
    pub lost: bool,
    pub dead: bool,
}

impl Liveness {
    pub fn new(now: Moment) -> Self {
        Self {
            rtt: RoundTrip::default(),
            losses: Losses::default(),
            last_sent: None,
            outstanding: VecDeque::new(),
            unanswered: 0,
            hurried: Some(now),
            urged: false,
            excused: false,
            last_heard: now,
        }
    }

    /// The round trip of an answered probe. An answer that a stalled stream held back proves life, but tells nothing
    /// of the distance; `false` says so.
    pub fn answered(&mut self, rtt: Duration, now: Moment) -> bool {
        self.heard(now);
        if rtt > self.longest_patience() {
            return false;
        }
        self.rtt.sample(rtt);
        self.losses.record(false, now);
        true
    }

    /// Any frame from the peer on this path proves life as well as an answer does.
    pub fn heard(&mut self, now: Moment) {
        self.outstanding.clear();
        self.unanswered = 0;
        self.urged = false;
        self.excused = false;
        self.last_heard = now;
    }

    /// Whether [`heard`](Self::heard) would change anything but the time.
    pub fn is_waiting(&self) -> bool {
        self.unanswered > 0 || self.urged || !self.outstanding.is_empty()
    }

    /// Whether something went unanswered: not dead, but nothing to move to either.
    pub fn is_in_doubt(&self) -> bool {
        self.unanswered > 0 || self.urged
    }

    /// Whether an answer is due.
    pub fn is_awaited(&self) -> bool {
        !self.outstanding.is_empty() || self.hurried.is_some()
    }

    pub fn is_measured(&self) -> bool {
        self.rtt.samples() >= MEASURED
    }

    pub fn last_heard(&self) -> Moment {
        self.last_heard
    }

    /// Something is wrong with another path: find out about this one before it is needed.
    pub fn hurry(&mut self, now: Moment) {
        if self.outstanding.is_empty() {
            self.hurried.get_or_insert(now);
        }
    }

    /// Packets went out for half a second and nothing came back.
    pub fn urge(&mut self, now: Moment) {
        if !self.urged {
            self.urged = true;
            self.hurry(now);
        }
    }

    /// Forgets what was not answered: there was no reason to expect an answer (idle, suspended).
    pub fn rest(&mut self, now: Moment) {
        self.heard(now);
        self.hurried = Some(now);
    }

    /// The path proved itself again: what it lost before is no reason to leave it.
    pub fn absolve(&mut self) {
        self.losses.forget_recent();
    }

    pub fn handle_timeout(&mut self, duty: Duty, now: Moment) -> Finding {
        let lost = self.count_lost(now);
        let deadly =
            self.losses.share(LOSS_WINDOW, LOSS_PROBES, now).is_some_and(|share| share > DEADLY_LOSS);
        let dead = self.unanswered >= MAX_UNANSWERED || (lost && deadly);
        let probe = self.due(duty) <= now;
        if probe {
            self.hurried = None;
            self.last_sent = Some(now);
            if self.outstanding.len() >= MAX_OUTSTANDING {
                self.outstanding.pop_front();
            }
            self.outstanding.push_back(now);
        }
        Finding { probe, lost, dead }
    }

    pub fn poll_timeout(&self, duty: Duty) -> Moment {
        let lost = self.outstanding.front().map(|sent| *sent + self.patience());
        lost.map_or(self.due(duty), |lost| lost.min(self.due(duty)))
    }

    fn count_lost(&mut self, now: Moment) -> bool {
        let (patience, before) = (self.patience(), self.unanswered);
        while let Some(due) = self.outstanding.front().map(|sent| *sent + patience).filter(|due| *due <= now)
        {
            if now > due + OWN_DELAY && !self.excused {
                // The answer may wait in a queue that this host had no time to read: ask again, once.
                self.excused = true;
                self.outstanding.clear();
                self.hurried = Some(now);
                break;
            }
            self.outstanding.pop_front();
            self.unanswered = self.unanswered.saturating_add(1);
            self.losses.record(true, now);
        }
        self.unanswered > before
    }

    fn due(&self, duty: Duty) -> Moment {
        let Some(last) = self.last_sent else { return self.hurried.unwrap_or_default() };
        let regular = last + self.interval(duty);
        self.hurried.map_or(regular, |hurried| hurried.min(regular))
    }

    fn interval(&self, duty: Duty) -> Duration {
        match duty {
            Duty::Suspect => ACTIVE_INTERVAL,
            Duty::Active | Duty::Standby if self.is_in_doubt() => DOUBT_INTERVAL,
            Duty::Active | Duty::Standby if !self.is_measured() => MEASURE_INTERVAL,
            Duty::Active => ACTIVE_INTERVAL,
            Duty::Standby => STANDBY_INTERVAL,
        }
    }

    fn patience(&self) -> Duration {
        let Some(smoothed) = self.rtt.smoothed() else { return USUAL_PATIENCE };
        (smoothed + self.rtt.variation() * 4).clamp(MIN_PATIENCE, self.longest_patience())
    }

    fn longest_patience(&self) -> Duration {
        let smoothed = self.rtt.smoothed().unwrap_or(MAX_PATIENCE / 2);
        (smoothed * 2).clamp(USUAL_PATIENCE, MAX_PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn start() -> Moment {
        Moment::default() + Duration::from_secs(100)
    }

    fn measured(rtt: u64) -> Liveness {
        let mut live = Liveness::new(start());
        for _ in 0..10 {
            live.answered(millis(rtt), start());
        }
        live.handle_timeout(Duty::Active, start());
        live.heard(start());
        live
    }

    /// When the path is found dead, with `urged` the moment at which traffic was reported unanswered.
    fn death(live: &mut Liveness, urged: Option<Moment>) -> Duration {
        let mut now = start();
        loop {
            let next = live.poll_timeout(Duty::Active).max(now);
            now = urged.filter(|at| *at > now).map_or(next, |at| at.min(next));
            if urged == Some(now) {
                live.urge(now);
            }
            if live.handle_timeout(Duty::Active, now).dead {
                return now.since(start());
            }
        }
    }

    #[test]
    fn a_silent_path_is_dead_within_two_seconds_even_if_nothing_is_sent() {
        let died = death(&mut measured(30), None);
        assert!(died <= millis(2000), "{died:?}");
    }

    #[test]
    fn unanswered_traffic_finds_a_dead_path_sooner() {
        let died = death(&mut measured(30), Some(start() + millis(500)));
        assert!(died <= millis(1300), "{died:?}");
    }

    #[test]
    fn a_path_that_was_never_measured_is_dead_within_two_seconds_of_unanswered_traffic() {
        let died = death(&mut Liveness::new(start()), Some(start()));
        assert!(died <= millis(2000), "{died:?}");
    }

    #[test]
    fn any_frame_from_the_peer_keeps_a_path_alive() {
        let mut live = measured(30);
        for step in 0..2000 {
            live.heard(start() + millis(step * 100));
            let found = live.handle_timeout(Duty::Active, start() + millis(step * 100));
            assert!(!found.dead && !found.lost);
        }
    }

    #[test]
    fn a_path_that_loses_every_second_probe_is_dead_and_one_that_loses_every_fifth_is_not() {
        for (every, dies) in [(5, false), (2, true)] {
            let mut live = measured(30);
            let (mut now, mut probes, mut dead) = (start(), 0, false);
            while now.since(start()) < Duration::from_secs(30) && !dead {
                now = live.poll_timeout(Duty::Active).max(now);
                let found = live.handle_timeout(Duty::Active, now);
                dead = found.dead;
                if found.probe {
                    probes += 1;
                    if probes % every != 0 {
                        live.answered(millis(30), now + millis(30));
                    }
                }
            }
            assert_eq!(dead, dies, "every {every}th probe is lost");
        }
    }

    #[test]
    fn an_answer_that_was_held_back_is_no_measurement() {
        let mut live = measured(80);
        assert!(!live.answered(millis(4000), start()));
        assert_eq!((live.rtt.smoothed(), live.patience()), (Some(millis(80)), MIN_PATIENCE));
    }
}
