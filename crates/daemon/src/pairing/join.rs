//! The joining side.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use peerup_config::PeerAddr;
use peerup_control::{
    ApiError, ErrorKind,
    api::{JoinReport, JoinRequest},
};
use peerup_path::ReservationState;
use peerup_swarm::{DialId, PathHandle, Stream};
use peerup_trust::{
    NodeName, Token,
    code::{Code, InviteCode},
    handshake::{Grant, HandshakeError, Joined, Joiner},
};
use peerup_types::{Multiaddr, Protocol};
use peerup_wire::protocol;
use tokio::{sync::oneshot, time::timeout};

use super::{name_for, receive, transmit};
use crate::{
    controller::{Controller, Done},
    error::DaemonError,
};

/// The whole of a join (the original's 30 s).
const DEADLINE: Duration = Duration::from_secs(30);
/// Between attempts to reach the inviter: a relay may still be opening its door.
const RETRY: Duration = Duration::from_secs(2);
/// What the relay gets to admit us after the inviter vouched.
const RESERVATION_DEADLINE: Duration = Duration::from_secs(10);

/// A join under way.
pub struct Joining {
    code: InviteCode,
    own_name: NodeName,
    reply: oneshot::Sender<Result<JoinReport, ApiError>>,
    phase: Phase,
    deadline: Instant,
    last_error: Option<String>,
}

enum Phase {
    Dialing {
        dial: Option<DialId>,
        retry_at: Instant,
    },
    Shaking,
    /// Joined; the report says whether the relay admits us by itself.
    AwaitRelay {
        report: JoinReport,
        until: Instant,
    },
}

