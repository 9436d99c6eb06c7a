//! The part that lives in each connection's task.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures::{StreamExt, channel::mpsc};
use libp2p::{
    PeerId, Stream, StreamProtocol,
    core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use peerup_types::PathId;

use super::{Command, InboundStream, OpenError, PathUse, Reply, behaviour::Shared};

/// Where inbound streams go.
#[derive(Clone)]
pub struct Inbound {
    pub control: mpsc::Sender<InboundStream>,
    pub services: Option<mpsc::Sender<InboundStream>>,
}

pub struct Handler {
    path: PathId,
    peer: PeerId,
    usage: Arc<PathUse>,
    commands: mpsc::Receiver<Command>,
    inbound: Inbound,
    requested: VecDeque<(StreamProtocol, Reply)>,
    shared: Arc<Shared>,
}

impl Handler {
    pub fn new(
        path: PathId,
        peer: PeerId,
        usage: Arc<PathUse>,
        commands: mpsc::Receiver<Command>,
        inbound: Inbound,
        shared: Arc<Shared>,
    ) -> Self {
        Self { path, peer, usage, commands, inbound, requested: VecDeque::new(), shared }
    }

    fn deliver(&mut self, (stream, protocol): (Stream, StreamProtocol)) {
        let queue = match &mut self.inbound.services {
            Some(services) if self.shared.is_service(&protocol) => services,
            Some(_) | None => &mut self.inbound.control,
        };
        let usage = self.usage.clone();
        let arrived = InboundStream { path: self.path, peer: self.peer, protocol, stream, usage };
        if queue.try_send(arrived).is_err() {
            tracing::debug!(peer = %self.peer, path = %self.path, "inbound stream refused: queue is full");
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.usage.close();
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = AnyOf;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = (StreamProtocol, Reply);

    fn listen_protocol(&self) -> SubstreamProtocol<AnyOf> {
        SubstreamProtocol::new(AnyOf(self.shared.protocols_for(&self.peer)), ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.shared.keeps_alive(&self.peer)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Infallible>> {
        while let Poll::Ready(Some(Command::Open { protocol, reply })) = self.commands.poll_next_unpin(cx) {
            self.requested.push_back((protocol, reply));
        }
        match self.requested.pop_front() {
            Some((protocol, reply)) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(protocol.clone()), (protocol, reply)),
            }),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, AnyOf, Self::OutboundProtocol, (), Self::OutboundOpenInfo>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.deliver(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: (_, reply),
            }) => {
                // Nobody waiting any more means that the path was given up; the stream closes by being dropped.
                let _ = reply.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: (protocol, reply), error }) => {
                let _ = reply.send(Err(open_error(protocol, error)));
            }
            // Address and protocol changes, and inbound streams that failed to negotiate, need no action.
            _ => {}
        }
    }
}

fn open_error(protocol: StreamProtocol, error: StreamUpgradeError<Infallible>) -> OpenError {
    match error {
        StreamUpgradeError::Timeout => OpenError::Timeout,
        StreamUpgradeError::NegotiationFailed => OpenError::Unsupported(protocol),
        StreamUpgradeError::Io(cause) => OpenError::Io(cause),
        StreamUpgradeError::Apply(never) => match never {},
    }
}

/// Accepts any of a list of protocols and says which one it was.
#[derive(Clone)]
pub struct AnyOf(pub Arc<[StreamProtocol]>);

impl UpgradeInfo for AnyOf {
    type Info = StreamProtocol;
    type InfoIter = Vec<StreamProtocol>;

    fn protocol_info(&self) -> Vec<StreamProtocol> {
        self.0.to_vec()
    }
}

impl InboundUpgrade<Stream> for AnyOf {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}
