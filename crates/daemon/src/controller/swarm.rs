//! What the swarm reports.

use peerup_path::Opened;
use peerup_swarm::{Event, InboundStream, PathHandle};
use peerup_wire::protocol;

use super::{Controller, Done, KnownPath, Mode};
use crate::greet;

impl Controller {
    pub(super) fn on_swarm(&mut self, event: Event) {
        let now = peerup_clock::now();
        self.on_relaying(&event);
        match event {
            Event::PathOpened(handle) => self.on_opened(handle),
            Event::PathClosed { path, .. } => {
                self.paths.remove(&path);
                self.forget_path(path);
                self.forget_path_use(path);
                self.node.handle_closed(path, now);
                self.closed.push(path);
            }
            Event::Inbound(stream) => self.on_inbound(stream),
            Event::DialFailed { dial, peer, error } => {
                tracing::debug!(?peer, %error, "dial failed");
                self.on_join_dial_failed(dial, &error);
                if let Some(observer) = &mut self.observer {
                    observer.dial_failed(dial);
                }
                let addresses = self.dialed.remove(dial);
                // Dials of libp2p's own behaviours are none of the node's.
                if let Some(peer) = peer.filter(|_| !addresses.is_empty()) {
                    self.node.handle_dial_failed(&peer, &addresses, &error, now);
                }
            }
            Event::Listening(address) => {
                self.surroundings.reach.handle_listening(&address);
                if self.is_offered(&address) {
                    self.node.handle_listening(address, now);
                }
            }
            Event::ListenExpired(address) => {
                self.surroundings.reach.handle_listen_expired(&address);
                self.node.handle_listen_expired(&address, now);
            }
            Event::ListenFailed(error) => tracing::error!(%error, "a listener did not come back"),
            Event::Reserved { relay } => {
                self.node.handle_reserved(relay, now);
                self.on_invite_reserved(relay);
            }
            Event::ReservationLost { relay } => self.node.handle_reservation_lost(relay, now),
            Event::Identified { peer, path, agent, listen, observed } => {
                // A connection that is gone already tells nothing that lasts.
                let Some(path) = path else { return };
                if let Some(known) = self.paths.get_mut(&path) {
                    known.agent = Some(agent);
                }
                if self.node.handle_seen_as(path, &observed) {
                    tracing::debug!(%peer, %path, %observed, "a peer came unasked: the address is reachable");
                }
                self.node.handle_identified(peer, path, &listen, &observed, now);
                self.observe_path(path, Some(&observed));
            }
            Event::Discovered { peer, address } => self.on_discovered(peer, address),
            Event::Found { peer, address } => self.on_dht_found(peer, address),
            Event::Tested { address, reachable } => self.on_tested(&address, reachable),
            Event::HolePunch { peer, success } => {
                tracing::debug!(%peer, success, "DCUtR ended");
                if let Some(observer) = &self.observer {
                    observer.punched(success);
                }
            }
            Event::Decided(decision) => {
                if let Some(observer) = &self.observer {
                    observer.decided(decision);
                }
            }
            // What we carry for others is counted above.
            Event::ReservationGranted { .. }
            | Event::RelayRefused { .. }
            | Event::ReservationEnded { .. }
            | Event::CircuitOpened { .. }
            | Event::CircuitClosed { .. } => {}
            Event::Restarted { panic } => {
                tracing::error!(%panic, "the swarm panicked and was restarted");
                self.restarts += 1;
                self.node.handle_wake(now);
            }
        }
    }

    fn on_opened(&mut self, handle: PathHandle) {
        let now = peerup_clock::now();
        let opened = Opened {
            path: handle.path,
            kind: handle.kind,
            remote: handle.remote.clone(),
            relay: handle.relay,
            outbound: handle.outbound,
        };
        tracing::debug!(peer = %handle.peer, path = %handle.path, remote = %handle.remote, "connected");
        if let Some(observer) = &mut self.observer {
            observer.opened(&handle);
        }
        let counters = Default::default();
        self.paths.insert(
            handle.path,
            KnownPath { handle: handle.clone(), counters, agent: None, life: 0, sessions_heard: 0 },
        );
        if !self.is_dial_back(&handle) {
            self.node.handle_opened(handle.peer, opened, now);
        }
        self.observe_path(handle.path, None);
        self.on_join_connected(&handle);
    }

    fn on_inbound(&mut self, arrived: InboundStream) {
        let InboundStream { path, peer, protocol, stream, .. } = arrived;
        if protocol.as_ref() == protocol::INVITE {
            return self.on_invite_stream(peer, stream);
        }
        if self.mode == Mode::Pairing {
            return;
        }
        if protocol.as_ref() == protocol::PEER_NOTIFY {
            return self.on_introduction_stream(peer, stream);
        }
        let done = self.done.clone();
        tokio::spawn(async move {
            let result = greet::read_hello(stream).await;
            let _ = done.send(Done::Hello { path, peer, result }).await;
        });
    }
}
