//! Which path packets take.
//!
//! Class and family decide between comparable paths. A direct path of a lower rank wins when it has been clearly better
//! for ten seconds, and loses again when it is no longer; the same rule chooses among relayed paths. Between relayed
//! and direct there is no comparison.

use std::{cmp::Reverse, time::Duration};

use peerup_types::{PathId, PathKind};

use super::{MAX_HISTORY, Machine, flaps, path::Path, punch};
use crate::{
    action::{Action, Event, Reason},
    explain::Switch,
    moment::Moment,
};

/// A better class waits this long for others of its class: direct paths become ready one after another, and one switch
/// to the best of them is better than three.
const SETTLE: Duration = Duration::from_millis(250);
/// How long a path has to be clearly better before packets move, and how many samples that takes: a spike in the
/// round trip lasts a few seconds.
pub const SUSTAINED: Duration = Duration::from_secs(10);
const SUSTAINED_SAMPLES: u32 = 3;
/// Loss that does not kill a path is judged over a longer time than loss that does: a few lost probes in ten seconds
/// are chance. Standby paths are probed seldom, and judged over a minute.
const LOSSY_WINDOW: Duration = Duration::from_secs(30);
const STANDBY_WINDOW: Duration = Duration::from_secs(60);
/// Probes in such a window that make a judgement.
const LOSSY_PROBES: usize = 10;
/// Switches in the last minute that leave room for one for the better: to a better class, and within one. The
/// remaining ones are kept for leaving paths that die.
const ROOM_FOR_CLASS: usize = flaps::MOST - 2;
const ROOM_WITHIN_CLASS: usize = flaps::MOST - 3;

/// How much better "clearly better" is.
pub struct Margin {
    gap: Duration,
    share: f64,
    /// A path that loses this share of its probes loses to one that loses a third of that.
    loss: f64,
}

/// To take packets (DESIGN §4), and to keep them: half of it, so that a path at the margin is not left and taken in
/// turn.
pub const TAKE: Margin = Margin { gap: Duration::from_millis(15), share: 0.7, loss: 0.05 };
pub const KEEP: Margin = Margin { gap: Duration::from_micros(7500), share: 0.85, loss: 0.025 };

impl Machine {
    /// Moves to a better path, or away from one that stopped answering. Among equals the path in use stays: a switch
    /// has to gain something, and to leave one suspect for another gains nothing.
    pub(super) fn select(&mut self, now: Moment) {
        self.held_until = None;
        self.compare(now);
        let Some(active) = self.active_path() else {
            if let Some(path) = self.best() {
                self.activate(Some(path), None, Reason::FirstPath, now);
            }
            return;
        };
        let from = active.opened.kind;
        if active.suspicion.is_some() {
            if let Some(refuge) = self.refuge() {
                self.activate(Some(refuge), Some(from), Reason::PathDead, now);
            }
            return;
        }
        if let Some((path, reason)) = self.improvement(now) {
            self.activate(Some(path), Some(from), reason, now);
        }
    }

    /// The best path to be on, where packets have none. A doubtful one is taken as well.
    fn best(&self) -> Option<PathId> {
        let rank = |path: &&Path| {
            (path.suspicion.is_some(), self.is_doubtful(path), path.opened.kind, path.opened.path)
        };
        self.paths.values().filter(|path| path.is_usable()).min_by_key(rank).map(|path| path.opened.path)
    }

    /// The best path that is known to answer.
    fn refuge(&self) -> Option<PathId> {
        self.candidates().min_by_key(|path| (path.opened.kind, path.opened.path)).map(|path| path.opened.path)
    }

    fn candidates(&self) -> impl Iterator<Item = &Path> {
        self.paths.values().filter(|path| path.is_good() && !self.is_doubtful(path))
    }

    /// Whether a path that packets could move to may be dead itself. When the active path died, one that has not yet
    /// answered the probe that was sent for this reason is no refuge.
    pub(super) fn is_doubtful(&self, path: &Path) -> bool {
        let fleeing = self.active_path().is_some_and(|active| active.suspicion.is_some());
        let silent = path.live.is_in_doubt() || (fleeing && path.live.is_awaited());
        silent && self.active != Some(path.opened.path)
    }

