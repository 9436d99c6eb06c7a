//! What this node carries for others: counted, and held to a rate.
//!
//! libp2p's relay copies bytes between two substreams inside its connection handler and tells nobody how many. So the
//! muxers below it hand out substreams that look at the thread they are polled on: a write that happens while the
//! relay's handler is being polled ([`Meter::scope`]) is a relayed one. It is counted, and waits when the rate is
//! spent; the circuit's own flow control then slows the sender down. Every relayed byte is written once. The relay's
//! few protocol messages are counted along.
//!
//! The rate is a virtual schedule (GCRA, ITU-T I.371 annex A) in one atomic, since circuits live in different tasks.

use std::{
    cell::Cell,
    io,
    num::NonZeroU64,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::time::{Instant, Sleep, sleep};

/// What may be sent ahead of the rate: enough that a write after a pause does not wait, little enough that other
/// traffic of this host is not delayed by a burst.
const BURST: Duration = Duration::from_millis(50);
/// Taken from one circuit at once, so that circuits take turns.
const LARGEST_WRITE: usize = 16 * 1024;

thread_local! {
    static RELAYING: Cell<Option<Arc<Meter>>> = const { Cell::new(None) };
}

pub struct Meter {
    bytes: AtomicU64,
    rate: Option<NonZeroU64>,
    /// The start of the schedule, and how much of it has been given away, in nanoseconds.
    epoch: Instant,
    spent: AtomicU64,
}

impl Meter {
    /// `rate` in bytes per second; `None` is unlimited.
    pub fn new(rate: Option<NonZeroU64>) -> Self {
        Self { bytes: AtomicU64::new(0), rate, epoch: Instant::now(), spent: AtomicU64::new(0) }
    }

    /// Bytes relayed, both directions together.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// What `work` writes to substreams on this thread is relayed.
    pub fn scope<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        struct Scope(Option<Arc<Meter>>);
        impl Drop for Scope {
            fn drop(&mut self) {
                RELAYING.set(self.0.take());
            }
        }
        let _outer = Scope(RELAYING.replace(Some(self.clone())));
        work()
    }

    /// The meter of the scope that this thread is in.
    fn current() -> Option<Arc<Self>> {
        let current = RELAYING.take();
        RELAYING.set(current.clone());
        current
    }

    /// How long the next write has to wait.
    fn wait(&self) -> Option<Duration> {
        self.rate?;
        let ahead = Duration::from_nanos(self.spent.load(Relaxed)).saturating_sub(self.epoch.elapsed());
        ahead.checked_sub(BURST).filter(|wait| !wait.is_zero())
    }

    fn spend(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.bytes.fetch_add(bytes, Relaxed);
        let Some(rate) = self.rate else { return };
        let now = nanos(self.epoch.elapsed());
        let cost = nanos(Duration::from_secs(1)).saturating_mul(bytes) / rate;
        let next = |spent: u64| Some(spent.max(now).saturating_add(cost));
        // The closure always gives a value, so this cannot fail.
        let _ = self.spent.fetch_update(Relaxed, Relaxed, next);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A muxer whose substreams know when they relay.
pub struct Metered<M>(M);

impl<M> Metered<M> {
    pub fn new(muxer: M) -> Self {
        Self(muxer)
    }
}

impl<M: StreamMuxer + Unpin> Metered<M> {
    fn inner(self: Pin<&mut Self>) -> Pin<&mut M> {
        Pin::new(&mut self.get_mut().0)
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for Metered<M>
where
    M::Substream: AsyncRead + AsyncWrite + Unpin,
{
    type Substream = Substream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, M::Error>> {
        self.inner().poll_inbound(cx).map_ok(Substream::new)
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, M::Error>> {
        self.inner().poll_outbound(cx).map_ok(Substream::new)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        self.inner().poll_close(cx)
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        self.inner().poll(cx)
    }
}

pub struct Substream<S> {
    inner: S,
    /// Runs while the rate is spent.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Substream<S> {
    fn new(inner: S) -> Self {
        Self { inner, pause: None }
    }

    fn poll_relay(&mut self, meter: &Meter, buf: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some(wait) = meter.wait() {
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(wait)));
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let taken = buf.len().min(LARGEST_WRITE);
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &buf[..taken]))?;
        meter.spend(written);
        Poll::Ready(Ok(written))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Substream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read_vectored(cx, bufs)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Substream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Meter::current() {
            Some(meter) => self.poll_relay(&meter, buf, cx),
            None => Pin::new(&mut self.inner).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Meter::current() {
            Some(meter) => {
                let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
                self.poll_relay(&meter, first, cx)
            }
            None => Pin::new(&mut self.inner).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::io::Cursor;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_is_written_while_relaying_is_counted() {
        let meter = Arc::new(Meter::new(None));
        let mut stream = Substream::new(Cursor::new(Vec::new()));
        write(&mut stream, 100).await;
        assert_eq!((meter.bytes(), relay(&meter, &mut stream, 100).await), (0, 100));
        write(&mut stream, 100).await;
        assert_eq!(meter.bytes(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_over_time_and_shared_by_all_streams() {
        let meter = Arc::new(Meter::new(NonZeroU64::new(1_000_000)));
        let mut streams = [(); 2].map(|()| Substream::new(Cursor::new(Vec::new())));
        let start = Instant::now();
        let mut relayed = 0;
        while relayed < 2_000_000 {
            for stream in &mut streams {
                relayed += relay(&meter, stream, 10_000).await;
            }
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(1900) && took <= Duration::from_millis(2100), "{took:?}");
        // What is not relayed does not wait.
        let start = Instant::now();
        write(&mut streams[0], 1_000_000).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    async fn relay(meter: &Arc<Meter>, stream: &mut Substream<Cursor<Vec<u8>>>, bytes: usize) -> usize {
        let buf = vec![0; bytes];
        poll_fn(|cx| meter.scope(|| Pin::new(&mut *stream).poll_write(cx, &buf))).await.unwrap()
    }

    async fn write(stream: &mut Substream<Cursor<Vec<u8>>>, bytes: usize) {
        let buf = vec![0; bytes];
        poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, &buf)).await.unwrap();
    }
}
