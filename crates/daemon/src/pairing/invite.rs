//! The inviting side.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use peerup_control::{
    ApiError, ErrorKind, INVITE_EVENT_BOUND,
    api::{InviteEvent, InviteRequest, Timestamp},
};
use peerup_path::ReservationState;
use peerup_swarm::Stream;
use peerup_trust::{
    NodeName, Token,
    code::InviteCode,
    handshake::{Grant, HandshakeError},
    invite::{AttemptId, InviteSession, InviteSessionEvent, InviteState},
};
use peerup_types::{Multiaddr, PeerId, Protocol};
use peerup_wire::vouch::Request as Vouch;
use tokio::sync::{mpsc, oneshot};

use super::serve::{Acceptance, Attempt, Ending, Verdict};
use crate::{
    controller::{Controller, Done, without_peer},
    vouch,
};

/// A relay that has not granted a reservation by then will not do so soon.
const RELAY_DEADLINE: Duration = Duration::from_secs(20);
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

/// At most one invite is open at a time.
#[derive(Default)]
pub struct Invites {
    open: Option<Open>,
    last: InviteId,
}

struct Open {
    id: InviteId,
    events: mpsc::Sender<InviteEvent>,
    own_name: NodeName,
    ttl: Duration,
    phase: Phase,
}

enum Phase {
    /// No relay holds a reservation yet, so nobody could reach us.
    AwaitRelay { until: Instant },
    /// The relay is asked to let a joiner in.
    Announcing { relay: PeerId },
    Waiting {
        session: InviteSession,
        relay: PeerId,
        /// Who proved the code. It is a member, and may not know it yet.
        winner: Option<(PeerId, NodeName)>,
    },
}

/// Tells one invite from those before it, whose tasks may still report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InviteId(u64);

/// What a task of an invite tells the loop.
pub struct Step {
    pub invite: InviteId,
    pub report: Report,
}

pub enum Report {
    Announced { relay: PeerId, address: SocketAddrV4, vouched: Result<(), String> },
    Proven(Proof),
    Ended { attempt: AttemptId, peer: PeerId, ending: Ending },
}

/// The joiner knows the token.
pub struct Proof {
    pub attempt: AttemptId,
    pub peer: PeerId,
    pub joiner: NodeName,
    pub reply: oneshot::Sender<Verdict>,
}

impl Invites {
    /// Whether unknown peers may try the code.
    pub fn is_open(&self) -> bool {
        self.open.as_ref().is_some_and(|open| matches!(open.phase, Phase::Waiting { .. }))
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.open.as_ref()?.phase {
            Phase::AwaitRelay { until } => Some(*until),
            Phase::Announcing { .. } => None,
            Phase::Waiting { session, .. } => session.poll_timeout(),
        }
    }

    fn next_id(&mut self) -> InviteId {
        self.last.0 += 1;
        self.last
    }

    fn session(&mut self) -> Option<&mut InviteSession> {
        match &mut self.open.as_mut()?.phase {
            Phase::Waiting { session, .. } => Some(session),
            Phase::AwaitRelay { .. } | Phase::Announcing { .. } => None,
        }
    }
}

impl Controller {
    pub fn open_invite(&mut self, request: InviteRequest) -> Result<mpsc::Receiver<InviteEvent>, ApiError> {
        if self.invites.open.as_ref().is_some_and(|open| !open.events.is_closed()) {
            return Err(ApiError::new(ErrorKind::Conflict, "an invite is open already")
                .with_hint("end the other `peerup invite`, or wait until it expires"));
        }
        if self.node.relays().is_empty() {
            return Err(ApiError::failure(
                "an invite needs a relay through which the other machine can reach us",
            )
            .with_hint("peerup relay add <address>"));
        }
        let ttl = Duration::from_secs(request.ttl_s.max(1)).min(MAX_TTL);
        let own_name = self.pairing_name(request.name.as_deref());
        let (events, receiver) = mpsc::channel(INVITE_EVENT_BOUND);
        let until = peerup_clock::now() + RELAY_DEADLINE;
        let id = self.invites.next_id();
        self.invites.open = Some(Open { id, events, own_name, ttl, phase: Phase::AwaitRelay { until } });
        Ok(receiver)
    }