pub enum Step {
    Joined(Joined),
    Failed(JoinError),
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("the inviter cannot be asked: {0}")]
    Open(#[from] peerup_swarm::OpenError),
    #[error("the inviter did not accept the code: {0}")]
    Handshake(#[from] HandshakeError),
}

impl Controller {
    pub fn start_join(&mut self, request: JoinRequest, reply: oneshot::Sender<Result<JoinReport, ApiError>>) {
        let code = match self.check_code(&request.code) {
            Ok(code) => code,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let now = peerup_clock::now();
        let own_name = self.pairing_name(request.name.as_deref());
        self.extra_relays.entry(code.relay).or_default().push(code.relay_multiaddr());
        self.apply_relays();
        self.apply_trust();
        self.joining = Some(Joining {
            code,
            own_name,
            reply,
            phase: Phase::Dialing { dial: None, retry_at: now },
            deadline: now + DEADLINE,
            last_error: None,
        });
    }

    fn check_code(&self, text: &str) -> Result<InviteCode, ApiError> {
        if self.joining.is_some() {
            return Err(ApiError::new(ErrorKind::Conflict, "a join is under way already"));
        }
        let code = match Code::decode(text).map_err(|error| ApiError::bad_request(error.to_string()))? {
            Code::Invite(code) => code,
            Code::Pairing(_) => {
                return Err(ApiError::bad_request("this is a relay pairing code, not an invite")
                    .with_hint("ask for a code made by `peerup invite`"));
            }
        };
        if code.inviter == self.swarm.local_peer() {
            return Err(ApiError::bad_request("this code was made on this machine")
                .with_hint("type it on the machine that should join"));
        }
        let own = self.files.config.discovery.network.as_ref();
        if own != code.network.as_ref() {
            let name = |network: Option<&peerup_types::DnsLabel>| {
                network.map_or("the network without a name".to_owned(), |name| format!("network `{name}`"))
            };
            let message = format!(
                "the code is for {}, this node belongs to {}",
                name(code.network.as_ref()),
                name(own)
            );
            return Err(ApiError::new(ErrorKind::Conflict, message)
                .with_hint("join with a configuration of its own: --config FILE"));
        }
        Ok(code)
    }

    pub fn join_timeout(&self) -> Option<Instant> {
        let joining = self.joining.as_ref()?;
        let next = match &joining.phase {
            Phase::Dialing { retry_at, .. } => *retry_at,
            Phase::Shaking => joining.deadline,
            Phase::AwaitRelay { until, .. } => *until,
        };
        Some(next.min(joining.deadline.max(next)))
    }

    pub async fn on_join_time(&mut self, now: Instant) {
        let Some(joining) = &mut self.joining else { return };
        match &mut joining.phase {
            Phase::AwaitRelay { report, until } => {
                let relay = joining.code.relay;
                let held = |view: &peerup_node::RelayView| {
                    view.relay == relay && view.state == ReservationState::Held
                };
                report.relay_authorised = self.node.relays().iter().any(held);
                if report.relay_authorised || *until <= now {
                    self.finish_join();
                }
            }
            Phase::Dialing { .. } | Phase::Shaking if joining.deadline <= now => self.give_up_join(),
            Phase::Dialing { retry_at, .. } if *retry_at <= now => self.dial_inviter(now),
            Phase::Dialing { .. } | Phase::Shaking => {}
        }
    }

    pub fn on_join_connected(&mut self, handle: &PathHandle) {
        let Some(joining) = &mut self.joining else { return };
        let waiting = matches!(joining.phase, Phase::Dialing { .. });
        if !waiting || handle.peer != joining.code.inviter {
            return;
        }
        joining.phase = Phase::Shaking;
        let (token, name) = (joining.code.token.clone(), joining.own_name.clone());
        let (handle, done) = (handle.clone(), self.done.clone());
        tokio::spawn(async move {
            let step = match shake(&handle, &token, name).await {
                Ok(joined) => Step::Joined(joined),
                Err(error) => Step::Failed(error),
            };
            let _ = done.send(Done::Join(step)).await;
        });
    }

    pub fn on_join_dial_failed(&mut self, failed: DialId, error: &str) {
        let Some(joining) = &mut self.joining else { return };
        if let Phase::Dialing { dial, retry_at } = &mut joining.phase
            && *dial == Some(failed)
        {
            *dial = None;
            *retry_at = peerup_clock::now() + RETRY;
            joining.last_error = Some(error.to_owned());
        }
    }

    pub async fn on_join_step(&mut self, step: Step) {
        match step {
            Step::Joined(joined) => {
                let Some(joining) = &self.joining else { return };
                let code = joining.code.clone();
                match self.adopt(&code, joined) {
                    Ok(report) => self.await_relay(report),
                    Err(error) => self.fail_join(error),
                }
            }
            Step::Failed(error) => {
                let api = ApiError::new(ErrorKind::NotAuthorised, error.to_string())
                    .with_hint("check the code, or ask for a new one: `peerup invite` on the other machine");
                self.fail_join(api);
            }
        }
    }

    fn dial_inviter(&mut self, now: Instant) {
        let Some(joining) = &mut self.joining else { return };
        let InviteCode { relay, inviter, .. } = joining.code;
        let circuit: Multiaddr = joining
            .code
            .relay_multiaddr()
            .iter()
            .filter(|part| !matches!(part, Protocol::P2p(_)))
            .chain([Protocol::P2p(relay), Protocol::P2pCircuit, Protocol::P2p(inviter)])
            .collect();
        let dialed = self.swarm.dial(inviter, vec![circuit]);
        let Some(Joining { phase: Phase::Dialing { dial, retry_at }, last_error, .. }) = &mut self.joining
        else {
            return;
        };
        match dialed {
            Ok(id) => {
                *dial = Some(id);
                *retry_at = now + DEADLINE;
            }
            Err(error) => {
                *retry_at = now + RETRY;
                *last_error = Some(error.to_string());
            }
        }
    }

    /// Makes the inviter a member, takes the granted address, and keeps the relays.
    fn adopt(&mut self, code: &InviteCode, joined: Joined) -> Result<JoinReport, ApiError> {
        let Joined { inviter_name, grant } = joined;
        let name = inviter_name.clone().unwrap_or_else(|| name_for(&code.inviter));
        self.authorize(code.inviter, &name, &[])?;
        let relays = relays(code, grant.as_ref());
        self.files.learn(None, &relays).map_err(ApiError::from)?;
        let address = self.take_address(grant.as_ref())?;
        self.swarm.disconnect(code.inviter);
        self.apply_relays();
        self.apply_trust();
        self.node.handle_wake(peerup_clock::now());
        Ok(JoinReport {
            inviter: code.inviter,
            inviter_name: inviter_name.map(|name| name.as_str().to_owned()),
            address: Some(address),
            inviter_address: grant.and_then(|grant| grant.inviter_address),
            relay_authorised: false,
        })
    }

    /// The granted address, or one of our own choice where none was granted.
    fn take_address(&mut self, grant: Option<&Grant>) -> Result<Ipv4Addr, ApiError> {
        let unix = peerup_clock::unix();
        let own_prefix = self.node.membership().prefix();
        if let Some(grant) = grant.filter(|grant| grant.prefix != own_prefix) {
            let message = format!("the network uses {}, this node {own_prefix}", grant.prefix);
            return Err(ApiError::new(ErrorKind::Conflict, message)
                .with_hint(format!("set vpn.cidr: {} and join again", grant.prefix)));
        }
        let membership = self.node.membership_mut();
        let address = match grant {
            Some(grant) => membership
                .handle_grant(grant.address, &grant.claims, unix)
                .map_err(|error| ApiError::failure(error.to_string()))?,
            None => membership.ensure_own(unix).map_err(DaemonError::from)?,
        };
        self.node.follow_membership();
        Ok(address)
    }

    fn await_relay(&mut self, report: JoinReport) {
        let until = peerup_clock::now() + RESERVATION_DEADLINE;
        if let Some(joining) = &mut self.joining {
            joining.phase = Phase::AwaitRelay { report, until };
        }
    }

    fn finish_join(&mut self) {
        let Some(Joining { phase: Phase::AwaitRelay { report, .. }, reply, .. }) = self.joining.take() else {
            return;
        };
        let _ = reply.send(Ok(report));
    }

    fn give_up_join(&mut self) {
        let reason = self.joining.as_ref().and_then(|joining| joining.last_error.clone());
        let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
        self.fail_join(
            ApiError::new(
                ErrorKind::Timeout,
                format!("the inviter could not be reached through its relay{reason}"),
            )
            .with_hint("is `peerup invite` still waiting on the other machine?"),
        );
    }

    pub(super) fn fail_join(&mut self, error: ApiError) {
        let Some(joining) = self.joining.take() else { return };
        self.extra_relays.remove(&joining.code.relay);
        self.apply_relays();
        let _ = joining.reply.send(Err(error));
    }
}

/// The relay of the code and those that the inviter named, as configuration entries.
fn relays(code: &InviteCode, grant: Option<&Grant>) -> Vec<PeerAddr> {
    let named = grant.map(|grant| grant.relays.clone()).unwrap_or_default();
    let all = [code.relay_multiaddr()].into_iter().chain(named);
    let mut relays: Vec<PeerAddr> = Vec::new();
    for relay in all.filter_map(|address| address.to_string().parse::<PeerAddr>().ok()) {
        if !relays.contains(&relay) {
            relays.push(relay);
        }
    }
    relays
}

async fn shake(path: &PathHandle, token: &Token<8>, own_name: NodeName) -> Result<Joined, JoinError> {
    let mut stream = path.open(protocol::INVITE).await?;
    let mut machine = Joiner::new(token, own_name, &mut rand::rng());
    let exchange = carry(&mut stream, &mut machine);
    match timeout(DEADLINE, exchange).await {
        Ok(joined) => Ok(joined?),
        Err(_) => {
            machine.handle_eof()?;
            machine.poll_joined().ok_or(JoinError::Handshake(HandshakeError::Rejected))
        }
    }
}

async fn carry(stream: &mut Stream, machine: &mut Joiner) -> Result<Joined, HandshakeError> {
    loop {
        if transmit(stream, || machine.poll_transmit()).await.is_err() {
            machine.handle_eof()?;
        }
        if let Some(joined) = machine.poll_joined() {
            let _ = futures::AsyncWriteExt::close(stream).await;
            return Ok(joined);
        }
        let input = receive(stream).await;
        match input.is_empty() {
            true => machine.handle_eof()?,
            false => machine.handle_input(&input)?,
        }
    }
}
