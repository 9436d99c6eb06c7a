//! What the node decided, carried out; and what the tasks started for it bring back.

use peerup_node::{Action, Event as NodeEvent};
use peerup_path::Role;
use peerup_swarm::Stream;
use peerup_types::{Multiaddr, PathId, PeerId};
use peerup_wire::hello::{Hello, HelloAck};

use super::{Controller, Done, PERSIST_AFTER};
use crate::{
    data::Command,
    echo,
    error::describe,
    greet::{self, GreetError},
};

impl Controller {
    /// Carries out what the node decided.
    pub(super) async fn perform(&mut self) {
        for path in std::mem::take(&mut self.closed) {
            self.data.send(Command::Remove(path)).await;
        }
        while let Some(action) = self.node.poll_action() {
            self.act(action).await;
        }
        while let Some(event) = self.node.poll_event() {
            report(&event);
            self.tell_event(&event);
            self.observe(&event);
        }
    }

    pub(super) async fn act(&mut self, action: Action) {
        match action {
            Action::Dial { peer, addresses, role } => self.dial(peer, addresses, role),
            Action::Reserve { relay, address } => {
                if let Err(error) = self.swarm.reserve(relay, address) {
                    tracing::debug!(%error, "reservation not requested");
                    self.node.handle_reservation_lost(relay, peerup_clock::now());
                }
            }
            Action::Check { path } => self.check(path),
            Action::Disconnect { peer } => self.swarm.disconnect(peer),
            Action::Greet { path } => self.greet(path),
            Action::Use { peer, path, beside } => {
                self.data.send(Command::Use { peer, path, beside }).await;
            }
            Action::Probe { path } => {
                self.next_probe += 1;
                self.data.send(Command::Probe { path, id: self.next_probe }).await;
            }
            Action::Say { path, control } => {
                self.note_retirement(path, &control);
                self.data.send(Command::Say { path, control }).await;
            }
            Action::Close { path } => {
                self.data.send(Command::Remove(path)).await;
                self.close_unless_in_use(path);
            }
            Action::Route { table, hosts } => {
                for (_, peer) in table.peers() {
                    self.counters.entry(*peer).or_default();
                }
                let counters = self.counters.clone();
                self.data.send(Command::Table { table, counters }).await;
                self.route(hosts).await;
            }
            Action::Readdress { address } => {
                if let Some(interface) = &mut self.interface
                    && let Err(error) = interface.readdress(address).await
                {
                    tracing::error!(error = %describe(&error), "cannot change the overlay address");
                }
            }
            Action::Persist => {
                self.persist_at.get_or_insert(peerup_clock::now() + PERSIST_AFTER);
            }
            Action::Candidate(address) => self.swarm.add_candidate(address),
        }
    }

    /// Writes the claims that changed a moment ago, several changes at once.
    pub(super) fn persist(&mut self) {
        self.persist_at = None;
        if let Err(error) = self.files.write_membership(self.node.membership()) {
            tracing::error!(error = %describe(&error), "cannot keep the address claims");
        }
    }