    /// What this machine calls itself in a handshake: what was asked for, the configured name, the host name.
    pub fn pairing_name(&self, wanted: Option<&str>) -> NodeName {
        let configured = || self.node.name().and_then(|name| NodeName::sanitise(name.as_str()));
        let host = || NodeName::sanitise(&peerup_service::host_name());
        wanted
            .and_then(NodeName::sanitise)
            .or_else(configured)
            .or_else(host)
            .or_else(|| NodeName::sanitise("peerup"))
            .expect("a plain word is a name")
    }

    pub fn on_invite_stream(&mut self, peer: PeerId, stream: Stream) {
        let now = peerup_clock::now();
        let Some(Open { id: invite, phase: Phase::Waiting { session, .. }, .. }) = &mut self.invites.open
        else {
            return;
        };
        let id = match session.begin_attempt(peer, now) {
            Ok(id) => id,
            Err(refusal) => return tracing::info!(%peer, %refusal, "pairing attempt refused"),
        };
        let (token, done) = (session.token().clone(), self.done.clone());
        tokio::spawn(Attempt { invite: *invite, id, peer, done }.serve(stream, token));
    }

    pub async fn on_invite_time(&mut self, now: Instant) {
        if self.invites.open.as_ref().is_some_and(|open| open.events.is_closed()) {
            return self.close_invite(true);
        }
        let Some(open) = &mut self.invites.open else { return };
        match &mut open.phase {
            Phase::AwaitRelay { until } => {
                let late = *until <= now;
                match self.usable_relay() {
                    Some((relay, address)) => self.announce(relay, address),
                    None if late => self.fail_invite(no_relay()),
                    None => {}
                }
            }
            Phase::Announcing { .. } => {}
            Phase::Waiting { session, .. } => {
                session.handle_timeout(now);
                self.drain_session();
            }
        }
    }

    pub async fn on_invite_step(&mut self, step: Step) {
        let Step { invite, report } = step;
        if self.invites.open.as_ref().is_none_or(|open| open.id != invite) {
            return;
        }
        match report {
            Report::Announced { relay, address, vouched } => self.start_waiting(relay, address, vouched),
            Report::Proven(proof) => self.accept_joiner(proof).await,
            Report::Ended { attempt, peer, ending } => self.on_ending(attempt, peer, ending),
        }
    }

    fn on_ending(&mut self, attempt: AttemptId, peer: PeerId, ending: Ending) {
        match ending {
            Ending::Failed(error) => self.count_failure(attempt, &error),
            Ending::TooLate => {}
            Ending::Refused(error) => self.fail_invite(error),
            Ending::Undelivered { joiner, error } => {
                tracing::info!(%peer, %joiner, %error, "the joiner did not get its answer; it may try again");
            }
            Ending::TimedOut { joiner } => self.fail_invite(unconfirmed(&peer, &joiner)),
            Ending::Finished { joiner, address } => {
                self.tell(InviteEvent::Joined { peer_id: peer, name: joiner.as_str().into(), address });
                self.close_invite(false);
            }
        }
    }

    fn count_failure(&mut self, attempt: AttemptId, error: &HandshakeError) {
        let Some(session) = self.invites.session() else { return };
        session.attempt_failed(attempt, error);
        let left = session.failures_left();
        tracing::info!(%error, left, "pairing attempt failed");
        self.tell(InviteEvent::Attempt { reason: error.to_string(), left });
        self.drain_session();
    }

