//! Circuits: which relays the peer is looked for through, and when.

use std::time::Instant;

use peerup_types::{Multiaddr, PeerId, Protocol};

use super::PeerPaths;
use crate::action::{Action, Role};

impl PeerPaths {
    /// The relays through which the peer may be reached changed.
    pub fn handle_circuits(&mut self, circuits: Vec<Multiaddr>, now: Instant) {
        let more: Vec<Multiaddr> =
            circuits.iter().filter(|circuit| !self.circuits.contains(circuit)).cloned().collect();
        self.circuits = circuits;
        if more.is_empty() || self.has_direct() {
            return;
        }
        match self.active {
            None => self.reach.hasten(now),
            // A better relay than the one in use, or one to fall back to.
            Some(_) => self.dial_circuits(more),
        }
    }

    pub(super) fn dial_circuits(&mut self, circuits: Vec<Multiaddr>) {
        let peer = self.peer;
        let dial = |circuit| Action::Dial { peer, addresses: vec![circuit], role: Role::Dialer };
        self.actions.extend(circuits.into_iter().map(dial));
    }

    /// Circuits through relays that no path leads through: the peer may have got its reservation there meanwhile.
    pub(super) fn missing_circuits(&self) -> Vec<Multiaddr> {
        let used = |relay: Option<PeerId>| self.paths.values().any(|path| path.opened.relay == relay);
        let missing = |circuit: &&Multiaddr| relay_of(circuit).is_some_and(|relay| !used(Some(relay)));
        self.circuits.iter().filter(missing).cloned().collect()
    }
}

/// The relay of a circuit address.
fn relay_of(circuit: &Multiaddr) -> Option<PeerId> {
    circuit.iter().take_while(|part| *part != Protocol::P2pCircuit).find_map(|part| match part {
        Protocol::P2p(relay) => Some(relay),
        _ => None,
    })
}
