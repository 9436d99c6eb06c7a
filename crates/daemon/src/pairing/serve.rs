//! One stream that tries the code: carries bytes between the joiner and the handshake machine, and asks the control
//! loop for the verdict.

use std::{io, net::Ipv4Addr, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt};
use peerup_control::ApiError;
use peerup_swarm::Stream;
use peerup_trust::{
    NodeName, Token,
    handshake::{Grant, HandshakeError, Inviter, InviterEvent},
    invite::{ATTEMPT_DEADLINE, AttemptId},
};
use peerup_types::PeerId;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    READ,
    invite::{InviteId, Proof, Report, Step},
    receive, transmit,
};
use crate::controller::Done;

/// A joiner that takes nothing for so long has given up.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// What the joiner gets to read our last words before the stream goes away.
const LINGER: Duration = Duration::from_secs(2);

/// What a joiner that proved the code gets. No verdict at all means that it is too late.
pub type Verdict = Result<Acceptance, ApiError>;

pub struct Acceptance {
    pub own_name: NodeName,
    pub grant: Option<Grant>,
}

/// How an attempt ended.
pub enum Ending {
    /// Without a proof.
    Failed(HandshakeError),
    /// With a proof that came too late.
    TooLate,
    /// With a proof, but we could not add the joiner.
    Refused(ApiError),
    /// The joiner is a member here and the connection broke before it had its answer; it may try again.
    Undelivered {
        joiner: NodeName,
        error: io::Error,
    },
    /// The same, and the joiner did not take it while the connection was up.
    TimedOut {
        joiner: NodeName,
    },
    Finished {
        joiner: NodeName,
        address: Option<Ipv4Addr>,
    },
}

/// The stream's place in the invite.
pub struct Attempt {
    pub invite: InviteId,
    pub id: AttemptId,
    pub peer: PeerId,
    pub done: mpsc::Sender<Done>,
}

impl Attempt {
    pub async fn serve(self, stream: Stream, token: Token<8>) {
        let ending = self.run(stream, &token).await.unwrap_or_else(Ending::Failed);
        self.report(Report::Ended { attempt: self.id, peer: self.peer, ending }).await;
    }

    async fn run(&self, mut stream: Stream, token: &Token<8>) -> Result<Ending, HandshakeError> {
        let mut machine = Inviter::new(token, &mut rand::rng());
        let proof = timeout(ATTEMPT_DEADLINE, self.prove(&mut stream, &mut machine)).await;
        let joiner = proof.unwrap_or(Err(HandshakeError::Abandoned))?;
        match self.decide(&joiner).await {
            Some(Ok(acceptance)) => Ok(accept(stream, machine, joiner, acceptance).await),
            Some(Err(error)) => {
                refuse(stream, machine).await;
                Ok(Ending::Refused(error))
            }
            None => {
                refuse(stream, machine).await;
                Ok(Ending::TooLate)
            }
        }
    }

    async fn prove(&self, stream: &mut Stream, machine: &mut Inviter) -> Result<NodeName, HandshakeError> {
        loop {
            let input = receive(stream).await;
            match input.is_empty() {
                true => machine.handle_eof()?,
                false => machine.handle_input(&input)?,
            }
            if let Some(InviterEvent::Proven { joiner_name }) = machine.poll_event() {
                return Ok(joiner_name.unwrap_or_else(|| NodeName::of_peer(&self.peer)));
            }
            if transmit(stream, || machine.poll_transmit()).await.is_err() {
                machine.handle_eof()?;
            }
        }
    }

    async fn decide(&self, joiner: &NodeName) -> Option<Verdict> {
        let (reply, verdict) = oneshot::channel();
        let proof = Proof { attempt: self.id, peer: self.peer, joiner: joiner.clone(), reply };
        self.report(Report::Proven(proof)).await;
        verdict.await.ok()
    }

    async fn report(&self, report: Report) {
        let _ = self.done.send(Done::Invite(Step { invite: self.invite, report })).await;
    }
}

async fn accept(stream: Stream, mut machine: Inviter, joiner: NodeName, acceptance: Acceptance) -> Ending {
    let Acceptance { own_name, grant } = acceptance;
    if let Err(error) = machine.accept(&own_name, grant.as_ref()) {
        refuse(stream, machine).await;
        return Ending::Refused(ApiError::failure(format!("the joiner's place cannot be granted: {error}")));
    }
    match timeout(ANSWER_DEADLINE, deliver(stream, machine)).await {
        Ok(Ok(())) => Ending::Finished { joiner, address: grant.map(|grant| grant.address) },
        Ok(Err(error)) => Ending::Undelivered { joiner, error },
        Err(_) => Ending::TimedOut { joiner },
    }
}

async fn refuse(stream: Stream, mut machine: Inviter) {
    // Fails only in a state that a proof rules out.
    let _ = machine.refuse();
    let _ = timeout(LINGER, deliver(stream, machine)).await;
}

/// Our last words: written to the end, then read by the joiner, which closes when it has.
async fn deliver(mut stream: Stream, mut machine: Inviter) -> io::Result<()> {
    transmit(&mut stream, || machine.poll_transmit()).await?;
    stream.close().await?;
    let mut ignored = [0; READ];
    let closed = async {
        while stream.read(&mut ignored).await? > 0 {}
        Ok(())
    };
    // One that has read them and does not close has no more to say either.
    timeout(LINGER, closed).await.unwrap_or(Ok(()))
}
