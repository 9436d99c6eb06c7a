//! Opening a stream for a session: on the best path there is, again after a pause when that fails.

use std::{io, time::Duration};

use futures::AsyncWriteExt;
use peerup_control::{ApiError, ErrorKind};
use peerup_services::{Retry, Wanted};
use peerup_swarm::{self as swarm, OpenError, PathHandle};
use peerup_types::PeerId;
use tokio::time::{Instant, sleep, timeout};

use super::{copy::CopyError, side::Remote};
use crate::api::{NodeHandle, NotReached};

/// One attempt: a path, a stream on it, and what is said first.
const OPEN: Duration = Duration::from_secs(30);
/// How long an attempt waits for a path to a peer that is being reached.
const REACH: Duration = Duration::from_secs(15);
/// Between two looks at whether it has been reached.
const LOOK: Duration = Duration::from_millis(100);
/// After the first attempt.
const RETRIES: u32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("the peer is not authorized")]
    Unknown,
    #[error("the peer is not reachable")]
    Unreachable,
    #[error("the stream did not open within {} s", OPEN.as_secs())]
    Timeout,
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
    #[error("this node is stopping")]
    Stopping,
}

impl StreamError {
    /// Whether another attempt may end differently.
    fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable | Self::Timeout | Self::Io(_) => true,
            Self::Open(OpenError::Closed | OpenError::Timeout | OpenError::Io(_)) => true,
            Self::Open(OpenError::Unsupported(_) | OpenError::Name(_)) => false,
            Self::Unknown | Self::Stopping => false,
        }
    }
}

impl From<StreamError> for ApiError {
    fn from(error: StreamError) -> Self {
        let kind = match &error {
            StreamError::Unknown => ErrorKind::NotAuthorised,
            StreamError::Stopping => ErrorKind::NotRunning,
            StreamError::Timeout => ErrorKind::Timeout,
            StreamError::Unreachable | StreamError::Open(_) | StreamError::Io(_) => ErrorKind::Unreachable,
        };
        let answer = Self::new(kind, error.to_string());
        match kind {
            ErrorKind::Unreachable => answer.with_hint("peerup status"),
            _ => answer,
        }
    }
}

/// A stream for one session, tried up to four times.
pub async fn open(node: &NodeHandle, peer: PeerId, wanted: &Wanted) -> Result<Remote, StreamError> {
    let mut retry = Retry::new(RETRIES);
    loop {
        let attempt = timeout(OPEN, open_once(node, peer, wanted)).await;
        let error = match attempt.unwrap_or(Err(StreamError::Timeout)) {
            Ok(remote) => return Ok(remote),
            Err(error) if error.is_passing() => error,
            Err(error) => return Err(error),
        };
        let Some(wait) = retry.next_wait() else { return Err(error) };
        tracing::debug!(%peer, %error, ?wait, "no stream yet");
        sleep(wait).await;
    }
}

async fn open_once(node: &NodeHandle, peer: PeerId, wanted: &Wanted) -> Result<Remote, StreamError> {
    let path = reach(node, peer).await?;
    let session = path.usage.begin();
    let mut stream = path.open_named(&wanted.protocol()).await?;
    if let Some(preamble) = wanted.preamble() {
        stream.write_all(&preamble).await?;
    }
    Ok(Remote::new(stream, session))
}

/// A path to `peer`, which is reached for it if need be.
pub async fn reach(node: &NodeHandle, peer: PeerId) -> Result<PathHandle, StreamError> {
    let give_up = Instant::now() + REACH;
    loop {
        match node.path_to(peer).await.map_err(|_| StreamError::Stopping)? {
            Ok(path) => return Ok(path),
            Err(NotReached::Unknown) => return Err(StreamError::Unknown),
            Err(NotReached::Connecting | NotReached::Offline) if Instant::now() < give_up => {
                sleep(LOOK).await
            }
            Err(NotReached::Connecting | NotReached::Offline) => return Err(StreamError::Unreachable),
        }
    }
}

/// What a session's end says to the user whose connection it carried; `answered`: whether the peer sent anything.
pub fn explain(error: &CopyError, wanted: &Wanted, answered: bool) -> String {
    match (error, wanted) {
        (CopyError::Remote(cause), Wanted::Service(name)) if swarm::is_refusal(cause) => {
            format!("the peer offers no service `{name}`")
        }
        (CopyError::Remote(cause), Wanted::Port(_)) if swarm::is_refusal(cause) => {
            "the peer opens no ports".to_owned()
        }
        (CopyError::Remote(_), Wanted::Service(name)) if !answered => {
            format!("the peer does not let this node use `{name}`, or nothing answers there")
        }
        (CopyError::Remote(_), Wanted::Port(port)) if !answered => {
            format!("the peer does not open port {port}, or nothing answers there")
        }
        (CopyError::Local(_) | CopyError::Remote(_), _) => error.to_string(),
    }
}
