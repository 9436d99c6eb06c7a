//! Facts from outside: what the swarm reports of connections and addresses, and what streams carry.

use std::time::{Duration, Instant};

use peerup_path::{Opened, PeerPaths, ReservationState};
use peerup_types::{Multiaddr, PathClass, PathId, PeerId};
use peerup_wire::{
    control::{Control, GoodbyeReason, Punch},
    hello::HelloAck,
};

use crate::{
    action::{Action, Event},
    node::{Known, Node},
    relaying::circuits,
};

impl Node {
    // What the swarm reports

    pub fn handle_opened(&mut self, peer: PeerId, opened: Opened, now: Instant) {
        self.paths.insert(opened.path, Known { peer, epoch: None });
        if opened.outbound {
            self.dials.ended(&peer, std::slice::from_ref(&opened.remote));
        }
        self.note_opened(&peer, &opened, now);
        let opened = self.classed(opened);
        // A member may be configured as a relay, too.
        if let Some(relay) = self.relays.get_mut(&peer).filter(|_| opened.kind.class == PathClass::Direct) {
            relay.handle_connected(opened.path, &opened.remote);
        }
        if let Some(member) = self.members.get_mut(&peer) {
            member.handle_opened(opened, now);
        }
        self.settle(now);
    }

    pub fn handle_closed(&mut self, path: PathId, now: Instant) {
        let Some(Known { peer, .. }) = self.paths.remove(&path) else { return };
        self.reached.handle_closed(path, now);
        self.addresses.closed(path);
        if self.peer_relays.handle_closed(path).is_some_and(|peer| !self.relays.contains_key(&peer)) {
            // What the peer saw us as was true for this connection.
            self.addresses.forget_relay(&peer);
            self.follow_relays(now);
        }
        if let Some(relay) = self.relays.get_mut(&peer) {
            let held = relay.state();
            relay.handle_disconnected(path, now);
            if held == ReservationState::Held && relay.state() != ReservationState::Held {
                self.events.push_back(Event::RelayLost { relay: peer });
                self.addresses.forget_relay(&peer);
                self.follow_relays(now);
            }
        }
        if let Some(member) = self.members.get_mut(&peer) {
            member.handle_closed(path, now);
        }
        self.settle(now);
    }

    /// A dial of these addresses came to nothing.
    pub fn handle_dial_failed(&mut self, peer: &PeerId, addresses: &[Multiaddr], error: &str, now: Instant) {
        self.dials.ended(peer, addresses);
        if let (Some(member), [address]) = (self.members.get_mut(peer), addresses) {
            member.handle_dial_failed(address.clone(), error.to_owned(), now);
        }
        if let Some(relay) = self.relays.get_mut(peer) {
            relay.handle_dial_failed(now);
            self.follow_relays(now);
        }
        self.settle(now);
    }

    /// identify finished on a connection to a relay or a member that relays: `observed` is how it sees us.
    pub fn handle_identified(
        &mut self,
        peer: PeerId,
        path: PathId,
        listen: &[Multiaddr],
        observed: &Multiaddr,
        now: Instant,
    ) {
        if let Some(relay) = self.relays.get_mut(&peer) {
            relay.handle_identified(listen, now);
        } else if !self.peer_relays.offers(&peer) {
            return;
        }
        if self.addresses.observed(peer, path, observed) {
            self.tell_mapping(now);
            self.actions.push_back(Action::Candidate(observed.clone()));
            self.retry_direct(now);
        }
        self.settle(now);
    }

    pub fn handle_reserved(&mut self, relay: PeerId, now: Instant) {
        let news = match self.relays.get_mut(&relay) {
            Some(reservation) => {
                let news = reservation.state() != ReservationState::Held;
                reservation.handle_reserved(now);
                news
            }
            None => self.peer_relays.handle_reserved(relay),
        };
        if news {
            self.events.push_back(Event::RelayReserved { relay });
        }
        self.follow_relays(now);
        self.settle(now);
    }

    pub fn handle_reservation_lost(&mut self, relay: PeerId, now: Instant) {
        let held = match self.relays.get_mut(&relay) {
            Some(reservation) => {
                let held = reservation.state() == ReservationState::Held;
                reservation.handle_lost(now);
                held
            }
            None => self.peer_relays.handle_lost(relay, now),
        };
        if held {
            self.events.push_back(Event::RelayLost { relay });
        }
        self.follow_relays(now);
        self.settle(now);
    }

    pub fn handle_listening(&mut self, address: Multiaddr, now: Instant) {
        let before = self.addresses.candidates();
        self.addresses.listening(address);
        if self.addresses.candidates() != before {
            self.retry_direct(now);
        }
        self.settle(now);
    }

    pub fn handle_listen_expired(&mut self, address: &Multiaddr, now: Instant) {
        self.addresses.expired(address);
        self.reached.forget();
        self.network_changed(now);
        self.settle(now);
    }

    /// What the router forwards to this host, in place of what it forwarded before.
    pub fn handle_mapped(&mut self, mapped: Vec<Multiaddr>, now: Instant) {
        if self.addresses.mapped(mapped) {
            self.retry_direct(now);
        }
        self.settle(now);
    }

