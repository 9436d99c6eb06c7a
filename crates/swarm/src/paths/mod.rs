//! One handle per connection.
//!
//! Every established connection yields a [`PathHandle`]: which peer, which kind of path, and a way to open streams
//! on exactly this connection. Opening goes straight to the connection's own task through a bounded channel; the
//! swarm's event loop is not involved. Inbound streams go to one bounded queue with the path they came on; when
//! nobody takes them, new ones are refused rather than buffered.

mod behaviour;
mod handler;
mod services;
mod usage;

use std::{fmt, io, sync::Arc};

use futures::{
    SinkExt,
    channel::{mpsc, oneshot},
};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, swarm::ConnectionId};
use peerup_transport::quic::Datagrams;
use peerup_types::{PathId, PathKind};

pub use behaviour::{Behaviour, Event, Protocols};
pub use services::Services;
pub use usage::{PathUse, Session};

use crate::event::DialId;

/// Commands that may wait for one connection's task; whoever opens more streams at once waits.
const COMMAND_QUEUE: usize = 16;

/// A way to use one connection. Cheap to clone; it stays valid when the connection is gone and then reports so.
#[derive(Clone)]
pub struct PathHandle {
    pub path: PathId,
    pub peer: PeerId,
    pub kind: PathKind,
    /// The remote underlay address, or the circuit address.
    pub remote: Multiaddr,
    /// The relay of a relayed path, where known.
    pub relay: Option<PeerId>,
    /// Whether this node dialed.
    pub outbound: bool,
    /// Of a QUIC connection whose two ends take them.
    pub datagrams: Option<Datagrams>,
    /// Who else uses the connection.
    pub usage: Arc<PathUse>,
    pub(crate) connection: ConnectionId,
    commands: mpsc::Sender<Command>,
}

impl PathHandle {
    /// The dial that this path came of, where this node dialed.
    pub fn dial(&self) -> DialId {
        DialId(self.connection)
    }
}

/// An inbound stream, with its protocol negotiated and nothing read yet.
#[derive(Debug)]
pub struct InboundStream {
    pub path: PathId,
    pub peer: PeerId,
    pub protocol: StreamProtocol,
    pub stream: Stream,
    /// Who else uses the connection.
    pub usage: Arc<PathUse>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the connection is closed")]
    Closed,
    #[error("the peer does not speak {0}")]
    Unsupported(StreamProtocol),
    #[error("the peer did not answer the stream negotiation in time")]
    Timeout,
    #[error("`{0}` is no name of a protocol: it has to start with a slash")]
    Name(String),
    #[error("the stream failed while it was negotiated")]
    Io(#[source] io::Error),
}

pub(crate) enum Command {
    Open { protocol: StreamProtocol, reply: Reply },
}

pub(crate) type Reply = oneshot::Sender<Result<Stream, OpenError>>;

impl PathHandle {
    /// Opens a stream on this connection and no other.
    pub async fn open(&self, protocol: &'static str) -> Result<Stream, OpenError> {
        self.open_protocol(StreamProtocol::new(protocol)).await
    }

    /// As [`PathHandle::open`], for a protocol whose name is not known before the program runs.
    pub async fn open_named(&self, protocol: &str) -> Result<Stream, OpenError> {
        let named = StreamProtocol::try_from_owned(protocol.to_owned());
        self.open_protocol(named.map_err(|_| OpenError::Name(protocol.to_owned()))?).await
    }

    async fn open_protocol(&self, protocol: StreamProtocol) -> Result<Stream, OpenError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Open { protocol, reply };
        self.commands.clone().send(command).await.map_err(|_| OpenError::Closed)?;
        answer.await.unwrap_or(Err(OpenError::Closed))
    }
}

impl fmt::Debug for PathHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PathHandle")
            .field("path", &self.path)
            .field("peer", &self.peer)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
