//! The files that people edit: read again, and made to count.

use std::collections::{BTreeMap, BTreeSet};

use peerup_swarm::Admission;
use peerup_types::{Multiaddr, PeerId};

use super::{Controller, Mode};
use crate::{error::describe, files};

impl Controller {
    /// Reads `authorized_keys` and the configuration again. What cannot be read keeps its old meaning.
    pub async fn reload(&mut self) {
        self.reload_config().await;
        match self.files.keys() {
            Ok(keys) => {
                self.keys = keys;
                self.keys_problem = None;
            }
            Err(error) => {
                tracing::error!(error = %describe(&error), "the keys in use stay");
                self.keys_problem = Some(describe(&error));
            }
        }
        self.apply_relays();
        self.apply_trust();
        self.configure_services();
    }

    /// Makes the keys count: who may connect, who is a member, who is routed to.
    pub fn apply_trust(&mut self) {
        let (now, unix) = (peerup_clock::now(), peerup_clock::unix());
        let own = self.swarm.local_peer();
        self.next_expiry = self.keys.next_expiry(unix);
        let members = files::members(&self.keys, unix);
        let authorized: BTreeSet<PeerId> = members.keys().copied().filter(|peer| *peer != own).collect();
        if let Some(observer) = &mut self.observer {
            observer.keys_count(&authorized);
        }
        match self.mode {
            Mode::Member { .. } | Mode::Visitor => {
                let pin = self.files.config.vpn.address;
                if let Err(error) = self.node.set_members(members, pin, now, unix) {
                    tracing::error!(error = %describe(&error), "a pinned address is not used");
                }
            }
            // A host that only pairs keeps the books and connects to nobody.
            Mode::Pairing => {
                let membership = self.node.membership_mut();
                membership.set_authorized(authorized.clone(), unix);
                self.node.follow_membership();
            }
        }
        self.remind_node();
        let authorized = if self.mode == Mode::Pairing { BTreeSet::new() } else { authorized };
        self.offer_to(&authorized);
        let infrastructure = self.relays().into_keys().collect();
        let guests = self.invites.is_open();
        self.swarm.set_admission(Admission { authorized, infrastructure, guests, open: false });
    }

    pub fn apply_relays(&mut self) {
        let relays = self.relays();
        self.node.set_relays(relays, peerup_clock::now());
    }

    pub(crate) fn relays(&self) -> BTreeMap<PeerId, Vec<Multiaddr>> {
        let configured = self.files.config.relays().into_iter().map(|relay| (relay.peer, relay.addresses));
        let mut relays: BTreeMap<_, _> = self.extra_relays.clone();
        relays.extend(configured);
        relays
    }

    /// An expired key stops counting the moment it expires.
    pub(super) fn drop_expired_keys(&mut self) {
        if self.next_expiry.is_some_and(|at| at <= peerup_clock::unix()) {
            self.apply_trust();
        }
    }
}
