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
use peerup_types::{Multiaddr, PeerId, Protocol};
use peerup_wire::protocol;
use tokio::{
    sync::oneshot,
    time::{timeout, timeout_at},
};

use super::{
    group::{self, Group, GroupError},
    receive, transmit,
};
use crate::controller::{Controller, Done};

/// The whole of a join (the original's 30 s).
const DEADLINE: Duration = Duration::from_secs(30);
/// Between attempts to reach the inviter: a relay may still be opening its door.
const RETRY: Duration = Duration::from_secs(2);
/// A relay that hangs up within this time of the first hang-up is asked again: it may not have read a code that was made a
/// moment ago.
const RELAY_READS_WITHIN: Duration = Duration::from_secs(3);
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
    code: Code,
    own_name: NodeName,
    reply: oneshot::Sender<Result<JoinReport, ApiError>>,
    phase: Phase,
    deadline: Instant,
    last_error: Option<String>,
    /// When the relay hung up first.
    hung_up: Option<Instant>,
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
    outcome: Result<Outcome, JoinError>,
}

/// What a handshake brought.
enum Outcome {
    Inviter(Joined),
    Group(Group),
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("the inviter cannot be asked: {0}")]
    Open(#[from] peerup_swarm::OpenError),
    #[error("the inviter did not accept the code: {0}")]
    Handshake(#[from] HandshakeError),
    #[error("the inviter did not answer in time")]
    TimedOut,
    #[error(transparent)]
    Group(#[from] GroupError),
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
            Self::Group(error) => error.kind(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Group(_) => {
                "it may be used, expired or revoked: the owner of the relay makes new ones with `peerup relay pair`"
            }
            Self::Open(_) | Self::Handshake(_) | Self::TimedOut => {
                "check the code, or ask for a new one: `peerup invite` on the other machine"
            }
        }
    }
}

impl Joining {
    fn relay(&self) -> PeerId {
        relay_of(&self.code).0
    }

    /// After a hang-up; false when the relay has hung up for too long.
    fn asks_again(&mut self, now: Instant) -> bool {
        let first = *self.hung_up.get_or_insert(now);
        let again = now < first + RELAY_READS_WITHIN;
        if again {
            self.phase = Phase::Dialing { dial: None, retry_at: now + RETRY };
        }
        again
    }

    /// Who is to be reached, and where: the inviter behind its relay, or the relay itself.
    fn target(&self) -> (PeerId, Multiaddr) {
        let (relay, address) = relay_of(&self.code);
        match &self.code {
            Code::Pairing(_) => (relay, address),
            Code::Invite(code) => {
                let circuit = [Protocol::P2pCircuit, Protocol::P2p(code.inviter)];
                (code.inviter, address.iter().chain(circuit).collect())
            }
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
        let (relay, address) = relay_of(&code);
        self.extra_relays.entry(relay).or_default().push(address);
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
            hung_up: None,
        });
        // A relay that this node uses already is connected.
        let known =
            self.paths.values().map(|known| &known.handle).find(|handle| handle.peer == relay).cloned();
        if let Some(handle) = known {
            self.on_join_connected(&handle);
        }
    }

    fn check_code(&self, text: &str) -> Result<Code, ApiError> {
        if self.joins.current.is_some() {
            return Err(ApiError::new(ErrorKind::Conflict, "a join is under way already"));
        }
        let code = Code::decode(text).map_err(|error| ApiError::bad_request(error.to_string()))?;
        let network = match &code {
            Code::Invite(code) if code.inviter == self.swarm.local_peer() => {
                return Err(ApiError::bad_request("this code was made on this machine")
                    .with_hint("type it on the machine that should join"));
            }
            Code::Invite(code) => code.network.as_ref(),
            Code::Pairing(code) => code.network.as_ref(),
        };
        let own = self.files.config.discovery.network.as_ref();
        if own != network {
            let name = |network: Option<&peerup_types::DnsLabel>| {
                network.map_or("the network without a name".to_owned(), |name| format!("network `{name}`"))
            };
            let message = format!("the code is for {}, this node belongs to {}", name(network), name(own));
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
        let relay = joining.relay();
        match &mut joining.phase {
            Phase::AwaitRelay { report, until } => {
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
            Phase::Dialing { retry_at, .. } if *retry_at <= now => self.dial_target(now),
            Phase::Dialing { .. } | Phase::Shaking => {}
        }
    }

    pub fn on_join_connected(&mut self, handle: &PathHandle) {
        let Some(joining) = &mut self.joins.current else { return };
        let waiting = matches!(joining.phase, Phase::Dialing { .. });
        if !waiting || handle.peer != joining.target().0 {
            return;
        }
        joining.phase = Phase::Shaking;
        let (join, deadline) = (joining.id, joining.deadline);
        let (code, name) = (joining.code.clone(), joining.own_name.clone());
        let (handle, done) = (handle.clone(), self.done.clone());
        tokio::spawn(async move {
            let outcome = match code {
                Code::Invite(code) => shake(&handle, &code.token, name, deadline).await.map(Outcome::Inviter),
                Code::Pairing(code) => {
                    let shown = group::show(&handle, code.token, name, deadline).await;
                    shown.map(Outcome::Group).map_err(JoinError::from)
                }
            };
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
        if let Err(JoinError::Group(error)) = &outcome
            && error.is_hang_up()
            && joining.asks_again(peerup_clock::now())
        {
            joining.last_error = Some(error.to_string());
            return;
        }
        let code = joining.code.clone();
        let adopted = outcome.map_err(refused).and_then(|outcome| match (&code, outcome) {
            (Code::Invite(code), Outcome::Inviter(joined)) => self.adopt(code, joined),
            (Code::Pairing(code), Outcome::Group(group)) => self.adopt_group(code, group),
            (Code::Invite(_), Outcome::Group(_)) | (Code::Pairing(_), Outcome::Inviter(_)) => {
                Err(ApiError::failure("the answer belongs to another code"))
            }
        });
        match adopted {
            Ok(report) => self.await_relay(report),
            Err(error) => self.fail_join(error),
        }
    }

    fn dial_target(&mut self, now: Instant) {
        let Some(joining) = &mut self.joins.current else { return };
        let (peer, address) = joining.target();
        let dialed = self.swarm.dial(peer, vec![address]);
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
        let name = inviter_name.clone().unwrap_or_else(|| NodeName::of_peer(&code.inviter));
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
            group: None,
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
    pub(super) fn take_address(&mut self, grant: Option<&Grant>) -> Result<Ipv4Addr, GrantRefused> {
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
        let (what, hint) = match self.joins.current.as_ref().map(|joining| &joining.code) {
            Some(Code::Pairing(_)) => {
                ("the relay could not be reached", "is the relay running, and its port open?")
            }
            Some(Code::Invite(_)) | None => (
                "the inviter could not be reached through its relay",
                "is `peerup invite` still waiting on the other machine?",
            ),
        };
        self.fail_join(ApiError::new(ErrorKind::Timeout, format!("{what}{reason}")).with_hint(hint));
    }

    /// What is joined stays joined, also when nobody waits for the relay any more.
    pub(super) fn end_join(&mut self, error: ApiError) {
        self.finish_join();
        self.fail_join(error);
    }

    fn fail_join(&mut self, error: ApiError) {
        let Some(joining) = self.joins.current.take() else { return };
        self.extra_relays.remove(&joining.relay());
        self.apply_relays();
        let _ = joining.reply.send(Err(error));
    }
}

fn relay_of(code: &Code) -> (PeerId, Multiaddr) {
    match code {
        Code::Invite(code) => (code.relay, code.relay_multiaddr()),
        Code::Pairing(code) => (code.relay, code.relay_multiaddr()),
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
    ApiError::new(error.kind(), error.to_string()).with_hint(error.hint())
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

    #[test]
    fn a_relay_that_hangs_up_is_asked_again_for_a_short_while() {
        let mut joining = joining(JoinId(1));
        let start = peerup_clock::now();
        for (after, again) in [(0, true), (100, true), (2900, true), (3000, false)] {
            assert_eq!(joining.asks_again(start + Duration::from_millis(after)), again, "after {after} ms");
        }
    }

    fn joining(id: JoinId) -> Joining {
        let [relay, inviter] = std::array::from_fn(|_| peerup_types::PeerId::random());
        let relay_address = "192.0.2.1:7777".parse().unwrap();
        let code = InviteCode { token: Token::new([0; 8]), relay_address, relay, network: None, inviter };
        Joining {
            id,
            code: Code::Invite(code),
            own_name: NodeName::sanitise("laptop").unwrap(),
            reply: oneshot::channel().0,
            phase: Phase::Shaking,
            deadline: peerup_clock::now(),
            last_error: None,
            hung_up: None,
        }
    }
}
