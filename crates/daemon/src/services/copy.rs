//! The bytes of one session: two directions, each with an end of its own.
//!
//! What one side ends, the other side is told to have ended, and the opposite direction goes on (half-close). What
//! breaks on one side breaks on the other: a reset is never shown as an end, for then a file that lacks its tail
//! looks complete. There is no idle timeout. Memory is bounded: a direction holds at most one buffer, and only
//! while its receiver does not take what was read; everything else waits with the sender.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};

/// Large enough that a syscall and a frame per buffer do not matter.
const BUFFER: usize = 64 << 10;
/// Buffers kept for the next session that has something to carry.
const KEPT: usize = 32;
/// Buffers that one session moves before others have their turn.
const TURNS: usize = 8;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// One end of a session.
pub trait Side {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>>;
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ends this direction; the other one stays readable.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Whether the end that reading showed was a break in truth.
    fn is_broken(&mut self, cx: &mut Context<'_>) -> bool;
    /// Tells the other end that the session broke off.
    fn abort(self);
}

/// Counts what a direction has delivered.
pub trait Meter {
    fn delivered(&self, bytes: u64);
}

/// What broke.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("the local connection broke: {0}")]
    Local(#[source] io::Error),
    #[error("the stream broke: {0}")]
    Remote(#[source] io::Error),
}

/// Copies until both directions have ended. When one breaks, both sides are aborted.
pub async fn copy<L: Side, R: Side>(
    mut local: L,
    mut remote: R,
    sent: &impl Meter,
    received: &impl Meter,
) -> Result<(), CopyError> {
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let copied = poll_fn(|cx| {
        // Even with nothing to send: a lazily negotiated stream opens with the first flush, and in many protocols
        // the server speaks first.
        let up = up.poll(&mut local, &mut remote, sent, cx).map_err(Fault::going_up)?;
        let down = down.poll(&mut remote, &mut local, received, cx).map_err(Fault::going_down)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await;
    if copied.is_err() {
        local.abort();
        remote.abort();
    }
    copied
}

/// Which end of a direction failed.
enum Fault {
    Source(io::Error),
    Sink(io::Error),
}

impl Fault {
    fn going_up(self) -> CopyError {
        match self {
            Self::Source(error) => CopyError::Local(error),
            Self::Sink(error) => CopyError::Remote(error),
        }
    }

    fn going_down(self) -> CopyError {
        match self {
            Self::Source(error) => CopyError::Remote(error),
            Self::Sink(error) => CopyError::Local(error),
        }
    }
}

struct Direction {
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    /// Something was written since the last flush.
    unflushed: bool,
    ended: bool,
    closed: bool,
}

impl Default for Direction {
    fn default() -> Self {
        Self { buffer: None, start: 0, end: 0, unflushed: true, ended: false, closed: false }
    }
}

impl Direction {
    fn poll(
        &mut self,
        from: &mut impl Side,
        to: &mut impl Side,
        meter: &impl Meter,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        for _ in 0..TURNS {
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_drain(to, meter, cx)).map_err(Fault::Sink)?;
            if self.ended {
                ready!(to.poll_close(cx)).map_err(Fault::Sink)?;
                self.closed = true;
                return Poll::Ready(Ok(()));
            }
            match self.poll_fill(from, cx) {
                Poll::Ready(filled) => filled.map_err(Fault::Source)?,
                Poll::Pending => {
                    self.poll_flush(to, cx).map_err(Fault::Sink)?;
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_drain(
        &mut self,
        to: &mut impl Side,
        meter: &impl Meter,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.start < self.end {
            let Some(buffer) = &self.buffer else { break };
            let written = ready!(to.poll_write(cx, &buffer[self.start..self.end]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            meter.delivered(written as u64);
            self.start += written;
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill(&mut self, from: &mut impl Side, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let buffer = self.buffer.get_or_insert_with(take_buffer);
        let read = match from.poll_read(cx, buffer) {
            Poll::Ready(read) => read?,
            Poll::Pending => {
                self.give_back();
                return Poll::Pending;
            }
        };
        if read == 0 {
            if from.is_broken(cx) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            self.give_back();
            self.ended = true;
        }
        (self.start, self.end) = (0, read);
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, to: &mut impl Side, cx: &mut Context<'_>) -> io::Result<()> {
        if self.unflushed
            && let Poll::Ready(flushed) = to.poll_flush(cx)
        {
            flushed?;
            self.unflushed = false;
        }
        Ok(())
    }

    fn give_back(&mut self) {
        let Some(buffer) = self.buffer.take() else { return };
        POOL.with_borrow_mut(|pool| {
            if pool.len() < KEPT {
                pool.push(buffer);
            }
        });
    }
}

fn take_buffer() -> Box<[u8]> {
    POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER].into())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{
            Arc, Mutex,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
        task::Waker,
    };

    use super::*;

    #[test]
    fn both_directions_end_by_themselves() {
        let (local, local_far) = side(&[Read::Bytes(b"request"), Read::End]);
        let (remote, remote_far) = side(&[Read::Bytes(b"ans"), Read::Bytes(b"wer"), Read::End]);
        let (sent, received) = (Count::default(), Count::default());
        assert!(matches!(run(local, remote, &sent, &received), Poll::Ready(Ok(()))));
        assert_eq!(far(&local_far), (b"answer".to_vec(), true, false));
        assert_eq!(far(&remote_far), (b"request".to_vec(), true, false));
        assert_eq!((sent.get(), received.get()), (7, 6));
    }

    #[test]
    fn the_end_of_one_direction_leaves_the_other_open() {
        let (local, local_far) = side(&[Read::End]);
        let (remote, remote_far) = side(&[Read::Bytes(b"still here"), Read::Wait]);
        let (sent, received) = (Count::default(), Count::default());
        assert!(run(local, remote, &sent, &received).is_pending());
        assert_eq!(far(&local_far), (b"still here".to_vec(), false, false));
        assert_eq!(far(&remote_far), (vec![], true, false));
    }

    #[test]
    fn a_broken_side_breaks_the_other_and_never_looks_like_an_end() {
        for broken in [Read::Broken, Read::EndOfABreak] {
            let (local, local_far) = side(&[Read::Wait]);
            let (remote, remote_far) = side(&[Read::Bytes(b"half"), broken]);
            let (sent, received) = (Count::default(), Count::default());
            let ended = run(local, remote, &sent, &received);
            assert!(matches!(ended, Poll::Ready(Err(CopyError::Remote(_)))), "{broken:?}");
            assert_eq!(far(&local_far), (b"half".to_vec(), false, true));
            assert_eq!(far(&remote_far), (vec![], false, true));
        }
        let (local, _) = side(&[Read::Broken]);
        let (remote, remote_far) = side(&[Read::Wait]);
        let ended = run(local, remote, &Count::default(), &Count::default());
        assert!(matches!(ended, Poll::Ready(Err(CopyError::Local(_)))));
        assert_eq!(far(&remote_far), (vec![], false, true));
    }

    #[test]
    fn a_side_that_takes_nothing_stops_reading_from_the_other() {
        let (local, local_far) = side(&[Read::Endless]);
        let (mut remote, _) = side(&[Read::Wait]);
        remote.full = true;
        assert!(run(local, remote, &Count::default(), &Count::default()).is_pending());
        assert_eq!(local_far.lock().unwrap().read, BUFFER);
    }

    #[test]
    fn a_stream_is_flushed_before_anything_is_said() {
        let (local, _) = side(&[Read::Wait]);
        let (remote, remote_far) = side(&[Read::Wait]);
        assert!(run(local, remote, &Count::default(), &Count::default()).is_pending());
        assert_eq!(remote_far.lock().unwrap().flushes, 1);
    }

    #[test]
    fn a_session_with_nothing_to_carry_holds_no_buffer() {
        let (mut from, _) = side(&[Read::Bytes(b"word"), Read::Wait]);
        let (mut to, _) = side(&[]);
        let mut direction = Direction::default();
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(direction.poll(&mut from, &mut to, &Count::default(), cx).is_pending());
        assert!(direction.buffer.is_none());
    }

    #[derive(Debug, Clone, Copy)]
    enum Read {
        Bytes(&'static [u8]),
        Endless,
        End,
        EndOfABreak,
        Broken,
        Wait,
    }

    #[derive(Default)]
    struct Far {
        got: Vec<u8>,
        read: usize,
        flushes: u32,
        closed: bool,
        aborted: bool,
    }

    struct Scripted {
        reads: VecDeque<Read>,
        broken: bool,
        full: bool,
        far: Arc<Mutex<Far>>,
    }

    fn side(reads: &[Read]) -> (Scripted, Arc<Mutex<Far>>) {
        let far = Arc::<Mutex<Far>>::default();
        let reads = reads.iter().copied().collect();
        (Scripted { reads, broken: false, full: false, far: far.clone() }, far)
    }

    fn far(far: &Arc<Mutex<Far>>) -> (Vec<u8>, bool, bool) {
        let far = far.lock().unwrap();
        (far.got.clone(), far.closed, far.aborted)
    }

    impl Side for Scripted {
        fn poll_read(&mut self, _: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
            match self.reads.front().copied().unwrap_or(Read::Wait) {
                Read::Bytes(bytes) => {
                    self.reads.pop_front();
                    into[..bytes.len()].copy_from_slice(bytes);
                    Poll::Ready(Ok(bytes.len()))
                }
                Read::Endless => {
                    self.far.lock().unwrap().read += into.len();
                    Poll::Ready(Ok(into.len()))
                }
                Read::End => Poll::Ready(Ok(0)),
                Read::EndOfABreak => {
                    self.broken = true;
                    Poll::Ready(Ok(0))
                }
                Read::Broken => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Read::Wait => Poll::Pending,
            }
        }

        fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if self.full {
                return Poll::Pending;
            }
            // A few bytes at a time, as a busy connection takes them.
            let taken = bytes.len().min(3);
            self.far.lock().unwrap().got.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.far.lock().unwrap().flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.far.lock().unwrap().closed = true;
            Poll::Ready(Ok(()))
        }

        fn is_broken(&mut self, _: &mut Context<'_>) -> bool {
            self.broken
        }

        fn abort(self) {
            self.far.lock().unwrap().aborted = true;
        }
    }

    #[derive(Default)]
    struct Count(AtomicU64);

    impl Count {
        fn get(&self) -> u64 {
            self.0.load(Relaxed)
        }
    }

    impl Meter for Count {
        fn delivered(&self, bytes: u64) {
            self.0.fetch_add(bytes, Relaxed);
        }
    }

    /// Polls until nothing moves any more.
    fn run(local: Scripted, remote: Scripted, sent: &Count, received: &Count) -> Poll<Result<(), CopyError>> {
        let mut session = Box::pin(copy(local, remote, sent, received));
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..4 {
            if let Poll::Ready(ended) = session.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    }
}
