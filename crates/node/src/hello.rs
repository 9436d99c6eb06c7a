//! Greeting: what we say, and what we make of what a peer says.

use std::time::Instant;

use peerup_membership::Outcome;
use peerup_types::{AddressClaim, PathId, PeerId};
use peerup_wire::{
    MAX_CLAIMS,
    control::Control,
    hello::{FEATURE_ACKS, FEATURE_DATAGRAMS, FEATURE_SUPER_PACKETS, Hello, HelloAck, RefusalReason},
    version::VersionRange,
};

use crate::node::Node;

impl Node {
    /// Our side of a hello: sent first on our own streams, and as the answer on a peer's.
    pub fn hello(&self) -> Hello {
        let own = self.membership.own();
        Hello {
            versions: VersionRange::SUPPORTED,
            features: FEATURE_SUPER_PACKETS | FEATURE_DATAGRAMS | FEATURE_ACKS,
            boot_epoch: self.config.boot_epoch,
            overlay: self.membership.own_addrs(),
            own_claim: self.membership.own_claim().cloned(),
            known_claims: self.claims_of_others(&own),
            name: self.config.name.clone(),
            mtu: self.config.mtu,
            network: self.config.network.clone(),
            relay_addresses: self.peer_relays.own().to_vec(),
        }
    }

    /// A peer's hello on a stream that it opened. The answer goes back on the same stream.
    pub fn handle_hello(
        &mut self,
        path: PathId,
        peer: &PeerId,
        hello: &Hello,
        now: Instant,
        unix_now: u64,
    ) -> HelloAck {
        if let Err(reason) = self.judge(peer, hello) {
            return HelloAck::Refused { versions: VersionRange::SUPPORTED, reason };
        }
        self.note_epoch(path, peer, hello.boot_epoch, now);
        self.learn(peer, hello, now, unix_now);
        self.settle(now);
        HelloAck::Accepted(self.hello())
    }

    /// The answer to our hello. `false` means that the path is of no use.
    pub(crate) fn accept_ack(
        &mut self,
        path: PathId,
        peer: &PeerId,
        ack: &HelloAck,
        now: Instant,
        unix_now: u64,
    ) -> bool {
        match ack {
            HelloAck::Accepted(hello) if self.judge(peer, hello).is_ok() => {
                self.note_epoch(path, peer, hello.boot_epoch, now);
                self.learn(peer, hello, now, unix_now);
                true
            }
            HelloAck::Accepted(_) | HelloAck::Refused { .. } => false,
        }
    }

    fn judge(&self, peer: &PeerId, hello: &Hello) -> Result<(), RefusalReason> {
        if !self.members.contains_key(peer) {
            return Err(RefusalReason::NotAuthorised);
        }
        if hello.versions.highest_common(VersionRange::SUPPORTED).is_err() {
            return Err(RefusalReason::Version);
        }
        if hello.network != self.config.network {
            return Err(RefusalReason::Network);
        }
        Ok(())
    }

    fn learn(&mut self, peer: &PeerId, hello: &Hello, now: Instant, unix_now: u64) {
        self.learn_offer(*peer, &hello.relay_addresses, now);
        if self.mtus.insert(*peer, hello.mtu) != Some(hello.mtu) {
            self.routed = None;
        }
        if let Some(name) = hello.name.clone()
            && self.membership.name_of(peer) != Some(&name)
        {
            self.membership.set_name(*peer, name);
            self.persist();
        }
        let claims = hello.own_claim.iter().filter(|claim| claim.peer == *peer).chain(&hello.known_claims);
        self.learn_claims(peer, claims.cloned().collect(), unix_now);
    }

    /// Takes claims that `from` made or passed on. One that is out of date is answered with what this node knows, so
    /// that a peer that lost its state catches up.
    pub(crate) fn learn_claims(&mut self, from: &PeerId, claims: Vec<AddressClaim>, unix_now: u64) {
        let mut newer = Vec::new();
        for claim in claims {
            // Refused claims (strangers', damaged ones) are not this peer's to answer for.
            if let Ok(Outcome::Stale) = self.membership.handle_claim(claim.clone(), unix_now) {
                newer.extend(self.membership.claim_of(&claim.peer).filter(|known| **known != claim).cloned());
            }
        }
        self.follow_membership();
        newer.truncate(MAX_CLAIMS);
        if !newer.is_empty() {
            self.say(from, Control::Claims(newer));
        }
    }

    fn claims_of_others(&self, own: &PeerId) -> Vec<AddressClaim> {
        self.membership.claims().filter(|claim| claim.peer != *own).take(MAX_CLAIMS).cloned().collect()
    }
}
