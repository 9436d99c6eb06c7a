//! A QUIC connection as a libp2p muxer: QUIC's bidirectional streams are the substreams.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{FutureExt, future::BoxFuture};
use libp2p_core::muxing::{StreamMuxer, StreamMuxerEvent};

use super::{backlog::Backlog, config::CONNECTION_WINDOW, connecting::Error, stream::Stream};

type Opening = BoxFuture<'static, Result<(quinn::SendStream, quinn::RecvStream), quinn::ConnectionError>>;

/// The muxer owns the connection: when it is closed or dropped the connection ends, whatever streams and handles
/// are still held elsewhere.
pub struct Connection {
    handle: quinn::Connection,
    backlog: Arc<Backlog>,
    inbound: Option<Opening>,
    outbound: Option<Opening>,
    closing: Option<BoxFuture<'static, quinn::ConnectionError>>,
}

impl Connection {
    pub(crate) fn new(handle: quinn::Connection) -> Self {
        let backlog = Arc::new(Backlog::new(handle.clone(), CONNECTION_WINDOW.into()));
        Self { handle, backlog, inbound: None, outbound: None, closing: None }
    }

    /// For RTT, loss, path MTU and datagrams.
    pub fn handle(&self) -> &quinn::Connection {
        &self.handle
    }

    fn stream(&self, (send, receive): (quinn::SendStream, quinn::RecvStream)) -> Stream {
        Stream::new(send, receive, self.backlog.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.handle.close(0u32.into(), &[]); // repeated closing is ignored
    }
}

impl StreamMuxer for Connection {
    type Substream = Stream;
    type Error = Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        let handle = self.handle.clone();
        let opening = self.inbound.get_or_insert_with(|| async move { handle.accept_bi().await }.boxed());
        let opened = ready!(opening.poll_unpin(cx));
        self.inbound = None;
        Poll::Ready(Ok(self.stream(opened?)))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        let handle = self.handle.clone();
        let opening = self.outbound.get_or_insert_with(|| async move { handle.open_bi().await }.boxed());
        let opened = ready!(opening.poll_unpin(cx));
        self.outbound = None;
        Poll::Ready(Ok(self.stream(opened?)))
    }

    /// Nothing to drive (quinn has its own tasks) and no address to change (migration is off).
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Error>> {
        Poll::Pending
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let handle = self.handle.clone();
        let closing = self.closing.get_or_insert_with(|| {
            handle.close(0u32.into(), &[]);
            async move { handle.closed().await }.boxed()
        });
        match ready!(closing.poll_unpin(cx)) {
            // The peer may have closed first; that is what was wanted too.
            quinn::ConnectionError::LocallyClosed | quinn::ConnectionError::ApplicationClosed(_) => {
                Poll::Ready(Ok(()))
            }
            error => Poll::Ready(Err(error.into())),
        }
    }
}
