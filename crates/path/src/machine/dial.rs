//! Dials: one address each, staggered, and what came of them.

use std::time::Duration;

use peerup_types::{CarrierKind, Family, Multiaddr, PathClass, PathKind, Protocol};
use serde::{Deserialize, Serialize};

use super::Machine;
use crate::{
    action::{Action, Role},
    candidate::{Group, group},
    moment::Moment,
    schedule::DIAL_PATIENCE,
};

/// RFC 8305 (happy eyeballs) in our order: what needs no NAT first, then IPv4 through NATs, then TCP, which is wanted
/// beside QUIC: soon enough to be ready before packets leave a relay for either. Both ends of a punch use the same
/// offsets.
const TRANSLATED_AFTER: Duration = Duration::from_millis(50);
const TCP_AFTER: Duration = Duration::from_millis(100);
/// Dials waiting for their turn: the candidates of two offers.
const MAX_PLANNED: usize = 32;
/// Addresses whose last dial is remembered.
const MAX_TRIES: usize = 32;
/// A connection of the wanted kind that is this young may be about to become a path.
const OPENING: Duration = Duration::from_secs(2);
/// Longer error texts are cut: they come from outside.
const MAX_ERROR: usize = 160;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Planned {
    pub at: Moment,
    pub address: Multiaddr,
    pub role: Role,
}

/// The last dial of an address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Try {
    pub at: Moment,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    Pending,
    Connected,
    Failed(String),
}

impl Machine {
    /// Plans a dial of each address from `start` on. Only TCP needs one side to listen in a simultaneous open; QUIC
    /// dials from its listening socket on both.
    pub(super) fn plan(&mut self, addresses: Vec<Multiaddr>, role: Role, start: Moment) {
        for address in addresses {
            let Some(group) = group(&address) else { continue };
            let known = self.planned.iter().any(|planned| planned.address == address);
            if known || self.planned.len() >= MAX_PLANNED {
                continue;
            }
            let role = if group.is_tcp() { role } else { Role::Dialer };
            self.planned.push(Planned { at: start + offset(&address, group), address, role });
        }
    }

    /// Dials what is due, except for kinds of path that are there by now and addresses that are being dialed: a second
    /// connection attempt beside the first gains nothing.
    pub(super) fn dial_planned(&mut self, now: Moment) {
        let (due, later) = std::mem::take(&mut self.planned).into_iter().partition(|dial| dial.at <= now);
        self.planned = later;
        let due: Vec<Planned> = due;
        for Planned { address, role, .. } in due {
            if !self.is_there(&address, now) && !self.is_under_way(&address, now) {
                self.dial(address, role, now);
            }
        }
    }

    pub(super) fn dial(&mut self, address: Multiaddr, role: Role, now: Moment) {
        if self.tries.len() >= MAX_TRIES
            && !self.tries.contains_key(&address)
            && let Some(oldest) =
                self.tries.iter().min_by_key(|(_, tried)| tried.at).map(|(key, _)| key.clone())
        {
            self.tries.remove(&oldest);
        }
        self.tries.insert(address.clone(), Try { at: now, outcome: Outcome::Pending });
        self.actions.push_back(Action::Dial { peer: self.peer, address, role });
    }

    /// Whether a path of the kind that `address` leads to is alive or may be so in a moment.
    fn is_there(&self, address: &Multiaddr, now: Moment) -> bool {
        let Some(kind) = group(address).map(kind) else { return false };
        let opening = |path: &super::Path| {
            path.ready.is_none() && path.opened.kind == kind && now.since(path.since) < OPENING
        };
        self.has_good(kind) || self.paths.values().any(opening)
    }

    pub(super) fn is_under_way(&self, address: &Multiaddr, now: Moment) -> bool {
        let pending = |tried: &&Try| tried.outcome == Outcome::Pending && now.since(tried.at) < DIAL_PATIENCE;
        self.tries.get(address).filter(pending).is_some()
    }

    pub(super) fn note_success(&mut self, remote: &Multiaddr) {
        if let Some(tried) = self.tries.get_mut(remote) {
            tried.outcome = Outcome::Connected;
        }
    }

    pub(super) fn dial_failed(&mut self, address: &Multiaddr, error: String) {
        if let Some(tried) = self.tries.get_mut(address).filter(|tried| tried.outcome == Outcome::Pending) {
            tried.outcome = Outcome::Failed(error.chars().take(MAX_ERROR).collect());
        }
    }
}

fn offset(address: &Multiaddr, group: Group) -> Duration {
    match group {
        Group::QuicV6 => Duration::ZERO,
        Group::QuicV4 if is_private(address) => Duration::ZERO,
        Group::QuicV4 => TRANSLATED_AFTER,
        Group::TcpV6 | Group::TcpV4 => TCP_AFTER,
    }
}

/// Whether `address` is IPv4 and of no use beyond its own network.
pub fn is_private(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Ip4(ip)) if ip.is_private())
}

pub fn kind(group: Group) -> PathKind {
    let (family, carrier) = match group {
        Group::QuicV6 => (Family::Ipv6, CarrierKind::QuicStream),
        Group::QuicV4 => (Family::Ipv4, CarrierKind::QuicStream),
        Group::TcpV6 => (Family::Ipv6, CarrierKind::TcpStream),
        Group::TcpV4 => (Family::Ipv4, CarrierKind::TcpStream),
    };
    PathKind { class: PathClass::Direct, family, carrier }
}
