//! What a story asks about the world.

use std::time::Duration;

use peerup_path::ReservationState;
use peerup_types::{CarrierKind, PathClass, PathId, PathKind, PeerId};

use crate::{
    connection::{Over, State},
    data::Packets,
    host::{Host, Process},
    world::{HostId, SiteId, World},
};

impl World {
    /// The path that `a` uses to reach `b`.
    pub fn path(&self, a: HostId, b: HostId) -> Option<PathKind> {
        self.hosts[a.0].node()?.path_kind(&self.hosts[b.0].peer)
    }

    /// Both use a direct path to each other.
    pub fn is_direct(&self, a: HostId, b: HostId) -> bool {
        self.both(a, b, PathClass::Direct)
    }

    pub fn is_relayed(&self, a: HostId, b: HostId) -> bool {
        self.both(a, b, PathClass::Relay)
    }

    pub fn is_connected(&self, a: HostId, b: HostId) -> bool {
        self.path(a, b).is_some() && self.path(b, a).is_some()
    }

    fn both(&self, a: HostId, b: HostId, class: PathClass) -> bool {
        let is = |path: Option<PathKind>| path.is_some_and(|kind| kind.class == class);
        is(self.path(a, b)) && is(self.path(b, a))
    }

    pub fn host(&self, host: HostId) -> &Host {
        &self.hosts[host.0]
    }

    pub fn packets(&self) -> &Packets {
        &self.packets
    }

    /// The most dials that a host's node had under way at once.
    pub fn most_dials(&self, host: HostId) -> usize {
        self.hosts[host.0].node().map_or(0, |node| node.most_dials())
    }

    /// Why the path from `a` to `b` is not better.
    pub fn summary(&self, a: HostId, b: HostId) -> Option<String> {
        let host = &self.hosts[a.0];
        host.node()?.summary(&self.hosts[b.0].peer, host.clock(self.now))
    }

    /// Connections that a host opened or accepted, relays included.
    pub fn opened(&self, host: HostId) -> u64 {
        self.hosts[host.0].tally.opened
    }

    pub fn site(&self, host: HostId) -> SiteId {
        self.hosts[host.0].site
    }

    pub fn has_reservation(&self, host: HostId) -> bool {
        let relays = self.hosts[host.0].node().map(|node| node.relays()).unwrap_or_default();
        relays.iter().any(|relay| relay.state == ReservationState::Held)
    }

    /// When the newest packet of `a` that arrived at `b` was sent.
    pub fn newest(&self, a: HostId, b: HostId) -> Option<Duration> {
        self.hosts[b.0].newest.get(&self.hosts[a.0].peer).copied()
    }

    /// Kind and relay of every path that is ready on a host, sorted.
    pub fn kinds_of_paths(&self, host: HostId) -> Vec<(PathKind, Option<PeerId>)> {
        let peers = self.hosts[host.0].node().map(|node| node.peers()).unwrap_or_default();
        let paths = peers.iter().flat_map(|view| &view.paths);
        let mut kinds: Vec<_> = paths.map(|(opened, ..)| (opened.kind, opened.relay)).collect();
        kinds.sort();
        kinds
    }

    /// Whether a host left a working direct path for a relay within this time.
    pub fn left_live_direct(&self, within: Duration) -> bool {
        let since = self.now - within;
        let changes = self.hosts.iter().flat_map(|host| &host.tally.path_changes);
        changes.filter(|change| change.at >= since).any(|change| change.leaves_live_direct)
    }

    pub(crate) fn has_working_direct(&mut self, host: HostId, peer: &PeerId) -> bool {
        let ends = self.ends_to(host, peer);
        ends.into_iter().any(|end| {
            let direct = matches!(self.connections[&end.connection].over, Over::Direct(_));
            let state = self.end(end).map(|end| end.state);
            direct && state == Some(State::Open) && self.works(end.connection)
        })
    }

    /// What `a` sends reliable frames to `b` on, and what stands beside it.
    pub fn carriers(&self, a: HostId, b: HostId) -> (Option<CarrierKind>, Option<CarrierKind>) {
        let Process::Node(running) = &self.hosts[a.0].process else { return (None, None) };
        let peer = self.hosts[b.0].peer;
        let kind = |path: Option<&PathId>| {
            let end = running.ends.get(path?)?;
            Some(self.connections.get(&end.connection)?.kind().carrier)
        };
        (kind(running.active.get(&peer)), kind(running.beside.get(&peer)))
    }

    /// Whether `a` has one connection to `b` for reliable frames and another one beside it.
    pub fn has_two_in_use(&self, a: HostId, b: HostId) -> bool {
        let Process::Node(running) = &self.hosts[a.0].process else { return false };
        let peer = self.hosts[b.0].peer;
        let beside = running.beside.get(&peer);
        beside.is_some() && beside != running.active.get(&peer)
    }

    /// Whether a connection to `b` that is dead stands beside the one on which `a` sends.
    pub fn keeps_dead_beside(&mut self, a: HostId, b: HostId) -> bool {
        let peer = self.hosts[b.0].peer;
        let Process::Node(running) = &self.hosts[a.0].process else { return false };
        let Some(end) = running.beside.get(&peer).and_then(|path| running.ends.get(path)).copied() else {
            return false;
        };
        !self.works(end.connection)
    }

    /// Whether `a` sends to `b` on a path that is dead although another one, ready for use, is alive.
    pub fn clings_to_dead_path(&mut self, a: HostId, b: HostId) -> bool {
        let peer = self.hosts[b.0].peer;
        let Some(node) = self.hosts[a.0].node() else { return false };
        let Some(view) = node.peers().into_iter().find(|view| view.peer == peer) else { return false };
        let Some(active) = view.path.map(|opened| opened.path) else { return false };
        let Process::Node(running) = &self.hosts[a.0].process else { return false };
        let ready: Vec<_> = view
            .paths
            .iter()
            .filter_map(|(opened, ..)| Some((opened.path, *running.ends.get(&opened.path)?)))
            .collect();
        let mut works = ready.into_iter().map(|(path, end)| (path, self.works(end.connection)));
        let (active, others): (Vec<_>, Vec<_>) = works.by_ref().partition(|(path, _)| *path == active);
        !active.iter().any(|(_, works)| *works) && others.iter().any(|(_, works)| *works)
    }
}
