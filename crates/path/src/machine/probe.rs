//! Asking paths whether they live, and what follows from their silence.

use std::time::Duration;

use peerup_types::PathId;

use super::{IDLE_AFTER, Machine, READY_DEADLINE, flaps, path::Path, punch};
use crate::{
    action::{Action, Reason},
    liveness::Duty,
    moment::Moment,
};

/// A suspect path that stays silent for this long is closed; QUIC gives up after the same time.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

impl Machine {
    pub(super) fn answered(&mut self, path: PathId, rtt: Duration, now: Moment) {
        let Some(found) = self.paths.get_mut(&path) else { return };
        let timely = found.live.answered(rtt, now);
        found.count_answer(timely);
        self.absolve(now);
        // It may be what packets on a suspect path are waiting for.
        self.select(now);
    }

    pub(super) fn heard(&mut self, path: PathId, now: Moment) {
        if let Some(path) = self.paths.get_mut(&path) {
            path.live.heard(now);
        }
    }

    pub(super) fn unanswered(&mut self, path: PathId, now: Moment) {
        let doubted = self.is_in_doubt();
        if let Some(path) = self.paths.get_mut(&path).filter(|path| path.is_good()) {
            path.live.urge(now);
        }
        self.check_standbys(doubted, now);
    }

    /// Packets went to or came from the peer.
    pub(super) fn traffic(&mut self, now: Moment) {
        if self.idle_at.is_none() {
            for path in self.paths.values_mut() {
                path.live.rest(now);
            }
        }
        self.idle_at = Some(now + IDLE_AFTER);
    }

    pub(super) fn duty(&self, path: &Path) -> Duty {
        if path.suspicion.is_some() {
            Duty::Suspect
        } else if [self.active, self.beside].contains(&Some(path.opened.path)) {
            Duty::Active
        } else {
            Duty::Standby
        }
    }

    /// When a suspect path that stays silent is closed.
    pub(super) fn given_up_at(&self, path: &Path) -> Option<Moment> {
        let suspicion = path.suspicion.filter(|_| path.is_usable())?;
        Some(suspicion.since.max(path.live.last_heard()) + GIVE_UP_AFTER)
    }

    /// Probes what is due, suspects what does not answer, and gives up what stays silent or never became ready.
    pub(super) fn check_paths(&mut self, now: Moment) {
        let idle = self.idle_at.take_if(|at| *at <= now).is_some() || self.idle_at.is_none();
        let doubted = self.is_in_doubt();
        let mut suspects = false;
        for id in self.paths.keys().copied().collect::<Vec<_>>() {
            suspects |= self.check_path(id, idle, now);
        }
        self.check_standbys(doubted, now);
        if suspects {
            self.select(now);
            self.search_after_loss(now);
        }
    }

    /// Whether the path became suspect.
    fn check_path(&mut self, id: PathId, idle: bool, now: Moment) -> bool {
        let path = &self.paths[&id];
        let never_ready = path.ready.is_none() && path.since + READY_DEADLINE <= now;
        if never_ready || self.given_up_at(path).is_some_and(|at| at <= now) {
            self.actions.push_back(Action::Close { path: id });
            self.forget(id, Reason::PathDead, now);
            return false;
        }
        let duty = self.duty(path);
        let rests = idle && duty != Duty::Suspect;
        let Some(path) = self.paths.get_mut(&id).filter(|path| path.is_usable() && !rests) else {
            return false;
        };
        let found = path.live.handle_timeout(duty, now);
        if found.probe {
            self.actions.push_back(Action::Probe { path: id });
        }
        if found.lost {
            path.count_loss();
        }
        let suspect = found.dead && path.suspicion.is_none();
        if suspect {
            path.suspect(now);
        }
        suspect
    }

    /// When a connection in use fell into doubt: what may be killing it may have killed others, and by the time it is
    /// given up it has to be known which standby paths answer.
    fn check_standbys(&mut self, doubted: bool, now: Moment) {
        if doubted || !self.is_in_doubt() {
            return;
        }
        let active = self.active;
        for (_, path) in self.paths.iter_mut().filter(|(id, path)| path.is_good() && active != Some(**id)) {
            path.live.hurry(now);
        }
    }

    /// Whether a connection in use has not answered.
    fn is_in_doubt(&self) -> bool {
        let used = [self.active, self.beside].into_iter().flatten();
        used.filter_map(|id| self.paths.get(&id)).any(|path| path.live.is_in_doubt())
    }

    pub(super) fn search_after_loss(&mut self, now: Moment) {
        if self.is_cut_off() {
            self.reach.hasten(now);
        } else if !self.has_direct() {
            self.punch.hasten(now + punch::FIRST);
        }
    }

    /// Lifts suspicions, best path first. A path that counts as alive may have to be moved to when the one in use
    /// dies; while that would be one switch too many, it stays on probation.
    pub(super) fn absolve(&mut self, now: Moment) {
        let proved = self.paths.values().filter(|path| path.is_usable() && path.has_proved_itself());
        let mut proved: Vec<_> = proved.map(|path| (path.opened.kind, path.opened.path)).collect();
        proved.sort();
        for (_, id) in proved {
            if self.probation_until(id, now).is_none()
                && let Some(path) = self.paths.get_mut(&id)
            {
                path.absolve();
                self.select(now);
            }
        }
    }

    /// The next moment at which a path on probation may count as alive.
    pub(super) fn absolved_at(&self) -> Option<Moment> {
        let proved = self.paths.values().filter(|path| path.is_usable() && path.has_proved_itself());
        // The clock is at least at the last switch; what lies before it is past.
        let now = self.active_since.unwrap_or_default();
        proved.filter_map(|path| self.probation_until(path.opened.path, now)).min()
    }

    /// Until when a path that has proved itself stays on probation.
    pub(super) fn probation_until(&self, id: PathId, now: Moment) -> Option<Moment> {
        let in_use = self.active_path().map(|active| active.opened.kind);
        let is_elsewhere = |path: &Path| in_use.is_none_or(|kind| !kind.is_same_way(&path.opened.kind));
        if !self.paths.get(&id).is_some_and(is_elsewhere) {
            return None;
        }
        let others = self.paths.values().filter(|path| is_elsewhere(path));
        let mut refuges: Vec<_> = others
            .filter(|path| path.is_good() || path.opened.path == id)
            .map(|path| (path.opened.kind.class, path.opened.kind.family))
            .collect();
        refuges.sort();
        refuges.dedup();
        self.flaps.at_most(flaps::MOST.saturating_sub(refuges.len()), now)
    }
}
