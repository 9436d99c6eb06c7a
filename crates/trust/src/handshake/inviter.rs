//! The inviter's side of one stream.

use std::collections::VecDeque;

use rand_core::CryptoRng;
use x25519_dalek::{EphemeralSecret, PublicKey};

use super::{
    Grant, GrantError, HandshakeError, VERSION,
    frame::{self, FrameReader, Intake, MAX_FRAME},
    key::{Nonce, SessionKey, random_nonce},
};
use crate::{name::NodeName, token::Token};

const REFUSAL: &[u8] = b"ERR server error";

/// Waits for a joiner to prove the code, asks the owner, and answers.
///
/// Feed [`handle_input`](Self::handle_input), then drain [`poll_transmit`](Self::poll_transmit) and
/// [`poll_event`](Self::poll_event). After an error, or once [`is_finished`](Self::is_finished), the stream is
/// closed; an error is never reported to the other side, which learns nothing but the end of the stream.
pub struct Inviter {
    state: State,
    nonces: [Nonce; 2],
    transmits: VecDeque<Vec<u8>>,
    event: Option<InviterEvent>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InviterEvent {
    /// The joiner holds the token: authorize it and [`accept`](Inviter::accept), or [`refuse`](Inviter::refuse).
    Proven { joiner_name: Option<NodeName> },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    #[error("no joiner waits for an answer on this stream")]
    NobodyWaits,
    #[error("the grant cannot be sent")]
    Grant(#[from] GrantError),
}

enum State {
    AwaitingKey { intake: Intake, secret: EphemeralSecret, token: Token<8> },
    AwaitingName { frame: FrameReader, key: SessionKey },
    AwaitingDecision { key: SessionKey },
    Done,
}

impl Inviter {
    pub fn new(token: &Token<8>, rng: &mut impl CryptoRng) -> Self {
        let secret = EphemeralSecret::random_from_rng(rng);
        let nonces = [random_nonce(rng), random_nonce(rng)];
        let state = State::AwaitingKey { intake: Intake::new(33), secret, token: token.clone() };
        Self { state, nonces, transmits: VecDeque::new(), event: None }
    }

    /// Bytes from the stream. What a joiner sends after its name is ignored.
    pub fn handle_input(&mut self, mut input: &[u8]) -> Result<(), HandshakeError> {
        while !input.is_empty() {
            self.state = match std::mem::replace(&mut self.state, State::Done) {
                State::AwaitingKey { intake, secret, token } => {
                    self.read_key(intake, secret, token, &mut input)?
                }
                State::AwaitingName { frame, key } => self.read_name(frame, key, &mut input)?,
                idle @ (State::AwaitingDecision { .. } | State::Done) => {
                    input = &[];
                    idle
                }
            };
        }
        Ok(())
    }

    /// The joiner closed its side, or the stream broke.
    pub fn handle_eof(&mut self) -> Result<(), HandshakeError> {
        match self.state {
            State::AwaitingKey { .. } | State::AwaitingName { .. } => {
                self.state = State::Done;
                Err(HandshakeError::Abandoned)
            }
            State::AwaitingDecision { .. } | State::Done => Ok(()),
        }
    }

    /// Tells the joiner that it is a member, and what it has been given.
    pub fn accept(&mut self, own_name: &NodeName, grant: Option<&Grant>) -> Result<(), AcceptError> {
        let State::AwaitingDecision { key } = &self.state else { return Err(AcceptError::NobodyWaits) };
        let grant = grant.map(Grant::encode).transpose()?;
        let answer = key.seal(&self.nonces[0], format!("OK {own_name}").as_bytes());
        self.transmits.push_back(frame::emit(&answer));
        if let Some(grant) = grant {
            self.transmits.push_back(frame::emit(&key.seal(&self.nonces[1], &grant)));
        }
        self.state = State::Done;
        Ok(())
    }

    /// Tells the joiner that its code is right but that it could not be added.
    pub fn refuse(&mut self) -> Result<(), AcceptError> {
        let State::AwaitingDecision { key } = &self.state else { return Err(AcceptError::NobodyWaits) };
        self.transmits.push_back(frame::emit(&key.seal(&self.nonces[0], REFUSAL)));
        self.state = State::Done;
        Ok(())
    }

    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<InviterEvent> {
        self.event.take()
    }

    /// Everything has been said and handed out.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Done) && self.transmits.is_empty()
    }

    fn read_key(
        &mut self,
        mut intake: Intake,
        secret: EphemeralSecret,
        token: Token<8>,
        input: &mut &[u8],
    ) -> Result<State, HandshakeError> {
        let Some([version, theirs @ ..]) = intake.read_array::<33>(input) else {
            return Ok(State::AwaitingKey { intake, secret, token });
        };
        if version != VERSION {
            return Err(HandshakeError::UnsupportedVersion(version));
        }
        let ours = PublicKey::from(&secret);
        let key = SessionKey::agree(secret, theirs, &token)?;
        self.transmits.push_back(ours.as_bytes().to_vec());
        Ok(State::AwaitingName { frame: FrameReader::new(MAX_FRAME), key })
    }

    fn read_name(
        &mut self,
        mut frame: FrameReader,
        key: SessionKey,
        input: &mut &[u8],
    ) -> Result<State, HandshakeError> {
        let Some(sealed) = frame.read(input)? else { return Ok(State::AwaitingName { frame, key }) };
        let name = key.open(&sealed)?;
        let joiner_name = NodeName::sanitise(&String::from_utf8_lossy(&name));
        self.event = Some(InviterEvent::Proven { joiner_name });
        Ok(State::AwaitingDecision { key })
    }
}
