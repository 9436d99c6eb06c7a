//! The inviting side.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use peerup_config::unique_name;
use peerup_control::{
    ApiError, ErrorKind, INVITE_EVENT_BOUND,
    api::{InviteEvent, InviteRequest, Timestamp},
};
use peerup_path::ReservationState;
use peerup_swarm::Stream;
use peerup_trust::{
    NodeName, Token,
    code::InviteCode,
    handshake::{Grant, HandshakeError, Inviter, InviterEvent},
    invite::{ATTEMPT_DEADLINE, AttemptId, InviteSession, InviteSessionEvent, InviteState},
};
use peerup_types::{DnsLabel, Multiaddr, PeerId, Protocol};
use peerup_wire::vouch::Request as Vouch;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{receive, transmit};
use crate::{
    controller::{Controller, Done, without_peer},
    vouch,
};

/// A relay that has not granted a reservation by then will not do so soon.
const RELAY_DEADLINE: Duration = Duration::from_secs(20);
/// What the joiner gets to read our last words before the stream goes away.
const LINGER: Duration = Duration::from_secs(2);
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

/// At most one invite is open at a time.
#[derive(Default)]
pub struct Invites {
    open: Option<Open>,
}

struct Open {
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
    Waiting {
        session: InviteSession,
        relay: PeerId,
    },
}

/// What a task asks of the loop, or tells it.
pub enum Step {
    Announced {
        relay: PeerId,
        address: SocketAddrV4,
        vouched: Result<(), String>,
    },
    /// The joiner knows the token. `reply` gets what it is granted, or nothing when it is too late.
    Proven {
        attempt: AttemptId,
        peer: PeerId,
        joiner: NodeName,
        reply: oneshot::Sender<Option<Acceptance>>,
    },
    Failed {
        attempt: AttemptId,
        error: HandshakeError,
    },
    Finished {
        peer: PeerId,
        joiner: NodeName,
        address: Option<Ipv4Addr>,
    },
}

