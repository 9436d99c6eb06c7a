//! Which path packets take.
//!
//! Class and family decide between comparable paths. A direct path of a lower rank wins when it has been clearly better
//! for ten seconds, and loses again when it is no longer; the same rule chooses among relayed paths. Between relayed
//! and direct there is no comparison, and none between the carriers of one way (`carrier`).

use std::time::Duration;

use peerup_types::{PathClass, PathId, PathKind};

use super::{MAX_HISTORY, Machine, flaps, path::Path, punch};
use crate::{
    action::{Event, Reason},
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

    /// The best path to be on for packets that were on one of this kind: another carrier of a direct way is the same path
    /// to everybody.
    fn best_after(&self, from: PathKind) -> Option<PathId> {
        let same = |path: &&Path| path.is_direct() && path.opened.kind.is_same_way(&from);
        let sibling = self.candidates().filter(same).min_by_key(|path| (path.opened.kind, path.opened.path));
        sibling.map(|path| path.opened.path).or_else(|| self.best())
    }

    /// The best path to be on, where packets have none. A doubtful one is taken as well.
    fn best(&self) -> Option<PathId> {
        let rank = |path: &&Path| {
            (path.suspicion.is_some(), self.is_doubtful(path), path.opened.kind, path.opened.path)
        };
        self.paths.values().filter(|path| path.is_usable()).min_by_key(rank).map(|path| path.opened.path)
    }

    /// The best path that is known to answer, on the same way if there is one.
    fn refuge(&self) -> Option<PathId> {
        let elsewhere = |path: &Path| self.active_path().is_none_or(|active| !self.is_sibling(path, active));
        let rank = |path: &&Path| (elsewhere(path), path.opened.kind, path.opened.path);
        self.candidates().min_by_key(rank).map(|path| path.opened.path)
    }

    pub(super) fn candidates(&self) -> impl Iterator<Item = &Path> {
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
        if let Some((path, reason, held)) = self.better_way(now) {
            self.held_until = held;
            if held.is_none() {
                return Some((path, reason));
            }
        }
        let (path, rests) = self.better_carrier(now)?;
        self.held_until = self.held_until.into_iter().chain(rests).min();
        rests.is_none().then_some((path, Reason::BetterCarrier))
    }

    /// A path of a better class or family, or a clearly better one, and until when it has to wait.
    fn better_way(&self, now: Moment) -> Option<(PathId, Reason, Option<Moment>)> {
        let (path, reason, room) = match self.better_class() {
            Some(path) => match self.settling_until(now) {
                Some(until) => return Some((path, Reason::BetterPath, Some(until))),
                None => (path, Reason::BetterPath, ROOM_FOR_CLASS),
            },
            None => {
                let (path, reason) = self.better_within_class(now)?;
                (path, reason, ROOM_WITHIN_CLASS)
            }
        };
        Some((path, reason, self.flaps.at_most(room, now)))
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
        let rivals = self.candidates().filter(|path| self.is_rival(path, active));
        let champion = rivals.min_by_key(|path| (path.opened.kind, path.opened.path))?;
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
        let challengers = self.candidates().filter(|path| self.is_rival(path, active)).filter(sustained);
        let rank = |path: &&Path| (self.round_trip(path), path.opened.kind, path.opened.path);
        let fastest = challengers.min_by_key(rank)?;
        let reason = match self.is_faster(fastest, active, &TAKE) {
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
            Some(
                Reason::FirstPath
                | Reason::BetterPath
                | Reason::BetterCarrier
                | Reason::PathClosed
                | Reason::PathDead,
            )
            | None => false,
        }
    }

    /// Whether `path` is of the class of the one in use, and not the same way with another carrier.
    fn is_rival(&self, path: &Path, active: &Path) -> bool {
        path.opened.path != active.opened.path
            && path.is_direct() == active.is_direct()
            && !self.is_sibling(path, active)
    }

    /// Keeps the record of who has been better than the path in use, and for how long.
    fn compare(&mut self, now: Moment) {
        let Some(active) = self.active_path() else { return };
        // What won by being better keeps packets by a smaller margin; what was first come has not won anything.
        let keep = if self.won_by_measure() { &KEEP } else { &TAKE };
        let judge = |path: &Path| {
            let is_rival = path.is_good() && self.is_rival(path, active);
            let ahead = is_rival && self.clearly_better(path, active, &TAKE, now);
            let higher = is_rival && path.opened.kind < active.opened.kind;
            (ahead, higher && !self.clearly_better(active, path, keep, now))
        };
        let judged: Vec<(bool, bool)> = self.paths.values().map(judge).collect();
        for (path, (ahead, level)) in self.paths.values_mut().zip(judged) {
            path.ahead = ahead.then(|| path.ahead.unwrap_or((now, path.live.rtt.samples())));
            path.level = level.then(|| path.level.unwrap_or(now));
        }
    }

    /// Whether `path` is faster or loses less than `than` by the margin.
    pub(super) fn clearly_better(&self, path: &Path, than: &Path, margin: &Margin, now: Moment) -> bool {
        self.is_faster(path, than, margin) || self.loses_less(path, than, margin, now)
    }

    pub(super) fn is_faster(&self, path: &Path, than: &Path, margin: &Margin) -> bool {
        let (Some(own), Some(other)) = (self.round_trip(path), self.round_trip(than)) else { return false };
        own + margin.gap < other && own < other.mul_f64(margin.share)
    }

    /// The round trip of a way: that of its quickest connection. The others lead through the same wires, and what they
    /// measure beyond it is the queue of their own frames.
    pub(super) fn round_trip(&self, path: &Path) -> Option<Duration> {
        let measured = self.connections_like(path).filter(|path| path.live.is_measured());
        measured.filter_map(|path| path.live.rtt.smoothed()).min()
    }

    /// This connection and the live ones beside it on its way.
    fn connections_like<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Path> {
        let siblings = self.paths.values().filter(|other| other.is_good() && self.is_sibling(other, path));
        siblings.chain([path])
    }

    fn loses_less(&self, path: &Path, than: &Path, margin: &Margin, now: Moment) -> bool {
        let lost = |path: &Path| {
            let recent = path.live.losses.share(LOSSY_WINDOW, LOSSY_PROBES, now);
            recent.or_else(|| path.live.losses.share(STANDBY_WINDOW, LOSSY_PROBES, now))
        };
        let least = |path| self.connections_like(path).filter_map(lost).min_by(f64::total_cmp);
        match (least(path), least(than)) {
            (Some(own), Some(other)) => other >= margin.loss && own * 3.0 <= other,
            (None, _) | (_, None) => false,
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
        self.activate(self.best_after(from), Some(from), reason, now);
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
        let to = self.active_path().map(|path| path.opened.kind);
        self.note(Switch { at: now, from, to, reason });
        match (from, to) {
            (Some(from), Some(to)) if to.class == PathClass::Direct && from.is_same_way(&to) => {
                // Why packets go this way, and since when, is as it was.
                if from != to {
                    self.carrier_moved = Some(now);
                }
            }
            _ => self.switched(from, to, reason, now),
        }
        self.announce(now);
        if self.has_direct() {
            self.punch.succeeded();
        }
    }

    fn switched(&mut self, from: Option<PathKind>, to: Option<PathKind>, reason: Reason, now: Moment) {
        self.active_since = to.map(|_| now);
        self.reason = Some(reason);
        self.carrier_moved = None;
        for path in self.paths.values_mut() {
            path.ahead = None;
            path.level = None;
        }
        if from.is_some() && to.is_some() && from != to {
            self.flaps.count(now);
        }
        self.events.push_back(Event::PathChanged { peer: self.peer, from, to, reason });
    }

    fn note(&mut self, switch: Switch) {
        if self.history.len() >= MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(switch);
    }
}
