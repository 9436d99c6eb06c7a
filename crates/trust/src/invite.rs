//! The life of one invite code.
//!
//! ```text
//!             begin_attempt            attempt_succeeded
//!   Open ───► up to 4 attempts ───────────────────────► Used by one peer
//!     │             │ attempt_failed with a guess, 5 times      │
//!     │             └──────────────────────────────────► Burnt  │
//!     └── time to live ────────────────────────────────► Expired ◄── time to live, and time to answer
//! ```
//!
//! Several streams may try the code at once, each with a deadline, but only one peer can win it. The winner
//! may try again while the code lives: its first answer may have been lost with the connection, and it is
//! authorized already. Only guesses wear the code out; a connection that breaks before it says anything
//! about the token does not, or a bad link would burn its own code. 5 guesses at 64 random bits leave an
//! attacker nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use peerup_types::PeerId;

use crate::{handshake::HandshakeError, token::Token};

/// How many streams may try one code at the same time.
pub const MAX_PARALLEL_ATTEMPTS: usize = 4;

/// How many wrong guesses burn the code.
pub const MAX_FAILURES: u32 = 5;

/// How long one attempt may take: several round trips over a slow relay, and the inviter's disk.
pub const ATTEMPT_DEADLINE: Duration = Duration::from_secs(30);

/// One invite code while it lives.
#[derive(Debug)]
pub struct InviteSession {
    token: Token<8>,
    expires: Instant,
    state: InviteState,
    failures: u32,
    attempts: BTreeMap<AttemptId, Attempt>,
    next_id: u64,
    events: VecDeque<InviteSessionEvent>,
}

/// One stream that tries the code, unique within its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteState {
    Open,
    Used { by: PeerId },
    Burnt,
    Expired,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the invite code has been used")]
    Used,
    #[error("the invite code was burnt by {MAX_FAILURES} failed attempts")]
    Burnt,
    #[error("the invite code has expired")]
    Expired,
    #[error("{MAX_PARALLEL_ATTEMPTS} attempts are under way already")]
    Busy,
    #[error("the attempt is over")]
    AttemptOver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InviteSessionEvent {
    /// Close this attempt's stream: it took too long, or the code was won or lost elsewhere.
    AbortAttempt { id: AttemptId, peer: PeerId },
    /// The code is burnt, or its time is up: nobody proved it, or the winner never took its answer.
    Closed(InviteState),
}

#[derive(Debug)]
struct Attempt {
    peer: PeerId,
    deadline: Instant,
}

impl InviteSession {
    pub fn new(token: Token<8>, expires: Instant) -> Self {
        Self {
            token,
            expires,
            state: InviteState::Open,
            failures: 0,
            attempts: BTreeMap::new(),
            next_id: 0,
            events: VecDeque::new(),
        }
    }

    pub fn token(&self) -> &Token<8> {
        &self.token
    }

    pub fn state(&self) -> InviteState {
        self.state
    }

    pub fn expires(&self) -> Instant {
        self.expires
    }

    pub fn failures_left(&self) -> u32 {
        MAX_FAILURES - self.failures
    }

    /// A peer opened a stream; `peer` is the identity that the connection proved.
    pub fn begin_attempt(&mut self, peer: PeerId, now: Instant) -> Result<AttemptId, Refusal> {
        self.handle_timeout(now);
        self.check_open_for(&peer)?;
        if self.attempts.len() >= MAX_PARALLEL_ATTEMPTS {
            return Err(Refusal::Busy);
        }
        let id = AttemptId(self.next_id);
        self.next_id += 1;
        self.attempts.insert(id, Attempt { peer, deadline: now + ATTEMPT_DEADLINE });
        Ok(id)
    }

    /// The attempt ended without proof.
    pub fn attempt_failed(&mut self, id: AttemptId, error: &HandshakeError) {
        if self.attempts.remove(&id).is_none() || !error.is_guess() || self.state != InviteState::Open {
            return;
        }
        self.failures += 1;
        if self.failures >= MAX_FAILURES {
            self.close(InviteState::Burnt);
        }
    }