pub struct Acceptance {
    own_name: NodeName,
    grant: Option<Grant>,
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
        self.invites.open = Some(Open { events, own_name, ttl, phase: Phase::AwaitRelay { until } });
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
        let Some(session) = self.invites.session() else { return };
        let attempt = match session.begin_attempt(peer, now) {
            Ok(attempt) => attempt,
            Err(refusal) => return tracing::info!(%peer, %refusal, "pairing attempt refused"),
        };
        let (token, done) = (session.token().clone(), self.done.clone());
        tokio::spawn(async move { serve(stream, token, attempt, peer, done).await });
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
                    None if late => self.fail_invite(),
                    None => {}
                }
            }
            Phase::Announcing { .. } => {}
            Phase::Waiting { session, .. } => {
                session.handle_timeout(now);
                self.drain_session().await;
            }
        }
    }

    pub async fn on_invite_step(&mut self, step: Step) {
        match step {
            Step::Announced { relay, address, vouched } => self.start_waiting(relay, address, vouched).await,
            Step::Proven { attempt, peer, joiner, reply } => {
                let accepted = self.accept_joiner(attempt, peer, &joiner).await;
                let _ = reply.send(accepted);
            }
            Step::Failed { attempt, error } => {
                let Some(session) = self.invites.session() else { return };
                session.attempt_failed(attempt, &error);
                let left = session.failures_left();
                tracing::info!(%error, left, "pairing attempt failed");
                self.tell(InviteEvent::Attempt { reason: error.to_string(), left }).await;
                self.drain_session().await;
            }
            Step::Finished { peer, joiner, address } => {
                self.tell(InviteEvent::Joined { peer_id: peer, name: joiner.as_str().into(), address }).await;
                self.close_invite(false);
            }
        }
    }

    /// A relay with a reservation of ours that a version 1 code can name.
    fn usable_relay(&self) -> Option<(PeerId, SocketAddrV4)> {
        let held = self.node.relays().into_iter().filter(|view| view.state == ReservationState::Held);
        held.filter_map(|view| Some((view.relay, view.addresses.iter().find_map(ipv4_tcp)?))).next()
    }

    fn fail_invite(&mut self) {
        let error =
            ApiError::new(ErrorKind::Timeout, "no relay with an IPv4 TCP address has a place for this node")
                .with_hint(
                    "peerup status shows the relays; `peerup relay authorize` on the relay admits this node",
                );
        if let Some(open) = self.invites.open.take() {
            let _ = open.events.try_send(InviteEvent::Failed(error));
        }
    }

    /// Asks the relay to let a joiner in while the code is valid.
    fn announce(&mut self, relay: PeerId, address: SocketAddrV4) {
        let Some(open) = &mut self.invites.open else { return };
        open.phase = Phase::Announcing { relay };
        let request = Vouch::OpenAdmission { ttl_s: open.ttl.as_secs().min(u64::from(u32::MAX)) as u32 };
        let (path, done) = (self.path_to(&relay), self.done.clone());
        tokio::spawn(async move {
            let vouched = match path {
                Some(path) => vouch::ask(&path, &request).await.map_err(|error| error.to_string()),
                None => Err("the connection to the relay is gone".to_owned()),
            };
            let _ = done.send(Done::Invite(Step::Announced { relay, address, vouched })).await;
        });
    }

    async fn start_waiting(&mut self, relay: PeerId, address: SocketAddrV4, vouched: Result<(), String>) {
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
        open.phase = Phase::Waiting { session, relay };
        self.apply_trust();
        self.tell(InviteEvent::Code { code: code.encode(), expires_at }).await;
    }

    /// The joiner proved the code: it becomes a member of this node, of the relay, and gets an address.
    async fn accept_joiner(
        &mut self,
        attempt: AttemptId,
        peer: PeerId,
        joiner: &NodeName,
    ) -> Option<Acceptance> {
        let now = peerup_clock::now();
        self.invites
            .session()?
            .attempt_succeeded(attempt, now)
            .inspect_err(|refusal| tracing::info!(%peer, %refusal, "pairing came too late"))
            .ok()?;
        if let Err(error) = self.authorize(peer, joiner) {
            tracing::error!(%peer, %error, "cannot authorize the joiner");
            return None;
        }
        self.vouch_for(peer, joiner).await;
        let grant = self.grant(peer);
        let own_name = self.invites.open.as_ref()?.own_name.clone();
        Some(Acceptance { own_name, grant })
    }

    /// Puts a paired peer into `authorized_keys` and `names`.
    pub fn authorize(&mut self, peer: PeerId, name: &NodeName) -> Result<(), ApiError> {
        if self.keys.get(&peer).is_none() {
            self.change_keys(|keys| {
                keys.add(peer, Some(name.as_str())).map_err(|error| ApiError::failure(error.to_string()))
            })?;
        }
        let names = &self.files.config.names;
        if names.values().any(|known| *known == peer) {
            return Ok(());
        }
        let Some(wanted) = DnsLabel::sanitise(name.as_str()) else { return Ok(()) };
        let label = unique_name(names.keys(), &wanted);
        self.node.membership_mut().set_name(peer, label.clone());
        self.files.learn(Some((&label, peer)), &[]).map_err(ApiError::from)
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

    async fn drain_session(&mut self) {
        while let Some(event) = self.invites.session().and_then(InviteSession::poll_event) {
            match event {
                InviteSessionEvent::AbortAttempt { peer, .. } => self.swarm.disconnect(peer),
                InviteSessionEvent::Closed(InviteState::Expired) => {
                    self.tell(InviteEvent::Expired).await;
                    return self.close_invite(true);
                }
                InviteSessionEvent::Closed(InviteState::Burnt) => {
                    self.tell(InviteEvent::Burned).await;
                    return self.close_invite(true);
                }
                InviteSessionEvent::Closed(InviteState::Open | InviteState::Used { .. }) => {}
            }
        }
    }

    async fn tell(&mut self, event: InviteEvent) {
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

/// One attempt: carries bytes until the machine is done or has failed.
async fn serve(stream: Stream, token: Token<8>, attempt: AttemptId, peer: PeerId, done: mpsc::Sender<Done>) {
    let exchange = run(stream, &token, attempt, peer, &done);
    let outcome = timeout(ATTEMPT_DEADLINE, exchange).await.unwrap_or(Err(HandshakeError::Abandoned));
    let step = match outcome {
        Ok(Some((joiner, address))) => Step::Finished { peer, joiner, address },
        Ok(None) => return,
        Err(error) => Step::Failed { attempt, error },
    };
    let _ = done.send(Done::Invite(step)).await;
}

type Outcome = Option<(NodeName, Option<Ipv4Addr>)>;

async fn run(
    mut stream: Stream,
    token: &Token<8>,
    attempt: AttemptId,
    peer: PeerId,
    done: &mpsc::Sender<Done>,
) -> Result<Outcome, HandshakeError> {
    let mut machine = Inviter::new(token, &mut rand::rng());
    let mut outcome = None;
    loop {
        if transmit(&mut stream, || machine.poll_transmit()).await.is_err() {
            machine.handle_eof()?;
        }
        if let Some(InviterEvent::Proven { joiner_name }) = machine.poll_event() {
            let joiner = joiner_name.unwrap_or_else(|| name_for(&peer));
            outcome = decide(&mut machine, attempt, peer, joiner, done).await;
            continue;
        }
        if machine.is_finished() {
            linger(stream).await;
            return Ok(outcome);
        }
        let input = receive(&mut stream).await;
        match input.is_empty() {
            true => machine.handle_eof()?,
            false => machine.handle_input(&input)?,
        }
    }
}

/// Asks the loop what a joiner that proved the code gets.
async fn decide(
    machine: &mut Inviter,
    attempt: AttemptId,
    peer: PeerId,
    joiner: NodeName,
    done: &mpsc::Sender<Done>,
) -> Outcome {
    let (reply, answer) = oneshot::channel();
    let _ = done.send(Done::Invite(Step::Proven { attempt, peer, joiner: joiner.clone(), reply })).await;
    let Ok(Some(Acceptance { own_name, grant })) = answer.await else {
        // Both calls fail only in a state that `Proven` rules out.
        let _ = machine.refuse();
        return None;
    };
    let address = grant.as_ref().map(|grant| grant.address);
    match machine.accept(&own_name, grant.as_ref()) {
        Ok(()) => Some((joiner, address)),
        Err(error) => {
            tracing::error!(%error, "the grant cannot be sent");
            let _ = machine.refuse();
            None
        }
    }
}

/// Our last words are on their way: the joiner closes when it has read them.
async fn linger(mut stream: Stream) {
    let _ = futures::AsyncWriteExt::close(&mut stream).await;
    let _ = timeout(LINGER, async { while !receive(&mut stream).await.is_empty() {} }).await;
}

/// What a peer that gives no name is called.
pub fn name_for(peer: &PeerId) -> NodeName {
    let id = peer.to_string();
    let tail = &id[id.len().saturating_sub(6)..];
    NodeName::sanitise(&format!("peer-{tail}")).expect("letters and digits are a name")
}

fn ipv4_tcp(address: &Multiaddr) -> Option<SocketAddrV4> {
    let mut parts = address.iter();
    match (parts.next()?, parts.next()?) {
        (Protocol::Ip4(ip), Protocol::Tcp(port)) => Some(SocketAddrV4::new(ip, port)),
        _ => None,
    }
}
