//! Surplus connections: both sides may dial at once and end up with several of one kind.
//!
//! Where no TCP connection stands on a way, two of QUIC are no surplus: one for reliable frames, one beside it.

use std::time::Duration;

use peerup_types::{PathId, PathKind};

use super::{Machine, RETIRE_FOR};
use crate::{
    action::{Action, Reason},
    moment::Moment,
};

/// Twins are left alone until both sides have had time to see both: the hellos of a lossy line take this long.
pub const GRACE: Duration = Duration::from_millis(1500);

impl Machine {
    /// Surplus connections that this side dialed: as many of the same kind as have a use were dialed by the peer with
    /// the smaller ID, or by us earlier.
    pub(super) fn twins(&self) -> impl Iterator<Item = PathId> + '_ {
        let ready = || self.paths.values().filter(|path| path.is_good());
        ready().filter(|path| path.opened.outbound).filter_map(move |own| {
            let same = |other: &&super::Path| {
                let (own, other) = (&own.opened, &other.opened);
                own.path != other.path && own.kind == other.kind && own.relay == other.relay
            };
            let before = ready().filter(same).filter(|other| match other.opened.outbound {
                true => other.opened.path < own.opened.path,
                false => !self.first,
            });
            (before.count() >= self.useful(own.opened.kind)).then_some(own.opened.path)
        })
    }

    /// How many connections of a kind have a use.
    fn useful(&self, kind: PathKind) -> usize {
        if self.lacks_tcp(kind) { 2 } else { 1 }
    }

    /// Surplus connections are announced, left alone for what is in flight, then closed.
    pub(super) fn close_twins(&mut self, now: Moment) {
        let aged = |path: &PathId| self.paths[path].since + GRACE <= now;
        let surplus: Vec<PathId> = self.twins().filter(aged).collect();
        for path in surplus {
            let Some(found) = self.paths.get_mut(&path) else { continue };
            found.retiring = Some(now + RETIRE_FOR);
            self.actions.push_back(Action::Retire { path });
            // The survivor's kind is the same, so packets notice nothing.
            self.leave(path, Reason::BetterPath, now);
        }
        let retired = |path: &super::Path| path.retiring.is_some_and(|at| at <= now);
        let gone: Vec<PathId> = self.paths.values().filter(|p| retired(p)).map(|p| p.opened.path).collect();
        for path in gone {
            self.forget(path, Reason::PathClosed, now);
            self.actions.push_back(Action::Close { path });
        }
    }
}