    /// Multicast DNS or the configuration knows an address of a peer.
    pub fn handle_address(&mut self, peer: &PeerId, address: Multiaddr, now: Instant) {
        if let Some(member) = self.members.get_mut(peer) {
            member.handle_address(address, now);
        }
        self.settle(now);
    }

    /// The host woke up or the swarm restarted: nothing that was waited for will come.
    pub fn handle_wake(&mut self, now: Instant) {
        self.network_changed(now);
        self.settle(now);
    }

    // What streams report

    /// The answer to our hello on a path.
    pub fn handle_ack(&mut self, path: PathId, ack: &HelloAck, now: Instant, unix_now: u64) -> bool {
        let Some(Known { peer, .. }) = self.paths.get(&path).copied() else { return false };
        let accepted = self.accept_ack(path, &peer, ack, now, unix_now);
        let reached = self.members.get(&peer).is_some_and(|member| member.active().is_some());
        if let Some(member) = self.members.get_mut(&peer) {
            match accepted {
                true => member.handle_ready(path, now),
                false => member.handle_unusable(path, now),
            }
        }
        if accepted {
            self.note_direct(path, &peer, now);
        }
        if !reached && let Some(claim) = self.membership.own_claim().cloned() {
            // One that was made after the hello was written went to connected peers only.
            self.say(&peer, Control::Claims(vec![claim]));
            self.say(&peer, Control::RelayOffer(self.peer_relays.own().to_vec()));
        }
        self.settle(now);
        accepted
    }

    /// A stream of the path failed or its greeting did.
    pub fn handle_broken(&mut self, path: PathId, now: Instant) {
        if let Some(member) = self.member_on(path) {
            member.handle_unusable(path, now);
        }
        self.settle(now);
    }

    pub fn handle_answer(&mut self, path: PathId, rtt: Duration, now: Instant) {
        if let Some(member) = self.member_on(path) {
            member.handle_answer(path, rtt, now);
        }
        self.settle(now);
    }

    /// Frames arrived on the path since the last call.
    pub fn handle_heard(&mut self, path: PathId, now: Instant) {
        if let Some(member) = self.member_on(path) {
            member.handle_heard(path, now);
        }
    }

    /// Packets went out on the path for half a second, and nothing came back.
    pub fn handle_unanswered(&mut self, path: PathId, now: Instant) {
        if let Some(member) = self.member_on(path) {
            member.handle_unanswered(path, now);
        }
        self.settle(now);
    }

    pub fn handle_traffic(&mut self, peer: &PeerId, now: Instant) {
        if let Some(member) = self.members.get_mut(peer) {
            member.handle_traffic(now);
        }
        self.settle(now);
    }

    pub fn handle_wanted(&mut self, peer: &PeerId, now: Instant) {
        if let Some(member) = self.members.get_mut(peer) {
            member.handle_wanted(now);
            member.handle_timeout(now);
        }
        self.settle(now);
    }

    pub fn handle_control(&mut self, path: PathId, control: Control, now: Instant, unix_now: u64) {
        let Some(Known { peer, .. }) = self.paths.get(&path).copied() else { return };
        let Some(member) = self.members.get_mut(&peer) else { return };
        match control {
            Control::Goodbye(GoodbyeReason::PathReplaced) => member.handle_retired(path, now),
            Control::Goodbye(GoodbyeReason::Shutdown | GoodbyeReason::NotAuthorised) => {
                member.handle_goodbye(now)
            }
            Control::Goodbye(GoodbyeReason::ProtocolError | GoodbyeReason::Unspecified) => {
                member.handle_unusable(path, now);
            }
            Control::Claims(claims) => self.learn_claims(&peer, claims, unix_now),
            Control::PunchRequest(Punch { attempt, mapping, addrs, .. }) => {
                member.handle_punch_request(path, attempt, &addrs, mapping, now);
            }
            Control::PunchReply(Punch { attempt, mapping, addrs, .. }) => {
                member.handle_punch_reply(attempt, &addrs, mapping, now)
            }
            Control::RelayOffer(addresses) => self.learn_offer(peer, &addresses, now),
            Control::Unknown(_) => {}
        }
        self.settle(now);
    }

    // Inside

    fn member_on(&mut self, path: PathId) -> Option<&mut PeerPaths> {
        let Known { peer, .. } = self.paths.get(&path)?;
        self.members.get_mut(peer)
    }

    pub(crate) fn network_changed(&mut self, now: Instant) {
        self.addresses.moved();
        for relay in self.relays.values_mut() {
            relay.handle_network_changed(now);
        }
        for member in self.members.values_mut() {
            member.handle_network_changed(now);
        }
    }

    /// There is a new address to offer.
    fn retry_direct(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            member.handle_new_candidate(now);
        }
    }

    pub(crate) fn update_circuits(&mut self, now: Instant) {
        let ways = self.ways();
        for (peer, member) in &mut self.members {
            member.handle_circuits(circuits(&ways, peer), now);
        }
    }
}
