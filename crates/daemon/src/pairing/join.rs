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
use peerup_membership::GrantRefused;
use peerup_path::ReservationState;
use peerup_swarm::{DialId, PathHandle, Stream};
use peerup_trust::{
    NodeName, Token,
    code::{Code, InviteCode},
    handshake::{Grant, HandshakeError, Joined, Joiner},
};
use peerup_types::{Multiaddr, Protocol};
use peerup_wire::protocol;
use tokio::{
    sync::oneshot,
    time::{timeout, timeout_at},
};

use super::{name_for, receive, transmit};
use crate::controller::{Controller, Done};

/// The whole of a join (the original's 30 s).
const DEADLINE: Duration = Duration::from_secs(30);
/// Between attempts to reach the inviter: a relay may still be opening its door.
const RETRY: Duration = Duration::from_secs(2);
/// What the inviter gets to learn that we have read its answer.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// What the relay gets to admit us after the inviter vouched.
const RESERVATION_DEADLINE: Duration = Duration::from_secs(10);

/// At most one join is under way at a time.
#[derive(Default)]
pub struct Joins {
    current: Option<Joining>,
    last: JoinId,
}

/// Tells one join from those before it, whose tasks may still report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct JoinId(u64);

struct Joining {
    id: JoinId,
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
    /// The handshake is with a task, which reports by the deadline, whatever happens.
    Shaking,
    /// Joined; the report says whether the relay admits us by itself.
    AwaitRelay {
        report: JoinReport,
        until: Instant,
    },
}

