//! What status shows of members and relays.

use std::time::{Duration, Instant};

use peerup_path::{Explanation, Opened, PeerPaths, Reason, Reservation, ReservationState};
use peerup_types::{DnsLabel, Multiaddr, OverlayAddrs, PathId, PathKind, PeerId};

use crate::{addresses::OwnAddresses, node::Node};

/// A member as status shows it.
#[derive(Debug, Clone)]
pub struct PeerView {
    pub peer: PeerId,
    pub name: Option<DnsLabel>,
    pub addresses: OverlayAddrs,
    pub path: Option<Opened>,
    pub since: Option<Instant>,
    pub rtt: Option<Duration>,
    /// Share of unanswered probes on the path in use, 0 to 1.
    pub loss: f64,
    pub connecting: bool,
    pub reason: Option<Reason>,
    /// Every usable path, the one in use first, with its round trip and the time since when it is open.
    pub paths: Vec<(Opened, Option<Duration>, Instant)>,
}

#[derive(Debug, Clone)]
pub struct RelayView {
    pub relay: PeerId,
    /// Configured addresses first, then those that the relay told us.
    pub addresses: Vec<Multiaddr>,
    pub state: ReservationState,
    pub used: RelayUse,
}

/// What a relay is to us (docs/adr/0047).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayUse {
    /// Peers are expected to reach us through it.
    Active,
    /// It holds a reservation and takes over when the active one is lost.
    Standby,
    /// A reservation is sought.
    Sought,
    /// Enough others hold one.
    Candidate,
}

impl Node {
    pub fn peers(&self) -> Vec<PeerView> {
        self.members.iter().map(|(peer, paths)| self.view(peer, paths)).collect()
    }

    pub fn relays(&self) -> Vec<RelayView> {
        let view = |relay: &Reservation| RelayView {
            relay: relay.relay(),
            addresses: relay.addresses().to_vec(),
            state: relay.state(),
            used: self.relay_use(relay),
        };
        self.relays.values().map(view).collect()
    }

    /// What kind of path packets to a peer take.
    pub fn path_kind(&self, peer: &PeerId) -> Option<PathKind> {
        Some(self.members.get(peer)?.active()?.0.kind)
    }

    /// Why the path to a peer is not better, in a few words.
    pub fn summary(&self, peer: &PeerId, now: Instant) -> Option<String> {
        self.members.get(peer)?.summary(now)
    }

    /// Everything that bears on the choice of the path to a peer.
    pub fn explain(&self, peer: &PeerId, now: Instant) -> Option<Explanation> {
        Some(self.members.get(peer)?.explain(now))
    }

    /// The decision journal of a peer, on paper.
    pub fn journal(&self, peer: &PeerId, now: Instant, unix: u64) -> Option<String> {
        Some(self.members.get(peer)?.export(now, unix))
    }

    /// The most dials that were under way at once.
    pub fn most_dials(&self) -> usize {
        self.dials.most()
    }

    /// The peers on which everybody's goodbye is said, one path each.
    pub fn active_paths(&self) -> Vec<PathId> {
        self.members.values().filter_map(|member| Some(member.active()?.0.path)).collect()
    }

    pub fn addresses(&self) -> &OwnAddresses {
        &self.addresses
    }

    fn view(&self, peer: &PeerId, paths: &PeerPaths) -> PeerView {
        let active = paths.active();
        PeerView {
            peer: *peer,
            name: self.membership.name_of(peer).cloned(),
            addresses: self.membership.addrs_of(peer),
            path: active.map(|(opened, ..)| opened.clone()),
            since: active.map(|(.., since)| since),
            rtt: active.and_then(|(_, rtt, _)| rtt),
            loss: paths.loss(),
            connecting: paths.is_connecting(),
            reason: paths.reason(),
            paths: paths
                .ready()
                .into_iter()
                .map(|(opened, rtt, since)| (opened.clone(), rtt, since))
                .collect(),
        }
    }
}
