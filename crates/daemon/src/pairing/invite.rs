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
use tokio::sync::{mpsc, oneshot};

use super::{
    admission::{Admission, Errands},
    serve::{Acceptance, Attempt, Ending, Verdict},
};
use crate::{
    controller::{Controller, without_peer},
    vouch::AskError,
};

/// A relay that has not granted a reservation by then will not do so soon.
const RELAY_DEADLINE: Duration = Duration::from_secs(20);
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

/// At most one invite is open at a time.
#[derive(Default)]
pub struct Invites {
    open: Option<Open>,
    last: InviteId,
    pub(super) errands: Errands,
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
    AwaitRelay {
        until: Instant,
    },
    /// The relay is asked to let a joiner in.
    Announcing {
        relay: PeerId,
    },
    Waiting(Box<Waiting>),
}

/// The code is out.
pub(super) struct Waiting {
    pub session: InviteSession,
    pub admission: Admission,
    /// Who proved the code. It is a member, and may not know it yet.
    winner: Option<(PeerId, NodeName)>,
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
    Announced {
        relay: PeerId,
        address: SocketAddrV4,
        answer: Result<(), AskError>,
    },
    /// The relay was asked again.
    Admission(Result<(), AskError>),
    Proven(Proof),
    Vouched {
        peer: PeerId,
        joiner: NodeName,
        answer: Result<(), AskError>,
    },
    Ended {
        attempt: AttemptId,
        peer: PeerId,
        ending: Ending,
    },
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
        self.open.as_ref().is_some_and(|open| matches!(open.phase, Phase::Waiting(_)))
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.open.as_ref()?.phase {
            Phase::AwaitRelay { until } => Some(*until),
            Phase::Announcing { .. } => None,
            Phase::Waiting(waiting) => {
                let due = [waiting.session.poll_timeout(), waiting.admission.poll_timeout()];
                due.into_iter().flatten().min()
            }
        }
    }

    fn next_id(&mut self) -> InviteId {
        self.last.0 += 1;
        self.last
    }

    pub(super) fn open_id(&self) -> Option<InviteId> {
        self.open.as_ref().map(|open| open.id)
    }

    pub(super) fn waiting(&mut self) -> Option<&mut Waiting> {
        match &mut self.open.as_mut()?.phase {
            Phase::Waiting(waiting) => Some(waiting),
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
        let Some(invite) = self.invites.open_id() else { return };
        let Some(Waiting { session, .. }) = self.invites.waiting() else { return };
        let id = match session.begin_attempt(peer, now) {
            Ok(id) => id,
            Err(refusal) => return tracing::info!(%peer, %refusal, "pairing attempt refused"),
        };
        let (token, done) = (session.token().clone(), self.done.clone());
        tokio::spawn(Attempt { invite, id, peer, done }.serve(stream, token));
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
            Phase::Waiting(waiting) => {
                waiting.session.handle_timeout(now);
                self.drain_session();
                self.renew_admission(false);
            }
        }
    }

    pub async fn on_invite_step(&mut self, step: Step) {
        let Step { invite, report } = step;
        if self.invites.open_id() != Some(invite) {
            return;
        }
        match report {
            Report::Announced { relay, address, answer } => self.start_waiting(relay, address, &answer),
            Report::Admission(answer) => self.on_admission(&answer),
            Report::Proven(proof) => self.accept_joiner(proof),
            Report::Vouched { peer, joiner, answer } => self.on_vouched(peer, &joiner, answer),
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
        let Some(Waiting { session, .. }) = self.invites.waiting() else { return };
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

    pub(super) fn fail_invite(&mut self, error: ApiError) {
        self.tell(InviteEvent::Failed(error));
        self.close_invite(true);
    }

    /// Asks the relay to let a joiner in while the code is valid.
    fn announce(&mut self, relay: PeerId, address: SocketAddrV4) {
        let Some(open) = &mut self.invites.open else { return };
        open.phase = Phase::Announcing { relay };
        let ttl = open.ttl;
        self.ask_admission(relay, ttl, move |answer| Report::Announced { relay, address, answer });
    }

    fn start_waiting(&mut self, relay: PeerId, address: SocketAddrV4, answer: &Result<(), AskError>) {
        let inviter = self.swarm.local_peer();
        let network = self.files.config.discovery.network.clone();
        let Some(open) = &mut self.invites.open else { return };
        let token = Token::random(&mut rand::rng());
        let code = InviteCode { token: token.clone(), relay_address: address, relay, network, inviter };
        let expires_at = Timestamp::from_unix(peerup_clock::unix() + open.ttl.as_secs());
        let session = InviteSession::new(token, peerup_clock::now() + open.ttl);
        let waiting = Waiting { session, admission: Admission::new(relay), winner: None };
        open.phase = Phase::Waiting(Box::new(waiting));
        self.apply_trust();
        self.tell(InviteEvent::Code { code: code.encode(), expires_at });
        self.on_admission(answer);
    }

    /// The joiner proved the code: it becomes a member of this node, of the relay, and gets an address.
    fn accept_joiner(&mut self, Proof { attempt, peer, joiner, reply }: Proof) {
        let Some(Waiting { session, .. }) = self.invites.waiting() else { return };
        if let Err(refusal) = session.attempt_succeeded(attempt, peerup_clock::now()) {
            return tracing::info!(%peer, %refusal, "pairing came too late");
        }
        if let Err(error) = self.authorize(peer, &joiner, &[]) {
            tracing::error!(%peer, %error, "cannot authorize the joiner");
            return drop(reply.send(Err(error)));
        }
        let grant = self.grant(peer);
        let Some(Open { own_name, phase: Phase::Waiting(waiting), .. }) = &mut self.invites.open else {
            return;
        };
        waiting.winner = Some((peer, joiner.clone()));
        let acceptance = Acceptance { own_name: own_name.clone(), grant };
        self.vouch_for(peer, joiner, acceptance, reply);
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
        while let Some(event) = self.invites.waiting().and_then(|waiting| waiting.session.poll_event()) {
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
        match self.invites.waiting().and_then(|waiting| waiting.winner.clone()) {
            Some((peer, joiner)) => self.tell(InviteEvent::Failed(unconfirmed(&peer, &joiner))),
            None => self.tell(InviteEvent::Expired),
        }
        self.close_invite(true);
    }

    pub(super) fn tell(&self, event: InviteEvent) {
        if let Some(open) = &self.invites.open {
            // A caller that does not read has gone; its channel is noticed as closed.
            let _ = open.events.try_send(event);
        }
    }

    /// Ends the invite. The relay's admission ends with a completed join; otherwise it is withdrawn.
    fn close_invite(&mut self, withdraw: bool) {
        let Some(open) = self.invites.open.take() else { return };
        let relay = match open.phase {
            Phase::Waiting(waiting) => Some(waiting.admission.relay),
            Phase::Announcing { relay } => Some(relay),
            Phase::AwaitRelay { .. } => None,
        };
        if let Some(relay) = relay.filter(|_| withdraw) {
            self.withdraw_admission(relay);
        }
        self.apply_trust();
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