/// What the handshake's task tells the loop.
pub struct Step {
    join: JoinId,
    outcome: Result<Joined, JoinError>,
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("the inviter cannot be asked: {0}")]
    Open(#[from] peerup_swarm::OpenError),
    #[error("the inviter did not accept the code: {0}")]
    Handshake(#[from] HandshakeError),
    #[error("the inviter did not answer in time")]
    TimedOut,
}

impl Joins {
    /// Where a step of this join belongs; nowhere when it is over.
    fn get(&mut self, id: JoinId) -> Option<&mut Joining> {
        self.current.as_mut().filter(|joining| joining.id == id)
    }
}

impl JoinError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Open(_) | Self::Handshake(_) => ErrorKind::NotAuthorised,
            Self::TimedOut => ErrorKind::Timeout,
        }
    }
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
        self.joins.last.0 += 1;
        self.joins.current = Some(Joining {
            id: self.joins.last,
            code,
            own_name,
            reply,
            phase: Phase::Dialing { dial: None, retry_at: now },
            deadline: now + DEADLINE,
            last_error: None,
        });
    }

    fn check_code(&self, text: &str) -> Result<InviteCode, ApiError> {
        if self.joins.current.is_some() {
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
        let joining = self.joins.current.as_ref()?;
        match &joining.phase {
            Phase::Dialing { retry_at, .. } => Some(joining.deadline.min(*retry_at)),
            Phase::Shaking => None,
            Phase::AwaitRelay { until, .. } => Some(*until),
        }
    }

    pub async fn on_join_time(&mut self, now: Instant) {
        let Some(joining) = &mut self.joins.current else { return };
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
            // Whoever asked has gone. A handshake under way is ended, or one side alone would think it had paired.
            Phase::Dialing { .. } if joining.reply.is_closed() => self.fail_join(cancelled()),
            Phase::Dialing { .. } if joining.deadline <= now => self.give_up_join(),
            Phase::Dialing { retry_at, .. } if *retry_at <= now => self.dial_inviter(now),
            Phase::Dialing { .. } | Phase::Shaking => {}
        }
    }

    pub fn on_join_connected(&mut self, handle: &PathHandle) {
        let Some(joining) = &mut self.joins.current else { return };
        let waiting = matches!(joining.phase, Phase::Dialing { .. });
        if !waiting || handle.peer != joining.code.inviter {
            return;
        }
        joining.phase = Phase::Shaking;
        let (join, deadline) = (joining.id, joining.deadline);
        let (token, name) = (joining.code.token.clone(), joining.own_name.clone());
        let (handle, done) = (handle.clone(), self.done.clone());
        tokio::spawn(async move {
            let outcome = shake(&handle, &token, name, deadline).await;
            let _ = done.send(Done::Join(Step { join, outcome })).await;
        });
    }

    pub fn on_join_dial_failed(&mut self, failed: DialId, error: &str) {
        let Some(joining) = &mut self.joins.current else { return };
        if let Phase::Dialing { dial, retry_at } = &mut joining.phase
            && *dial == Some(failed)
        {
            *dial = None;
            *retry_at = peerup_clock::now() + RETRY;
            joining.last_error = Some(error.to_owned());
        }
    }

    pub async fn on_join_step(&mut self, Step { join, outcome }: Step) {
        let Some(joining) = self.joins.get(join) else { return };
        let code = joining.code.clone();
        let adopted = outcome.map_err(refused).and_then(|joined| self.adopt(&code, joined));
        match adopted {
            Ok(report) => self.await_relay(report),
            Err(error) => self.fail_join(error),
        }
    }

    fn dial_inviter(&mut self, now: Instant) {
        let Some(joining) = &mut self.joins.current else { return };
        let InviteCode { relay, inviter, .. } = joining.code;
        let circuit: Multiaddr = joining
            .code
            .relay_multiaddr()
            .iter()
            .filter(|part| !matches!(part, Protocol::P2p(_)))
            .chain([Protocol::P2p(relay), Protocol::P2pCircuit, Protocol::P2p(inviter)])
            .collect();
        let dialed = self.swarm.dial(inviter, vec![circuit]);
        let Some(Joining { phase: Phase::Dialing { dial, retry_at }, last_error, .. }) =
            &mut self.joins.current
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

    /// Makes the inviter a member, keeps the relays and takes the granted address. What cannot work is refused before
    /// anything is kept.
    fn adopt(&mut self, code: &InviteCode, joined: Joined) -> Result<JoinReport, ApiError> {
        let Joined { inviter_name, grant } = joined;
        self.check_prefix(grant.as_ref())?;
        let name = inviter_name.clone().unwrap_or_else(|| name_for(&code.inviter));
        self.authorize(code.inviter, &name, &relays(code, grant.as_ref()))?;
        // The configuration holds it from here on.
        self.extra_relays.remove(&code.relay);
        let address = self
            .take_address(grant.as_ref())
            .inspect_err(|error| tracing::error!(%error, "joined without an address"));
        self.swarm.disconnect(code.inviter);
        self.apply_relays();
        self.apply_trust();
        self.node.handle_wake(peerup_clock::now());
        Ok(JoinReport {
            inviter: code.inviter,
            inviter_name: inviter_name.map(|name| name.as_str().to_owned()),
            address: address.ok(),
            inviter_address: grant.and_then(|grant| grant.inviter_address),
            relay_authorised: false,
        })
    }

    fn check_prefix(&self, grant: Option<&Grant>) -> Result<(), ApiError> {
        let own = self.node.membership().prefix();
        let Some(theirs) = grant.map(|grant| grant.prefix).filter(|theirs| *theirs != own) else {
            return Ok(());
        };
        let message = format!("the network uses {theirs}, this node {own}");
        Err(ApiError::new(ErrorKind::Conflict, message).with_hint(format!(
            "set vpn.cidr: {theirs} (a new node: `peerup init --range {theirs}`) and join with a new code"
        )))
    }

    /// The granted address, or one of our own choice where none was granted.
    fn take_address(&mut self, grant: Option<&Grant>) -> Result<Ipv4Addr, GrantRefused> {
        let unix = peerup_clock::unix();
        let membership = self.node.membership_mut();
        let address = match grant {
            Some(grant) => membership.handle_grant(grant.address, &grant.claims, unix)?,
            None => membership.ensure_own(unix)?,
        };
        self.node.follow_membership();
        Ok(address)
    }

    fn await_relay(&mut self, report: JoinReport) {
        let until = peerup_clock::now() + RESERVATION_DEADLINE;
        if let Some(joining) = &mut self.joins.current {
            joining.phase = Phase::AwaitRelay { report, until };
        }
    }

    fn finish_join(&mut self) {
        let joined = |joining: &mut Joining| matches!(joining.phase, Phase::AwaitRelay { .. });
        if let Some(Joining { phase: Phase::AwaitRelay { report, .. }, reply, .. }) =
            self.joins.current.take_if(joined)
        {
            let _ = reply.send(Ok(report));
        }
    }

    fn give_up_join(&mut self) {
        let reason = self.joins.current.as_ref().and_then(|joining| joining.last_error.clone());
        let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
        self.fail_join(
            ApiError::new(
                ErrorKind::Timeout,
                format!("the inviter could not be reached through its relay{reason}"),
            )
            .with_hint("is `peerup invite` still waiting on the other machine?"),
        );
    }

    /// What is joined stays joined, also when nobody waits for the relay any more.
    pub(super) fn end_join(&mut self, error: ApiError) {
        self.finish_join();
        self.fail_join(error);
    }

    fn fail_join(&mut self, error: ApiError) {
        let Some(joining) = self.joins.current.take() else { return };
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

fn refused(error: JoinError) -> ApiError {
    ApiError::new(error.kind(), error.to_string())
        .with_hint("check the code, or ask for a new one: `peerup invite` on the other machine")
}

fn cancelled() -> ApiError {
    ApiError::failure("cancelled; nothing was joined")
}

/// Ends at `deadline`, with what is known by then.
async fn shake(
    path: &PathHandle,
    token: &Token<8>,
    own_name: NodeName,
    deadline: Instant,
) -> Result<Joined, JoinError> {
    let opened = timeout_at(deadline.into(), path.open(protocol::INVITE)).await;
    let mut stream = opened.map_err(|_| JoinError::TimedOut)??;
    let mut machine = Joiner::new(token, own_name, &mut rand::rng());
    let exchange = carry(&mut stream, &mut machine);
    let joined = match timeout_at(deadline.into(), exchange).await {
        Ok(joined) => joined?,
        // An inviter that said OK has made us a member, also if its grant is lost.
        Err(_) => {
            machine.handle_eof().map_err(|_| JoinError::TimedOut)?;
            machine.poll_joined().ok_or(JoinError::TimedOut)?
        }
    };
    // Tells the inviter that its answer was read.
    let _ = timeout(CLOSE_DEADLINE, futures::AsyncWriteExt::close(&mut stream)).await;
    Ok(joined)
}

async fn carry(stream: &mut Stream, machine: &mut Joiner) -> Result<Joined, HandshakeError> {
    loop {
        if transmit(stream, || machine.poll_transmit()).await.is_err() {
            machine.handle_eof()?;
        }
        if let Some(joined) = machine.poll_joined() {
            return Ok(joined);
        }
        let input = receive(stream).await;
        match input.is_empty() {
            true => machine.handle_eof()?,
            false => machine.handle_input(&input)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_an_earlier_join_is_nobodys() {
        let mut joins = Joins { current: Some(joining(JoinId(2))), last: JoinId(2) };
        assert!(joins.get(JoinId(1)).is_none());
        assert!(joins.get(JoinId(2)).is_some());
        joins.current = None;
        assert!(joins.get(JoinId(2)).is_none());
    }

    fn joining(id: JoinId) -> Joining {
        let [relay, inviter] = std::array::from_fn(|_| peerup_types::PeerId::random());
        let relay_address = "192.0.2.1:7777".parse().unwrap();
        let code = InviteCode { token: Token::new([0; 8]), relay_address, relay, network: None, inviter };
        Joining {
            id,
            code,
            own_name: NodeName::sanitise("laptop").unwrap(),
            reply: oneshot::channel().0,
            phase: Phase::Shaking,
            deadline: peerup_clock::now(),
            last_error: None,
        }
    }
}
