//! Asking a relay to admit a joiner on our word (`/peerup/vouch/1.0.0`, docs/wire.md).

use std::{io, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt};
use peerup_swarm::{OpenError, PathHandle};
use peerup_wire::{
    protocol,
    vouch::{RESPONSE_HEADER, Request, Response, Status, VouchError},
};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("there is no connection to the relay")]
    Unreachable,
    #[error("the relay does not take vouching: {0}")]
    Open(#[from] OpenError),
    #[error("the stream to the relay failed: {0}")]
    Io(#[from] io::Error),
    #[error("the relay's answer is not valid: {0}")]
    Message(#[from] VouchError),
    #[error("the relay refused: {0}")]
    Refused(String),
    #[error("the relay did not answer in time")]
    Timeout,
}

/// Sends one request to the relay at the other end of `path`, if there is one.
pub async fn ask(path: Option<PathHandle>, request: &Request) -> Result<(), AskError> {
    let path = path.ok_or(AskError::Unreachable)?;
    let exchange = async {
        let mut stream = path.open(protocol::VOUCH).await?;
        stream.write_all(&request.encode()?).await?;
        stream.flush().await?;
        let mut header = [0; RESPONSE_HEADER];
        stream.read_exact(&mut header).await?;
        let mut message = header.to_vec();
        message.resize(RESPONSE_HEADER + Response::message_length(header), 0);
        stream.read_exact(&mut message[RESPONSE_HEADER..]).await?;
        let response = Response::parse(&message)?;
        match response.status {
            Status::Ok => Ok(()),
            _ => Err(AskError::Refused(response.message)),
        }
    };
    timeout(DEADLINE, exchange).await.unwrap_or(Err(AskError::Timeout))
}
