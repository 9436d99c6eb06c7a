//! From what membership decides to what is said, kept and routed; and from the hellos of peers to their starts.

use std::time::Instant;

use peerup_membership as membership;
use peerup_path::PeerPaths;
use peerup_types::{AddressClaim, PathId, PeerId};
use peerup_wire::control::Control;

use crate::{
    action::{Action, Event},
    node::{Known, Node},
};

impl Node {
    /// Follows what membership decided: our address, everybody's routes, the file, what peers have to know.
    pub fn follow_membership(&mut self) {
        while let Some(event) = self.membership.poll_event() {
            self.persist();
            match event {
                membership::Event::OwnAddressChanged { old, new, lost_to } => {
                    if let (Some(address), Some(winner)) = (old, lost_to) {
                        self.events.push_back(Event::AddressLost { address, winner });
                    }
                    self.routed = None;
                    self.actions.push_back(Action::Readdress { address: new });
                    self.announce_own_claim();
                }
                membership::Event::AddressChanged { .. } => self.routed = None,
                membership::Event::ClaimLost { loser, winner, .. } => {
                    let claim = self.membership.claim_of(&winner).cloned();
                    self.say_claims(&loser, claim);
                }
            }
        }
    }

    pub(crate) fn say(&mut self, peer: &PeerId, control: Control) {
        let Some((opened, ..)) = self.members.get(peer).and_then(PeerPaths::active) else { return };
        self.actions.push_back(Action::Say { path: opened.path, control });
    }

    pub(crate) fn persist(&mut self) {
        if !self.actions.iter().any(|action| matches!(action, Action::Persist)) {
            self.actions.push_back(Action::Persist);
        }
    }

    fn announce_own_claim(&mut self) {
        let claim = self.membership.own_claim().cloned();
        for peer in self.members.keys().copied().collect::<Vec<_>>() {
            self.say_claims(&peer, claim.clone());
        }
    }

    fn say_claims(&mut self, peer: &PeerId, claim: Option<AddressClaim>) {
        if let Some(claim) = claim {
            self.say(peer, Control::Claims(vec![claim]));
        }
    }

    /// A hello of another start of the peer's daemon: what an earlier start opened leads nowhere, although this
    /// host's transport does not know it yet.
    pub(crate) fn note_epoch(&mut self, path: PathId, peer: &PeerId, epoch: u64, now: Instant) {
        if let Some(known) = self.paths.get_mut(&path) {
            known.epoch = Some(epoch);
        }
        // Only older paths: a hello that was read late says nothing about what came after it.
        let differs = |known: &Known| known.peer == *peer && known.epoch.is_some_and(|other| other != epoch);
        let older = self.paths.range(..path).filter(|(_, known)| differs(known));
        let stale: Vec<PathId> = older.map(|(id, _)| *id).collect();
        if !stale.is_empty()
            && let Some(member) = self.members.get_mut(peer)
        {
            member.handle_restarted(now);
        }
        for path in stale {
            if let Some(member) = self.members.get_mut(peer) {
                member.handle_unusable(path, now);
            }
        }
    }
}
