//! Two connections side by side: TCP+TLS for reliable frames, QUIC for what should not wait behind them.
//!
//! Both lie on one way (class and family), so that a move between them is no switch of path: nobody is told, and the
//! limit on switches does not count it. Their round trips are not compared, for the one that carries bulk measures its own
//! queue. Reliable frames prefer TCP as long as it answers. When it dies they go over QUIC at once, and TCP has to be left
//! alone for a while before they return. Where no TCP passes, a second QUIC connection stands beside the first: a congestion
//! window and a pacer are a connection's own. See ADR 0064.

use std::time::Duration;

use peerup_types::{CarrierKind, Multiaddr, PathClass, PathId, PathKind};

use super::{Machine, path::Path};
use crate::{action::Action, candidate::group, moment::Moment};

/// From one move between carriers to the next one that gains something: a middlebox that kills one of them again and
/// again brings at most two such moves a minute.
const REST: Duration = Duration::from_secs(30);

impl Machine {
    /// A carrier of the way in use that costs less, and how long it has to wait if it does.
    pub(super) fn better_carrier(&self, now: Moment) -> Option<(PathId, Option<Moment>)> {
        let active = self.active_path().filter(|active| active.is_direct())?;
        let cheaper = |path: &&Path| path.opened.kind < active.opened.kind && self.is_sibling(path, active);
        let best =
            self.candidates().filter(cheaper).min_by_key(|path| (path.opened.kind, path.opened.path))?;
        let known = best.live.is_measured() || active.live.rtt.smoothed().is_none();
        known.then_some((best.opened.path, self.carrier_rests_until(now)))
    }

    pub(super) fn carrier_rests_until(&self, now: Moment) -> Option<Moment> {
        self.carrier_moved.map(|at| at + REST).filter(|until| *until > now)
    }

    /// Two direct connections of one way.
    pub(super) fn is_sibling(&self, path: &Path, of: &Path) -> bool {
        path.is_direct()
            && path.opened.path != of.opened.path
            && path.opened.kind.is_same_way(&of.opened.kind)
    }

    /// Whether `kind` is a direct QUIC connection's, and no TCP connection stands on its way.
    pub(super) fn lacks_tcp(&self, kind: PathKind) -> bool {
        let quic = kind.class == PathClass::Direct && kind.carrier == CarrierKind::QuicStream;
        quic && !self.has_good(PathKind { carrier: CarrierKind::TcpStream, ..kind })
    }

    /// Where to dial a second QUIC connection, if packets take the only one there is and no TCP came about. An address
    /// that packets of this connection come from leads to the peer's QUIC socket, whoever dialed.
    pub(super) fn lacking_second(&self) -> Option<Multiaddr> {
        let active = self.active_path().filter(|active| self.lacks_tcp(active.opened.kind))?;
        let alone = self.beside == self.active;
        let remote = Some(&active.opened.remote).filter(|remote| group(remote).is_some())?;
        alone.then(|| remote.clone())
    }

    /// Says which connections packets take, if these are others than before.
    pub(super) fn announce(&mut self, now: Moment) {
        let beside = self.pick_beside();
        if beside != self.beside
            && let Some(path) = beside.and_then(|path| self.paths.get_mut(&path))
        {
            // As a standby path it was probed so seldom that its death would be noticed late.
            path.live.hurry(now);
        }
        self.beside = beside;
        if std::mem::replace(&mut self.used, (self.active, beside)) != self.used {
            self.actions.push_back(Action::Use { peer: self.peer, path: self.active, beside });
        }
    }

    /// Of the direct QUIC connections that answer one on the way in use, rather not the one that takes reliable frames, and
    /// the present one among equals.
    fn pick_beside(&self) -> Option<PathId> {
        let active = self.active_path().filter(|active| active.is_direct())?;
        let takes_datagrams = |path: &&Path| {
            path.is_direct() && path.is_good() && path.opened.kind.carrier == CarrierKind::QuicStream
        };
        let rank = |path: &&Path| {
            let id = path.opened.path;
            let present = self.beside == Some(id);
            (
                !path.opened.kind.is_same_way(&active.opened.kind),
                path.live.is_in_doubt() && !present,
                path.opened.kind,
                self.active == Some(id),
                !present,
                id,
            )
        };
        self.paths.values().filter(takes_datagrams).min_by_key(rank).map(|path| path.opened.path)
    }
}
