//! The joiner's side of one stream.

use std::collections::VecDeque;

use rand_core::CryptoRng;
use x25519_dalek::{EphemeralSecret, PublicKey};

use super::{
    Grant, HandshakeError, VERSION,
    frame::{self, FrameReader, Intake, MAX_FRAME, MAX_GRANT_FRAME},
    key::{Nonce, SessionKey, random_nonce},
};
use crate::{name::NodeName, token::Token};

const MAX_REASON_CHARS: usize = 200;

/// Proves a code to its inviter.
///
/// Drain [`poll_transmit`](Self::poll_transmit) once at the start and after every input. The result arrives
/// from [`poll_joined`](Self::poll_joined), at the latest after [`handle_eof`](Self::handle_eof).
pub struct Joiner {
    state: State,
    transmits: VecDeque<Vec<u8>>,
    joined: Option<Joined>,
}

/// The inviter has authorized us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub inviter_name: Option<NodeName>,
    /// `None` from an inviter that assigns no addresses: claim one.
    pub grant: Option<Grant>,
}

enum State {
    AwaitingKey { intake: Intake, secret: EphemeralSecret, token: Token<8>, name: NodeName, nonce: Nonce },
    AwaitingAnswer { frame: FrameReader, key: SessionKey },
    AwaitingGrant { frame: FrameReader, key: SessionKey, inviter_name: Option<NodeName> },
    Done,
}

impl Joiner {
    pub fn new(token: &Token<8>, own_name: NodeName, rng: &mut impl CryptoRng) -> Self {
        let secret = EphemeralSecret::random_from_rng(rng);
        let first = [&[VERSION], PublicKey::from(&secret).as_bytes().as_slice()].concat();
        let state = State::AwaitingKey {
            intake: Intake::new(32),
            secret,
            token: token.clone(),
            name: own_name,
            nonce: random_nonce(rng),
        };
        Self { state, transmits: VecDeque::from([first]), joined: None }
    }

    /// Bytes from the stream. What an inviter sends after the grant is ignored.
    pub fn handle_input(&mut self, mut input: &[u8]) -> Result<(), HandshakeError> {
        while !input.is_empty() {
            self.state = match std::mem::replace(&mut self.state, State::Done) {
                State::AwaitingKey { intake, secret, token, name, nonce } => {
                    self.read_key(intake, secret, token, name, nonce, &mut input)?
                }
                State::AwaitingAnswer { frame, key } => read_answer(frame, key, &mut input)?,
                State::AwaitingGrant { frame, key, inviter_name } => {
                    self.read_grant(frame, key, inviter_name, &mut input)?
                }
                State::Done => {
                    input = &[];
                    State::Done
                }
            };
        }
        Ok(())
    }

    /// The inviter closed, the stream broke, or the shell's patience ended. Once the inviter has said OK we
    /// are a member, with or without a grant.
    pub fn handle_eof(&mut self) -> Result<(), HandshakeError> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::AwaitingKey { .. } => Err(HandshakeError::NotOpen),
            State::AwaitingAnswer { .. } => Err(HandshakeError::Rejected),
            State::AwaitingGrant { inviter_name, .. } => {
                self.joined = Some(Joined { inviter_name, grant: None });
                Ok(())
            }
            State::Done => Ok(()),
        }
    }

    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    pub fn poll_joined(&mut self) -> Option<Joined> {
        self.joined.take()
    }

    fn read_key(
        &mut self,
        mut intake: Intake,
        secret: EphemeralSecret,
        token: Token<8>,
        name: NodeName,
        nonce: Nonce,
        input: &mut &[u8],
    ) -> Result<State, HandshakeError> {
        let Some(theirs) = intake.read_array(input) else {
            return Ok(State::AwaitingKey { intake, secret, token, name, nonce });
        };
        let key = SessionKey::agree(secret, theirs, &token)?;
        self.transmits.push_back(frame::emit(&key.seal(&nonce, name.as_str().as_bytes())));
        Ok(State::AwaitingAnswer { frame: FrameReader::new(MAX_FRAME), key })
    }

    fn read_grant(
        &mut self,
        mut frame: FrameReader,
        key: SessionKey,
        inviter_name: Option<NodeName>,
        input: &mut &[u8],
    ) -> Result<State, HandshakeError> {
        let Some(sealed) = frame.read(input)? else {
            return Ok(State::AwaitingGrant { frame, key, inviter_name });
        };
        let grant = Grant::decode(&key.open(&sealed)?).map_err(HandshakeError::Grant)?;
        self.joined = Some(Joined { inviter_name, grant });
        Ok(State::Done)
    }
}

fn read_answer(mut frame: FrameReader, key: SessionKey, input: &mut &[u8]) -> Result<State, HandshakeError> {
    let Some(sealed) = frame.read(input)? else { return Ok(State::AwaitingAnswer { frame, key }) };
    let answer = key.open(&sealed)?;
    let answer = String::from_utf8_lossy(&answer);
    if let Some(reason) = answer.strip_prefix("ERR") {
        return Err(HandshakeError::Refused { reason: printable(reason) });
    }
    let name = answer.strip_prefix("OK").ok_or(HandshakeError::UnexpectedAnswer)?;
    if !name.is_empty() && !name.starts_with(' ') {
        return Err(HandshakeError::UnexpectedAnswer);
    }
    let inviter_name = NodeName::sanitise(name);
    Ok(State::AwaitingGrant { frame: FrameReader::new(MAX_GRANT_FRAME), key, inviter_name })
}

fn printable(reason: &str) -> String {
    reason.trim().chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect()
}
