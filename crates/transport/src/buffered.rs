//! Gathers small writes below a multiplexer.
//!
//! yamux writes header and body of a frame separately and flushes after every frame, so that without help each frame
//! costs two TLS records and two system calls. [`Buffered`] keeps written bytes until one of these holds:
//!
//! * [`CAPACITY`] bytes have gathered: they go down as full TLS records;
//! * the writer asks to flush again without having written: it has nothing more to say;
//! * somebody reads: yamux does so when it has no further frame to send.
//!
//! A first flush after a write answers `Pending` and wakes the task at once, which is what the contract of
//! [`AsyncWrite`] asks for: whoever waits for the flush asks again and gets a real one. No timer is involved, so a
//! lone small write leaves in the same turn of its task.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};

/// Four full TLS records (RFC 8446, 5.1: 2^14 bytes each), and what rustls takes in one write.
const CAPACITY: usize = 64 * 1024;

#[derive(Debug)]
pub struct Buffered<S> {
    inner: S,
    gathered: Vec<u8>,
    /// How much of `gathered` the layer below has already taken.
    taken: usize,
    /// Bytes were written since the last flush was asked for.
    fresh: bool,
}

impl<S> Buffered<S> {
    pub fn new(inner: S) -> Self {
        Self { inner, gathered: Vec::new(), taken: 0, fresh: false }
    }

    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncWrite + Unpin> Buffered<S> {
    /// Hands all gathered bytes to the layer below.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.gathered.len() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &self.gathered[self.taken..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.taken += written,
            }
        }
        self.gathered.clear();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_flush_now(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.fresh = false;
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Buffered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gathered.len() == CAPACITY {
            ready!(self.poll_drain(cx))?;
        }
        if self.gathered.is_empty() && bytes.len() >= CAPACITY {
            return Pin::new(&mut self.inner).poll_write(cx, bytes);
        }
        let fits = bytes.len().min(CAPACITY - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..fits]);
        self.fresh = true;
        Poll::Ready(Ok(fits))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.fresh && self.gathered.len() < CAPACITY {
            self.fresh = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.poll_flush_now(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Buffered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.gathered.is_empty()
            && let Poll::Ready(Err(error)) = self.poll_flush_now(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}