    /// Where packets would be better off, if they may move.
    fn improvement(&mut self, now: Moment) -> Option<(PathId, Reason)> {
        let (path, reason, room) = match self.better_class() {
            Some(_) if self.settling_until(now).is_some() => {
                self.held_until = self.settling_until(now);
                return None;
            }
            Some(path) => (path, Reason::BetterPath, ROOM_FOR_CLASS),
            None => {
                let (path, reason) = self.better_within_class(now)?;
                (path, reason, ROOM_WITHIN_CLASS)
            }
        };
        self.held_until = self.flaps.at_most(room, now);
        self.held_until.is_none().then_some((path, reason))
    }

    /// A direct path, while packets are relayed.
    fn better_class(&self) -> Option<PathId> {
        let active = self.active_path().filter(|active| !active.is_direct())?;
        let direct = self.candidates().filter(|path| path.is_direct());
        let best = direct.min_by_key(|path| (path.opened.kind, path.opened.path))?;
        (best.opened.kind.class < active.opened.kind.class).then_some(best.opened.path)
    }

    pub(super) fn settling_until(&self, now: Moment) -> Option<Moment> {
        let direct = self.candidates().filter(|path| path.is_direct());
        let first = direct.filter_map(|path| path.ready).min()?;
        Some(first + SETTLE).filter(|until| *until > now)
    }

    /// A path of the same class (all relayed paths are of one class here) that is to be preferred.
    fn better_within_class(&self, now: Moment) -> Option<(PathId, Reason)> {
        let active = self.active_path()?;
        let champion = self.champion()?;
        if champion.opened.kind < active.opened.kind {
            let waited = champion.level.is_some_and(|since| now.since(since) >= self.patience_with_level());
            let measured = champion.live.is_measured() || active.live.rtt.smoothed().is_none();
            return (waited && measured).then_some((champion.opened.path, Reason::BetterPath));
        }
        let sustained = |path: &&Path| {
            path.ahead.is_some_and(|(since, samples)| {
                let fresh = path.live.rtt.samples().saturating_sub(samples);
                now.since(since) >= SUSTAINED && fresh >= SUSTAINED_SAMPLES
            })
        };
        let challengers = self.peers_of(active).filter(sustained);
        let fastest = challengers.min_by_key(|path| (path.live.rtt.smoothed(), path.opened.path))?;
        let reason = match is_faster(fastest, active, &TAKE) {
            true => Reason::Faster,
            false => Reason::LessLoss,
        };
        Some((fastest.opened.path, reason))
    }

    /// What was first come is left for what ranks higher as soon as that is measured; what won by being better is left
    /// only after it has not been so for as long as winning took.
    fn patience_with_level(&self) -> Duration {
        if self.won_by_measure() { SUSTAINED } else { Duration::ZERO }
    }

    pub(super) fn won_by_measure(&self) -> bool {
        match self.reason {
            Some(Reason::Faster | Reason::LessLoss) => true,
            Some(Reason::FirstPath | Reason::BetterPath | Reason::PathClosed | Reason::PathDead) | None => {
                false
            }
        }
    }

    /// The highest rank among the candidates of the active path's class, and the active path among equals.
    fn champion(&self) -> Option<&Path> {
        let active = self.active_path()?;
        let all = self.peers_of(active).chain([active]);
        all.min_by_key(|path| (path.opened.kind, Reverse(self.active == Some(path.opened.path))))
    }

    /// The other candidates of the active path's class.
    fn peers_of<'a>(&'a self, active: &'a Path) -> impl Iterator<Item = &'a Path> {
        let other = |path: &&Path| path.opened.path != active.opened.path;
        self.candidates().filter(other).filter(|path| path.is_direct() == active.is_direct())
    }

