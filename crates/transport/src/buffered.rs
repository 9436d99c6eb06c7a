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

#[cfg(test)]
mod tests {
    use futures::task::noop_waker_ref;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_written_in_one_turn_leave_as_one_write_when_the_writer_turns_to_reading() {
        let mut stream = Buffered::new(Wire::default());
        for _ in 0..3 {
            write(&mut stream, &[1; 12]);
            write(&mut stream, &[2; 16_384]);
            assert!(flush(&mut stream).is_pending());
        }
        assert!(stream.inner.writes.is_empty());
        assert!(read(&mut stream).is_pending());
        assert_eq!(stream.inner.writes, [3 * 16_396]);
        assert_eq!(stream.inner.flushes, 1);
    }

    #[test]
    fn a_repeated_flush_is_a_flush() {
        let mut stream = Buffered::new(Wire::default());
        write(&mut stream, b"hello");
        assert!(flush(&mut stream).is_pending());
        assert!(flush(&mut stream).is_ready());
        assert_eq!((stream.inner.bytes.as_slice(), stream.inner.flushes), (&b"hello"[..], 1));
    }

    #[test]
    fn a_full_buffer_leaves_at_once_and_whole() {
        let mut stream = Buffered::new(Wire::default());
        for _ in 0..5 {
            write(&mut stream, &[3; 16_396]);
        }
        assert_eq!(stream.inner.writes, [CAPACITY]);
    }

    #[test]
    fn a_layer_below_that_takes_nothing_stops_the_writer_at_the_capacity() {
        let mut stream = Buffered::new(Wire { budget: Some(0), ..Wire::default() });
        write(&mut stream, &[4; CAPACITY - 1]);
        write(&mut stream, &[4]);
        assert!(Pin::new(&mut stream).poll_write(&mut context(), &[5]).is_pending());
        assert!(flush(&mut stream).is_pending());
        assert!(read(&mut stream).is_pending(), "reading goes on while writing is stuck");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is written, flushed and read in whatever order over whatever wire arrives once and in order.
        #[test]
        fn every_byte_arrives_once_and_in_order(
            steps in prop::collection::vec((0..3u8, 0..100_000usize), 1..40),
            budgets in prop::collection::vec(1..50_000usize, 1..10),
        ) {
            let mut stream = Buffered::new(Wire::default());
            let mut expected = Vec::new();
            for (turn, (step, length)) in steps.into_iter().enumerate() {
                stream.inner.budget = Some(budgets[turn % budgets.len()]);
                match step {
                    0 => {
                        let piece: Vec<u8> = (0..length).map(|at| (at ^ turn) as u8).collect();
                        if let Poll::Ready(taken) = Pin::new(&mut stream).poll_write(&mut context(), &piece) {
                            expected.extend_from_slice(&piece[..taken.unwrap()]);
                        }
                    }
                    1 => drop(flush(&mut stream)),
                    _ => drop(read(&mut stream)),
                }
                prop_assert!(expected.starts_with(&stream.inner.bytes));
            }
            stream.inner.budget = None;
            prop_assert!(Pin::new(&mut stream).poll_close(&mut context()).is_ready());
            prop_assert_eq!(stream.inner.bytes, expected);
        }
    }

    /// Takes `budget` bytes, or everything, and never has anything to read.
    #[derive(Default)]
    struct Wire {
        budget: Option<usize>,
        bytes: Vec<u8>,
        writes: Vec<usize>,
        flushes: usize,
    }

    impl AsyncWrite for Wire {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.budget.unwrap_or(usize::MAX));
            if taken == 0 && !bytes.is_empty() {
                return Poll::Pending;
            }
            self.budget = self.budget.map(|budget| budget - taken);
            self.bytes.extend_from_slice(&bytes[..taken]);
            self.writes.push(taken);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Wire {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    fn context() -> Context<'static> {
        Context::from_waker(noop_waker_ref())
    }

    fn write(stream: &mut Buffered<Wire>, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Poll::Ready(taken) = Pin::new(&mut *stream).poll_write(&mut context(), bytes) else {
                panic!("the wire takes everything")
            };
            bytes = &bytes[taken.unwrap()..];
        }
    }

    fn flush(stream: &mut Buffered<Wire>) -> Poll<io::Result<()>> {
        Pin::new(stream).poll_flush(&mut context())
    }

    fn read(stream: &mut Buffered<Wire>) -> Poll<io::Result<usize>> {
        Pin::new(stream).poll_read(&mut context(), &mut [0; 10])
    }
}
