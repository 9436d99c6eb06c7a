//! The serving side: a stream of a peer becomes a connection to a local address.
//!
//! The access list is asked before anything is dialed; a refusal and a failed dial both reset the stream, so that
//! nobody learns more than that there was no connection.

use std::{io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, channel::mpsc};
use peerup_config::HostPort;
use peerup_services::{Answer, Offers, Refusal};
use peerup_swarm::{self as swarm, InboundStream, Session, Stream};
use peerup_types::PeerId;
use tokio::{net::TcpStream, time::timeout};

use super::{
    copy::{CopyError, copy},
    room::{Place, Room},
    served::{Served, ServedSession},
    side::{Local, Remote},
};

/// Streams that wait to be looked at.
pub const QUEUE: usize = 1024;
/// Connecting to the service.
const DIAL: Duration = Duration::from_secs(10);
/// What the other end says before a connection exists: a port, a ping.
const PREAMBLE: Duration = Duration::from_secs(30);
/// The name under which sessions to port numbers are counted.
const PORTS: &str = "port";
const PING: &[u8] = b"ping\n";

#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the peer did not say what it wants in time")]
    Silent,
    #[error("the stream failed: {0}")]
    Stream(#[source] io::Error),
    #[error("cannot connect to {to}: {cause}")]
    Dial { to: HostPort, cause: io::Error },
    #[error(transparent)]
    Copy(#[from] CopyError),
}

/// Serves until the senders are gone.
pub async fn serve(
    mut streams: mpsc::Receiver<InboundStream>,
    offers: Arc<ArcSwap<Offers>>,
    served: Arc<Served>,
) {
    let room = Room::default();
    while let Some(arrived) = streams.next().await {
        let Some(place) = room.enter(arrived.peer) else {
            tracing::debug!(peer = %arrived.peer, "a stream was reset: too many sessions");
            swarm::reset(arrived.stream);
            continue;
        };
        tokio::spawn(answer(arrived, offers.clone(), served.clone(), place));
    }
}

async fn answer(arrived: InboundStream, offers: Arc<ArcSwap<Offers>>, served: Arc<Served>, _place: Place) {
    let InboundStream { peer, protocol, stream, usage, path } = arrived;
    let session = usage.begin();
    let answered = match offers.load().answer(&peer, protocol.as_ref()) {
        Ok(Answer::PingPong) => pong(stream).await,
        Ok(Answer::Connect { service, to }) => {
            connect(stream, session, to, served.begin(service.as_str())).await
        }
        Ok(Answer::AskPort) => connect_port(stream, session, &peer, &offers, &served).await,
        Err(refusal) => {
            swarm::reset(stream);
            served.denied(&peer, protocol.as_ref());
            Err(refusal.into())
        }
    };
    if let Err(error) = answered {
        tracing::debug!(%peer, %path, %protocol, %error, "a service stream ended early");
    }
}

async fn connect_port(
    mut stream: Stream,
    session: Session,
    peer: &PeerId,
    offers: &ArcSwap<Offers>,
    served: &Arc<Served>,
) -> Result<(), ServeError> {
    let mut port = [0; 2];
    let to = match read_within(&mut stream, &mut port).await {
        Ok(()) => offers.load().port(peer, u16::from_be_bytes(port)).map_err(ServeError::from),
        Err(error) => Err(error),
    };
    match to {
        Ok(to) => connect(stream, session, to, served.begin(PORTS)).await,
        Err(error) => {
            swarm::reset(stream);
            if let ServeError::Refused(_) = &error {
                served.denied(peer, &format!("{PORTS}/{}", u16::from_be_bytes(port)));
            }
            Err(error)
        }
    }
}

async fn connect(
    stream: Stream,
    session: Session,
    to: HostPort,
    counted: ServedSession,
) -> Result<(), ServeError> {
    let remote = Remote::new(stream, session);
    // Dropping the stream resets it.
    let tcp = dial(&to).await.map_err(|cause| ServeError::Dial { to, cause })?;
    copy(Local::new(tcp), remote, &counted.counters.sent, &counted.counters.received)
        .await
        .map_err(ServeError::from)
}

async fn dial(to: &HostPort) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect((to.host.as_str(), to.port));
    timeout(DIAL, connecting).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn read_within(stream: &mut Stream, into: &mut [u8]) -> Result<(), ServeError> {
    let read = timeout(PREAMBLE, stream.read_exact(into)).await;
    read.map_err(|_| ServeError::Silent)?.map_err(ServeError::Stream)
}

/// The Go original's ping: `ping\n` is answered with `pong\n`, every other line with `unknown\n`.
async fn pong(mut stream: Stream) -> Result<(), ServeError> {
    let word = timeout(PREAMBLE, pong_word(&mut stream)).await.map_err(|_| ServeError::Silent)?;
    let answering = async {
        stream.write_all(word.map_err(|_| io::ErrorKind::InvalidData)?).await?;
        stream.close().await
    };
    answering.await.map_err(ServeError::Stream)
}

/// Reads one line, as far as it can be a ping.
async fn pong_word(stream: &mut (impl futures::AsyncRead + Unpin)) -> io::Result<&'static [u8]> {
    let mut line = [0; PING.len()];
    for (index, expected) in PING.iter().enumerate() {
        let read = stream.read(&mut line[index..=index]).await?;
        if read == 0 || line[index] != *expected {
            return Ok(b"unknown\n");
        }
    }
    Ok(b"pong\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ping_is_answered_byte_for_byte() {
        for (line, answer) in [
            (&b"ping\n"[..], &b"pong\n"[..]),
            (b"pong\n", b"unknown\n"),
            (b"ping", b"unknown\n"),
            (b"ping \n", b"unknown\n"),
            (b"", b"unknown\n"),
        ] {
            let mut stream = futures::io::Cursor::new(line.to_vec());
            assert_eq!(pong_word(&mut stream).await.unwrap(), answer, "{line:?}");
        }
    }
}
