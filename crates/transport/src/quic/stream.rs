//! One bidirectional stream.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};

use super::backlog::Backlog;

/// Closing finishes our direction and leaves the other one readable. Dropping finishes as well, and asks the peer to
/// stop sending.
pub struct Stream {
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    backlog: Arc<Backlog>,
}

impl Stream {
    pub(crate) fn new(send: quinn::SendStream, receive: quinn::RecvStream, backlog: Arc<Backlog>) -> Self {
        Self { send, receive, backlog }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        self.receive.poll_read(cx, into).map_err(io::Error::from)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.send).poll_write(cx, bytes))?;
        self.backlog.wrote(written);
        Poll::Ready(Ok(written))
    }

    /// QUIC sends on its own as soon as congestion control allows it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // An error only says that it was finished or reset before: closed either way.
        let _ = self.send.finish();
        Poll::Ready(Ok(()))
    }
}