    /// The joiner proved the code: on `Ok`, and only then, it may be authorized and accepted.
    pub fn attempt_succeeded(&mut self, id: AttemptId, now: Instant) -> Result<(), Refusal> {
        self.handle_timeout(now);
        let Attempt { peer, .. } = self.attempts.remove(&id).ok_or_else(|| self.refusal())?;
        self.check_open_for(&peer)?;
        if self.state == InviteState::Open {
            // An answer that is being given is not cut short. A second try prolongs nothing.
            self.expires = self.expires.max(now + ATTEMPT_DEADLINE);
        }
        self.state = InviteState::Used { by: peer };
        self.abort_attempts(|attempt| attempt.peer != peer);
        Ok(())
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.abort_attempts(|attempt| attempt.deadline <= now);
        if self.expires <= now && self.is_alive() {
            self.close(InviteState::Expired);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let expiry = self.is_alive().then_some(self.expires);
        self.attempts.values().map(|attempt| attempt.deadline).chain(expiry).min()
    }

    pub fn poll_event(&mut self) -> Option<InviteSessionEvent> {
        self.events.pop_front()
    }

    fn is_alive(&self) -> bool {
        match self.state {
            InviteState::Open | InviteState::Used { .. } => true,
            InviteState::Burnt | InviteState::Expired => false,
        }
    }

    fn check_open_for(&self, peer: &PeerId) -> Result<(), Refusal> {
        match self.state {
            InviteState::Open => Ok(()),
            InviteState::Used { by } if by == *peer => Ok(()),
            InviteState::Used { .. } | InviteState::Burnt | InviteState::Expired => Err(self.refusal()),
        }
    }

    fn refusal(&self) -> Refusal {
        match self.state {
            InviteState::Open => Refusal::AttemptOver,
            InviteState::Used { .. } => Refusal::Used,
            InviteState::Burnt => Refusal::Burnt,
            InviteState::Expired => Refusal::Expired,
        }
    }

    fn close(&mut self, state: InviteState) {
        self.state = state;
        self.abort_attempts(|_| true);
        self.events.push_back(InviteSessionEvent::Closed(state));
    }

    /// At most one event per attempt that was begun, so the queue is as bounded as the streams are.
    fn abort_attempts(&mut self, over: impl Fn(&Attempt) -> bool) {
        self.attempts.retain(|id, attempt| {
            let over = over(attempt);
            if over {
                self.events.push_back(InviteSessionEvent::AbortAttempt { id: *id, peer: attempt.peer });
            }
            !over
        });
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests need some instant to count from")]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(600);

    #[test]
    fn the_first_proof_wins_and_the_others_are_sent_away() {
        let (mut session, now) = session();
        let [a, b] = [peer(1), peer(2)];
        let first = session.begin_attempt(a, now).unwrap();
        let second = session.begin_attempt(b, now).unwrap();
        session.attempt_succeeded(second, now).unwrap();
        assert_eq!(session.state(), InviteState::Used { by: b });
        assert_eq!(events(&mut session), [InviteSessionEvent::AbortAttempt { id: first, peer: a }]);
        assert_eq!(session.attempt_succeeded(first, now), Err(Refusal::Used));
        assert_eq!(session.begin_attempt(a, now), Err(Refusal::Used));
    }

    #[test]
    fn the_winner_may_try_again_until_the_code_expires() {
        let (mut session, now) = session();
        let id = session.begin_attempt(peer(1), now).unwrap();
        session.attempt_succeeded(id, now).unwrap();
        let again = session.begin_attempt(peer(1), now).unwrap();
        session.attempt_succeeded(again, now).unwrap();
        assert_eq!(session.begin_attempt(peer(1), now + TTL), Err(Refusal::Expired));
    }

    #[test]
    fn a_used_code_expires_too_but_not_while_its_winner_is_answered() {
        let (mut session, now) = session();
        let late = now + TTL - Duration::from_secs(1);
        let id = session.begin_attempt(peer(1), late).unwrap();
        session.attempt_succeeded(id, late).unwrap();
        assert_eq!(session.poll_timeout(), Some(late + ATTEMPT_DEADLINE));
        session.handle_timeout(now + TTL);
        assert_eq!(session.state(), InviteState::Used { by: peer(1) });
        session.handle_timeout(late + ATTEMPT_DEADLINE);
        assert_eq!(events(&mut session), [InviteSessionEvent::Closed(InviteState::Expired)]);
        assert_eq!(session.poll_timeout(), None);
    }

    #[test]
    fn five_wrong_guesses_burn_the_code() {
        let (mut session, now) = session();
        let honest = session.begin_attempt(peer(9), now).unwrap();
        for left in (0..MAX_FAILURES).rev() {
            let id = session.begin_attempt(peer(1), now).unwrap();
            session.attempt_failed(id, &HandshakeError::WrongCode);
            session.attempt_failed(id, &HandshakeError::WrongCode);
            assert_eq!(session.failures_left(), left);
        }
        assert_eq!(session.state(), InviteState::Burnt);
        assert_eq!(
            events(&mut session),
            [
                InviteSessionEvent::AbortAttempt { id: honest, peer: peer(9) },
                InviteSessionEvent::Closed(InviteState::Burnt)
            ]
        );
        assert_eq!(session.attempt_succeeded(honest, now), Err(Refusal::Burnt));
        assert_eq!(session.begin_attempt(peer(1), now), Err(Refusal::Burnt));
        assert_eq!(session.poll_timeout(), None);
    }

    #[test]
    fn broken_connections_do_not_burn_the_code() {
        let (mut session, now) = session();
        for _ in 0..100 {
            let id = session.begin_attempt(peer(1), now).unwrap();
            session.attempt_failed(id, &HandshakeError::Abandoned);
        }
        assert_eq!(session.state(), InviteState::Open);
    }

    #[test]
    fn no_more_than_four_attempts_run_at_once_and_each_has_a_deadline() {
        let (mut session, now) = session();
        let ids: Vec<_> = (0..4).map(|_| session.begin_attempt(peer(1), now).unwrap()).collect();
        assert_eq!(session.begin_attempt(peer(2), now), Err(Refusal::Busy));
        assert_eq!(session.poll_timeout(), Some(now + ATTEMPT_DEADLINE));
        let later = now + ATTEMPT_DEADLINE;
        session.handle_timeout(later);
        let aborted: Vec<_> =
            ids.iter().map(|id| InviteSessionEvent::AbortAttempt { id: *id, peer: peer(1) }).collect();
        assert_eq!(events(&mut session), aborted);
        assert_eq!(session.attempt_succeeded(ids[0], later), Err(Refusal::AttemptOver));
        assert_eq!(session.failures_left(), MAX_FAILURES);
        assert_eq!(session.poll_timeout(), Some(now + TTL));
        session.begin_attempt(peer(2), later).unwrap();
    }

    #[test]
    fn the_code_expires_also_when_nobody_polls() {
        let (mut session, now) = session();
        let id = session.begin_attempt(peer(1), now + TTL - Duration::from_secs(1)).unwrap();
        assert_eq!(session.attempt_succeeded(id, now + TTL), Err(Refusal::Expired));
        assert_eq!(session.begin_attempt(peer(1), now + TTL), Err(Refusal::Expired));
        let closed = InviteSessionEvent::Closed(InviteState::Expired);
        assert_eq!(events(&mut session), [InviteSessionEvent::AbortAttempt { id, peer: peer(1) }, closed]);
    }

    fn session() -> (InviteSession, Instant) {
        let now = Instant::now();
        (InviteSession::new(Token::new([1; 8]), now + TTL), now)
    }

    fn events(session: &mut InviteSession) -> Vec<InviteSessionEvent> {
        std::iter::from_fn(|| session.poll_event()).collect()
    }

    fn peer(fill: u8) -> PeerId {
        PeerId::from_bytes(&[&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20][..], &[fill; 32]].concat()).unwrap()
    }
}