    /// A relay with a reservation of ours that a version 1 code can name.
    fn usable_relay(&self) -> Option<(PeerId, SocketAddrV4)> {
        let held = self.node.relays().into_iter().filter(|view| view.state == ReservationState::Held);
        held.filter_map(|view| Some((view.relay, view.addresses.iter().find_map(ipv4_tcp)?))).next()
    }

    fn fail_invite(&mut self, error: ApiError) {
        self.tell(InviteEvent::Failed(error));
        self.close_invite(true);
    }

    /// Asks the relay to let a joiner in while the code is valid.
    fn announce(&mut self, relay: PeerId, address: SocketAddrV4) {
        let Some(open) = &mut self.invites.open else { return };
        open.phase = Phase::Announcing { relay };
        let invite = open.id;
        let request = Vouch::OpenAdmission { ttl_s: open.ttl.as_secs().min(u64::from(u32::MAX)) as u32 };
        let (path, done) = (self.path_to(&relay), self.done.clone());
        tokio::spawn(async move {
            let vouched = match path {
                Some(path) => vouch::ask(&path, &request).await.map_err(|error| error.to_string()),
                None => Err("the connection to the relay is gone".to_owned()),
            };
            let report = Report::Announced { relay, address, vouched };
            let _ = done.send(Done::Invite(Step { invite, report })).await;
        });
    }

    fn start_waiting(&mut self, relay: PeerId, address: SocketAddrV4, vouched: Result<(), String>) {
        if let Err(reason) = vouched {
            // A relay of another kind, or one with vouching off: a joiner that it admits already still gets in.
            tracing::warn!(%relay, reason, "the relay does not admit joiners on our word");
        }
        let inviter = self.swarm.local_peer();
        let network = self.files.config.discovery.network.clone();
        let Some(open) = &mut self.invites.open else { return };
        let token = Token::random(&mut rand::rng());
        let code = InviteCode { token: token.clone(), relay_address: address, relay, network, inviter };
        let expires_at = Timestamp::from_unix(peerup_clock::unix() + open.ttl.as_secs());
        let session = InviteSession::new(token, peerup_clock::now() + open.ttl);
        open.phase = Phase::Waiting { session, relay, winner: None };
        self.apply_trust();
        self.tell(InviteEvent::Code { code: code.encode(), expires_at });
    }

    /// The joiner proved the code: it becomes a member of this node, of the relay, and gets an address.
    async fn accept_joiner(&mut self, Proof { attempt, peer, joiner, reply }: Proof) {
        let Some(session) = self.invites.session() else { return };
        if let Err(refusal) = session.attempt_succeeded(attempt, peerup_clock::now()) {
            return tracing::info!(%peer, %refusal, "pairing came too late");
        }
        if let Err(error) = self.authorize(peer, &joiner, &[]) {
            tracing::error!(%peer, %error, "cannot authorize the joiner");
            return drop(reply.send(Err(error)));
        }
        let Some(Open { phase: Phase::Waiting { winner, .. }, own_name, .. }) = &mut self.invites.open else {
            return;
        };
        *winner = Some((peer, joiner.clone()));
        let own_name = own_name.clone();
        self.vouch_for(peer, &joiner).await;
        let grant = self.grant(peer);
        let _ = reply.send(Ok(Acceptance { own_name, grant }));
    }

    /// The relay admits the joiner from now on. Without that the join still stands, and an operator can do it.
    async fn vouch_for(&mut self, peer: PeerId, joiner: &NodeName) {
        let Some(Open { phase: Phase::Waiting { relay, .. }, .. }) = &self.invites.open else { return };
        let relay = *relay;
        let Some(path) = self.path_to(&relay) else { return };
        let request = Vouch::Authorize { peer, name: joiner.as_str().to_owned() };
        if let Err(error) = vouch::ask(&path, &request).await {
            tracing::warn!(%relay, %error, "the relay does not admit the joiner: authorize it there by hand");
        }
    }