    pub(super) fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, role: Role) {
        let dialed = match role {
            Role::Dialer => self.swarm.dial(peer, addresses.clone()),
            Role::Listener => self.swarm.dial_as_listener(peer, addresses.clone()),
        };
        match dialed {
            Ok(dial) => {
                self.dialed.insert(dial, addresses);
                if let Some(observer) = &mut self.observer {
                    observer.dialing(dial);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "not dialed");
                self.node.handle_dial_failed(&peer, &addresses, &error.reason, peerup_clock::now());
            }
        }
    }

    pub(super) fn greet(&self, path: PathId) {
        let Some(known) = self.paths.get(&path) else { return };
        let (handle, hello, done) = (known.handle.clone(), self.node.hello(), self.done.clone());
        tokio::spawn(async move {
            let result = greet::greet(handle, hello).await;
            let _ = done.send(Done::Greeted { path, result }).await;
        });
    }

    pub(super) fn check(&self, path: PathId) {
        let Some(known) = self.paths.get(&path) else { return };
        let (handle, done) = (known.handle.clone(), self.done.clone());
        tokio::spawn(async move {
            let alive = echo::answers(&handle).await;
            let _ = done.send(Done::Checked { path, alive }).await;
        });
    }

    pub(super) async fn on_done(&mut self, done: Done) {
        match done {
            Done::Greeted { path, result } => self.on_greeted(path, result).await,
            Done::Hello { path, peer, result } => self.on_hello(path, peer, result),
            Done::Answered { path, peer, result } => match result {
                Ok(stream) => self.add_inlet(path, peer, stream).await,
                Err(error) => tracing::debug!(%peer, %path, %error, "hello not answered"),
            },
            Done::Checked { path, alive } => self.on_checked(path, alive),
            Done::Found(found) => self.on_found(found),
            Done::Invite(step) => self.on_invite_step(step).await,
            Done::Join(step) => self.on_join_step(step).await,
            Done::Introduced { relay, result } => self.on_introduced(relay, result),
        }
    }

    pub(super) async fn on_greeted(&mut self, path: PathId, result: Result<(Stream, HelloAck), GreetError>) {
        let now = peerup_clock::now();
        let Some(peer) = self.paths.get(&path).map(|known| known.handle.peer) else { return };
        match result {
            Ok((stream, ack)) => {
                if let HelloAck::Refused { reason, .. } = &ack {
                    tracing::warn!(%peer, reason = reason.as_str(), "the peer refused us");
                }
                let Some(known) = self.paths.get(&path) else { return };
                let (counters, datagrams) = (known.counters.clone(), known.handle.datagrams.clone());
                let features = features(&ack);
                self.data.send(Command::Outlet { path, peer, stream, counters, features, datagrams }).await;
                if self.node.handle_ack(path, &ack, now, peerup_clock::unix()) {
                    self.seen(peer);
                    self.note_reached(path);
                }
            }
            Err(error) => {
                tracing::debug!(%peer, %path, %error, "not greeted");
                self.node.handle_broken(path, now);
            }
        }
    }

    pub(super) fn on_hello(
        &mut self,
        path: PathId,
        peer: PeerId,
        result: Result<(Stream, Hello), GreetError>,
    ) {
        let (stream, hello) = match result {
            Ok(read) => read,
            Err(error) => return tracing::debug!(%peer, %path, %error, "no hello"),
        };
        let ack = self.node.handle_hello(path, &peer, &hello, peerup_clock::now(), peerup_clock::unix());
        let accepted = matches!(ack, HelloAck::Accepted(_));
        let done = self.done.clone();
        tokio::spawn(async move {
            let result = greet::answer(stream, ack).await;
            if accepted {
                let _ = done.send(Done::Answered { path, peer, result }).await;
            }
        });
    }

    pub(super) async fn add_inlet(&mut self, path: PathId, peer: PeerId, stream: Stream) {
        let Some(known) = self.paths.get(&path) else { return };
        let (counters, datagrams) = (known.counters.clone(), known.handle.datagrams.clone());
        self.data.send(Command::Inlet { path, peer, stream, counters, datagrams }).await;
    }
}

/// What a peer that accepted us takes.
fn features(ack: &HelloAck) -> u64 {
    match ack {
        HelloAck::Accepted(hello) => hello.features,
        HelloAck::Refused { .. } => 0,
    }
}

/// Tells the log what a user would notice.
fn report(event: &NodeEvent) {
    match event {
        NodeEvent::PathChanged { peer, from, to, reason } => {
            let word = |kind: &Option<peerup_types::PathKind>| {
                kind.map_or("none".to_owned(), |kind| {
                    format!("{} {} {}", kind.class, kind.family, kind.carrier)
                })
            };
            tracing::info!(%peer, from = word(from), to = word(to), reason = reason.as_str(), "path changed");
        }
        NodeEvent::RelayReserved { relay } => tracing::info!(%relay, "reservation held"),
        NodeEvent::RelayLost { relay } => tracing::warn!(%relay, "reservation lost"),
        NodeEvent::AddressLost { address, winner } => {
            tracing::warn!(%address, %winner, "the address was claimed earlier by another peer");
        }
    }
}
