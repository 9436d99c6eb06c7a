//! A muxer whose close ends.
//!
//! Closing yamux flushes what is queued and says goodbye, and libp2p reports a connection as closed only after
//! that. When the network has gone silent under a TCP connection and its send buffer is full, the flush waits for
//! the kernel to give up, which takes about a quarter of an hour; so long the reservation on it would look alive.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::time::{Sleep, sleep};

/// A goodbye that takes longer than a slow round trip is not heard.
const DEADLINE: Duration = Duration::from_secs(1);

pub struct BoundedClose<M> {
    inner: M,
    closing: Option<Pin<Box<Sleep>>>,
}

impl<M> BoundedClose<M> {
    pub fn new(inner: M) -> Self {
        Self { inner, closing: None }
    }

    fn inner(self: Pin<&mut Self>) -> Pin<&mut M>
    where
        M: Unpin,
    {
        Pin::new(&mut self.get_mut().inner)
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for BoundedClose<M> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        self.inner().poll_inbound(cx)
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        self.inner().poll_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        if let Poll::Ready(closed) = self.as_mut().inner().poll_close(cx) {
            return Poll::Ready(closed);
        }
        let closing = self.closing.get_or_insert_with(|| Box::pin(sleep(DEADLINE)));
        closing.as_mut().poll(cx).map(Ok)
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        self.inner().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io};

    use futures::io::Cursor;
    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_muxer_that_cannot_flush_is_closed_after_a_second() {
        let mut muxer = BoundedClose::new(Stuck);
        let start = Instant::now();
        let closed = timeout(DEADLINE * 2, poll_fn(|cx| Pin::new(&mut muxer).poll_close(cx))).await;
        closed.expect("closed in time").unwrap();
        assert_eq!(start.elapsed(), DEADLINE);
    }

    struct Stuck;

    impl StreamMuxer for Stuck {
        type Substream = Cursor<Vec<u8>>;
        type Error = io::Error;

        fn poll_inbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }
    }
}