    fn grant(&mut self, peer: PeerId) -> Option<Grant> {
        let unix = peerup_clock::unix();
        let membership = self.node.membership_mut();
        let address = membership.assign_for(peer, unix)?;
        let grant = Grant {
            address,
            prefix: membership.prefix(),
            inviter_address: membership.own_addrs().v4,
            claims: membership.claims().take(Grant::MAX_CLAIMS).cloned().collect(),
            relays: Vec::new(),
        };
        let relays = self.node.relays().into_iter().flat_map(|relay| {
            let address = |address: &Multiaddr| without_peer(address).with(Protocol::P2p(relay.relay));
            relay.addresses.iter().map(address).collect::<Vec<_>>()
        });
        let relays = relays.take(Grant::MAX_RELAYS).collect();
        self.node.follow_membership();
        Some(Grant { relays, ..grant })
    }

    fn drain_session(&mut self) {
        while let Some(event) = self.invites.session().and_then(InviteSession::poll_event) {
            match event {
                InviteSessionEvent::AbortAttempt { peer, .. } => self.swarm.disconnect(peer),
                InviteSessionEvent::Closed(InviteState::Expired) => return self.expire(),
                InviteSessionEvent::Closed(InviteState::Burnt) => {
                    self.tell(InviteEvent::Burned);
                    return self.close_invite(true);
                }
                InviteSessionEvent::Closed(InviteState::Open | InviteState::Used { .. }) => {}
            }
        }
    }

    fn expire(&mut self) {
        let winner = match &self.invites.open {
            Some(Open { phase: Phase::Waiting { winner, .. }, .. }) => winner.clone(),
            Some(_) | None => None,
        };
        match winner {
            Some((peer, joiner)) => self.tell(InviteEvent::Failed(unconfirmed(&peer, &joiner))),
            None => self.tell(InviteEvent::Expired),
        }
        self.close_invite(true);
    }

    fn tell(&self, event: InviteEvent) {
        if let Some(open) = &self.invites.open {
            // A caller that does not read has gone; its channel is noticed as closed.
            let _ = open.events.try_send(event);
        }
    }

    /// Ends the invite. The relay's admission ends with a completed join; otherwise it is withdrawn.
    fn close_invite(&mut self, withdraw: bool) {
        let Some(open) = self.invites.open.take() else { return };
        let relay = match open.phase {
            Phase::Waiting { relay, .. } | Phase::Announcing { relay } => Some(relay),
            Phase::AwaitRelay { .. } => None,
        };
        if let Some(path) = relay.filter(|_| withdraw).and_then(|relay| self.path_to(&relay)) {
            tokio::spawn(async move {
                if let Err(error) = vouch::ask(&path, &Vouch::CloseAdmission).await {
                    tracing::debug!(%error, "the relay's admission ends by itself");
                }
            });
        }
        self.apply_trust();
    }

    fn path_to(&self, peer: &PeerId) -> Option<peerup_swarm::PathHandle> {
        self.paths.values().map(|known| &known.handle).find(|handle| handle.peer == *peer).cloned()
    }
}

fn no_relay() -> ApiError {
    ApiError::new(ErrorKind::Timeout, "no relay with an IPv4 TCP address has a place for this node")
        .with_hint("peerup status shows the relays; `peerup relay authorize` on the relay admits this node")
}

/// The joiner is a member here and may not know it.
fn unconfirmed(peer: &PeerId, joiner: &NodeName) -> ApiError {
    ApiError::new(
        ErrorKind::Timeout,
        format!("{joiner} proved the code but never confirmed that it has joined"),
    )
    .with_hint(format!(
        "it is authorized here; `peerup auth remove {peer}` takes that back, a new invite pairs it again"
    ))
}

fn ipv4_tcp(address: &Multiaddr) -> Option<SocketAddrV4> {
    let mut parts = address.iter();
    match (parts.next()?, parts.next()?) {
        (Protocol::Ip4(ip), Protocol::Tcp(port)) => Some(SocketAddrV4::new(ip, port)),
        _ => None,
    }
}
