//! The hello exchange on a fresh stream, bounded in time and size.

use std::{io, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt};
use peerup_swarm::{OpenError, PathHandle, Stream};
use peerup_wire::{
    hello::{self, Hello, HelloAck, HelloError},
    protocol,
};
use tokio::time::timeout;

/// A relayed path over a slow radio needs a few round trips of a second each.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum GreetError {
    #[error("cannot open a stream: {0}")]
    Open(#[from] OpenError),
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
    #[error("the peer's hello is not valid: {0}")]
    Hello(#[from] HelloError),
    #[error("the peer did not answer in time")]
    Timeout,
}

/// Opens our stream on a path and greets. The stream carries frames from here on if the answer accepts.
pub async fn greet(path: PathHandle, hello: Hello) -> Result<(Stream, HelloAck), GreetError> {
    let exchange = async {
        let mut stream = path.open(protocol::TUN).await?;
        stream.write_all(&hello.encode()).await?;
        stream.flush().await?;
        let ack = HelloAck::parse(&read_message(&mut stream).await?)?;
        Ok((stream, ack))
    };
    timeout(DEADLINE, exchange).await.unwrap_or(Err(GreetError::Timeout))
}

/// Reads the hello on a stream that the peer opened.
pub async fn read_hello(mut stream: Stream) -> Result<(Stream, Hello), GreetError> {
    let reading = async {
        let hello = Hello::parse(&read_message(&mut stream).await?)?;
        Ok((stream, hello))
    };
    timeout(DEADLINE, reading).await.unwrap_or(Err(GreetError::Timeout))
}

/// Answers a hello. A refusal is the last thing that the stream carries.
pub async fn answer(mut stream: Stream, ack: HelloAck) -> Result<Stream, GreetError> {
    let writing = async {
        stream.write_all(&ack.encode()).await?;
        stream.flush().await?;
        if matches!(ack, HelloAck::Refused { .. }) {
            stream.close().await?;
        }
        Ok(stream)
    };
    timeout(DEADLINE, writing).await.unwrap_or(Err(GreetError::Timeout))
}

async fn read_message(stream: &mut Stream) -> Result<Vec<u8>, GreetError> {
    let mut prefix = [0; hello::LENGTH_PREFIX];
    stream.read_exact(&mut prefix).await?;
    let mut message = vec![0; hello::decode_length(prefix)?];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
