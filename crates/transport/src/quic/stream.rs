//! One bidirectional stream.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};

use super::backlog::Backlog;

/// What a stream that breaks off says. libp2p gives the codes no meaning.
const RESET: u32 = 0;

thread_local! {
    static RESETTING: Cell<bool> = const { Cell::new(false) };
}

/// Drops `stream`, which holds streams of ours somewhere inside. Those that were not closed are reset, so that the
/// other end is told that something is missing. libp2p hides a stream behind types that can only be dropped, and
/// dropping has to finish: its protocols write an answer and drop the stream.
pub fn reset<T>(stream: T) {
    let before = RESETTING.replace(true);
    drop(stream);
    RESETTING.set(before);
}

/// Closing finishes our direction and leaves the other one readable. Dropping finishes as well (but see [`reset`]),
/// and asks the peer to stop sending.
pub struct Stream {
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    backlog: Arc<Backlog>,
}

impl Stream {
    pub(crate) fn new(send: quinn::SendStream, receive: quinn::RecvStream, backlog: Arc<Backlog>) -> Self {
        backlog.opened();
        Self { send, receive, backlog }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if RESETTING.get() {
            // An error says that it was finished or reset before.
            let _ = self.send.reset(RESET.into());
        }
        self.backlog.ended();
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