    /// Keeps the record of who has been better than the path in use, and for how long.
    fn compare(&mut self, now: Moment) {
        let Some(active) = self.active_path().cloned() else { return };
        // What won by being better keeps packets by a smaller margin; what was first come has not won anything.
        let keep = if self.won_by_measure() { &KEEP } else { &TAKE };
        for path in self.paths.values_mut() {
            let is_rival = path.is_good()
                && path.opened.path != active.opened.path
                && path.is_direct() == active.is_direct();
            let ahead = is_rival && clearly_better(path, &active, &TAKE, now);
            path.ahead = ahead.then(|| path.ahead.unwrap_or((now, path.live.rtt.samples())));
            let level = is_rival
                && path.opened.kind < active.opened.kind
                && !clearly_better(&active, path, keep, now);
            path.level = level.then(|| path.level.unwrap_or(now));
        }
    }

    /// Moves packets away from a path that stays open for a moment.
    pub(super) fn leave(&mut self, path: PathId, reason: Reason, now: Moment) {
        if self.active != Some(path) {
            return;
        }
        let kind = self.paths[&path].opened.kind;
        let same = |other: &&Path| other.is_good() && other.opened.kind == kind;
        // Mostly a twin remains, and to move to it costs nothing.
        match self.paths.values().find(same).map(|twin| twin.opened.path) {
            Some(twin) => self.activate(Some(twin), Some(kind), reason, now),
            None => self.replace(kind, reason, now),
        }
    }

    /// The active path is gone.
    pub(super) fn replace(&mut self, from: PathKind, reason: Reason, now: Moment) {
        self.activate(self.best(), Some(from), reason, now);
        match self.active {
            None => self.reach.hasten(now),
            Some(_) if !self.has_direct() => self.punch.hasten(now + punch::FIRST),
            Some(_) => {}
        }
    }

    fn activate(&mut self, path: Option<PathId>, from: Option<PathKind>, reason: Reason, now: Moment) {
        if let Some(next) = path.and_then(|path| self.paths.get_mut(&path)) {
            // As a standby path it was probed so seldom that its death would be noticed late.
            next.live.hurry(now);
        }
        self.active = path;
        self.active_since = path.map(|_| now);
        self.reason = Some(reason);
        for path in self.paths.values_mut() {
            path.ahead = None;
            path.level = None;
        }
        let to = self.active_path().map(|path| path.opened.kind);
        if from.is_some() && to.is_some() && from != to {
            self.flaps.count(now);
        }
        self.note(Switch { at: now, from, to, reason });
        self.actions.push_back(Action::Use { peer: self.peer, path });
        self.events.push_back(Event::PathChanged { peer: self.peer, from, to, reason });
        if self.has_direct() {
            self.punch.succeeded();
        }
    }

    fn note(&mut self, switch: Switch) {
        if self.history.len() >= MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(switch);
    }
}

/// Whether `path` is faster or loses less than `than` by the margin.
pub fn clearly_better(path: &Path, than: &Path, margin: &Margin, now: Moment) -> bool {
    is_faster(path, than, margin) || loses_less(path, than, margin, now)
}

pub fn is_faster(path: &Path, than: &Path, margin: &Margin) -> bool {
    if !path.live.is_measured() || !than.live.is_measured() {
        return false;
    }
    let (Some(own), Some(other)) = (path.live.rtt.smoothed(), than.live.rtt.smoothed()) else { return false };
    own + margin.gap < other && own < other.mul_f64(margin.share)
}

fn loses_less(path: &Path, than: &Path, margin: &Margin, now: Moment) -> bool {
    let lost = |path: &Path| {
        let recent = path.live.losses.share(LOSSY_WINDOW, LOSSY_PROBES, now);
        recent.or_else(|| path.live.losses.share(STANDBY_WINDOW, LOSSY_PROBES, now))
    };
    match (lost(path), lost(than)) {
        (Some(own), Some(other)) => other >= margin.loss && own * 3.0 <= other,
        (None, _) | (_, None) => false,
    }
}
