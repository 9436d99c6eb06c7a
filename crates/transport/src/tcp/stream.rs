//! The stream: reads and writes as they are, and a look at the figures now and then.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
#[cfg(target_os = "linux")]
use nix::sys::socket::{setsockopt, sockopt::SndBufForce};
#[cfg(target_os = "linux")]
use socket2::{Domain, Socket, Type};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
};

use super::{Control, Figures, Policy};

/// Between two looks, in bytes written: a system call per 4 MiB is nothing, and a connection that writes less has no
/// use for another congestion control.
const LOOK_EVERY: u64 = 4 << 20;
/// What one segment carries over Ethernet; good enough for a share.
const SEGMENT: u64 = 1400;
/// How long the bytes last that the kernel takes beyond what it may send, on far paths: until the next wake-up of a busy
/// machine, where the autotuned queue has seconds. On short paths the buffer drains faster than it could hurt.
const UNSENT: Duration = Duration::from_millis(4);
const LEAST_UNSENT: u32 = 128 * 1024;
const MOST_UNSENT: u32 = 1024 * 1024;
/// What may be on the way on a far path: one connection carries everybody's packets, and the kernel's own limit (4 MiB with
/// its bookkeeping, mostly) is 1.5 Gbit/s at 20 ms; this is 6 Gbit/s, or 1.2 at 100 ms. The kernel doubles it for the bookkeeping. How much of it waits is
/// bounded by [`UNSENT`].
#[cfg(target_os = "linux")]
const SEND_BUFFER: usize = 16 << 20;
#[cfg(target_os = "linux")]
const KERNELS_OWN: usize = 4 << 20;

/// The kernel asks a silent peer whether it is there, first after this time: two packets, from either end. That is the
/// whole cost of an idle connection, and ends one whose peer vanished within five minutes.
const ASK_AFTER: Duration = Duration::from_secs(240);
const ASK_AGAIN: Duration = Duration::from_secs(10);
const ASK_TIMES: u32 = 4;

/// Bytes read before other tasks get their turn: a fast transfer always has more to read, and whoever decrypts it would not
/// stop before the runtime does, after some megabytes. Half of it cost a twentieth of the throughput and gained nothing.
const TURN: usize = 512 * 1024;

/// What a handshake that comes to nothing may write. A connection that ends before it wrote more is reset: closed in order,
/// its pair of addresses and ports would be blocked for the minute of TIME-WAIT (RFC 9293 §3.6.1), and a hole is punched
/// from the same port to the same port each time.
const HANDSHAKE: u64 = 3 * 1024;

/// A TCP connection that picks its congestion control by what the path is like.
pub struct TunedStream {
    stream: TcpStream,
    policy: Policy,
    written: u64,
    look_at: u64,
    /// What the kernel was last told to hold unsent at most; 0: nothing.
    unsent: u32,
    /// Whether closing it would send a reset.
    abortive: bool,
    turn: Turn,
}

/// Bytes read since the task last waited or gave way.
#[derive(Debug, Default)]
struct Turn(usize);

impl Turn {
    /// True once for each turn: the task has to give way.
    fn is_over(&mut self) -> bool {
        let over = self.0 >= TURN;
        if over {
            self.0 = 0;
        }
        over
    }

    fn note(&mut self, read: &Poll<usize>) {
        match read {
            Poll::Ready(len) => self.0 += len,
            Poll::Pending => self.0 = 0,
        }
    }
}

impl TunedStream {
    /// For a connection that has just been made, by either side.
    pub fn new(stream: TcpStream) -> Self {
        let keepalive =
            TcpKeepalive::new().with_time(ASK_AFTER).with_interval(ASK_AGAIN).with_retries(ASK_TIMES);
        if let Err(error) = SockRef::from(&stream).set_tcp_keepalive(&keepalive) {
            tracing::debug!(%error, "the kernel does not ask whether the peer is there");
        }
        let mut tuned = Self {
            stream,
            policy: Policy::default(),
            written: 0,
            look_at: 0,
            unsent: 0,
            abortive: false,
            turn: Turn::default(),
        };
        tuned.set_abortive(true);
        tuned.look();
        tuned
    }

    fn look(&mut self) {
        self.look_at = self.written + LOOK_EVERY;
        let Ok(known) = peerup_socket::tcp_figures(&self.stream) else { return };
        let figures = Figures {
            rtt: known.rtt,
            rtt_variation: known.rtt_variation,
            sent: self.written / SEGMENT,
            lost: known.retransmitted.saturating_sub(known.needless).into(),
        };
        if let Some(control) = self.policy.judge(figures) {
            apply(&self.stream, control);
        }
        if self.policy.chosen() == Some(Control::Bbr) {
            let unsent = unsent(known.delivery_rate.unwrap_or(0));
            // A step of an eighth is worth no system call.
            if unsent.abs_diff(self.unsent) > self.unsent / 8 {
                self.unsent = unsent;
                bound_unsent(&self.stream, unsent);
            }
        }
    }

    fn set_abortive(&mut self, abortive: bool) {
        match SockRef::from(&self.stream).set_linger(abortive.then_some(Duration::ZERO)) {
            Ok(()) => self.abortive = abortive,
            Err(error) => tracing::debug!(%error, abortive, "the kernel closes as it did"),
        }
    }

    fn count(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(len)) = written {
            self.written += *len as u64;
            if self.abortive && self.written > HANDSHAKE {
                self.set_abortive(false);
            }
            if self.written >= self.look_at {
                self.look();
            }
        }
    }
}

/// A kernel that does not have it, or does not let us, keeps its default.
#[cfg(target_os = "linux")]
fn apply(stream: &TcpStream, control: Control) {
    let socket = SockRef::from(stream);
    if let Err(error) = socket.set_tcp_congestion(control.as_str().as_bytes()) {
        tracing::debug!(%error, control = control.as_str(), "the kernel keeps its congestion control");
    }
    if control == Control::Bbr
        && let Err(error) = enlarge(stream)
    {
        tracing::debug!(%error, "the kernel keeps its send buffer");
    }
}

/// The host's own root may ask for any size. Whoever else asks gets `wmem_max` at most, which may be less than what the
/// kernel takes by itself as long as nobody asks; a socket that is not needed shows it.
#[cfg(target_os = "linux")]
fn enlarge(stream: &TcpStream) -> io::Result<()> {
    if setsockopt(stream, SndBufForce, &SEND_BUFFER).is_ok() {
        return Ok(());
    }
    let probe = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    probe.set_send_buffer_size(SEND_BUFFER)?;
    if probe.send_buffer_size()? <= KERNELS_OWN {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    SockRef::from(stream).set_send_buffer_size(SEND_BUFFER)
}

#[cfg(target_os = "linux")]
fn bound_unsent(stream: &TcpStream, bytes: u32) {
    if let Err(error) = SockRef::from(stream).set_tcp_notsent_lowat(bytes) {
        tracing::debug!(%error, "the kernel keeps its send queue");
    }
}

#[cfg(not(target_os = "linux"))]
fn apply(_stream: &TcpStream, _control: Control) {}

#[cfg(not(target_os = "linux"))]
fn bound_unsent(_stream: &TcpStream, _bytes: u32) {}

/// What the kernel may hold unsent at a rate of so many bytes a second.
fn unsent(rate: u64) -> u32 {
    let bytes = u128::from(rate) * UNSENT.as_millis() / 1000;
    u32::try_from(bytes).unwrap_or(u32::MAX).clamp(LEAST_UNSENT, MOST_UNSENT)
}

impl AsyncRead for TunedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.turn.is_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut buffer = ReadBuf::new(buffer);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut buffer)?;
        let read = polled.map(|()| buffer.filled().len());
        self.turn.note(&read);
        read.map(Ok)
    }
}

impl AsyncWrite for TunedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.count(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used, reason = "a helper of tests")]
mod tests {
    use futures::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What the other end reads after the end of a connection that wrote this much.
    async fn ended_after(written: usize) -> io::Result<usize> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialed = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let mut tuned = TunedStream::new(dialed);
        tuned.write_all(&vec![0; written]).await.unwrap();
        drop(tuned);
        TunedStream::new(accepted).read_to_end(&mut Vec::new()).await
    }

    #[tokio::test]
    async fn a_handshake_that_failed_leaves_nothing_behind_and_a_session_ends_in_order() {
        let failed = ended_after(2_000).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(ended_after(20_000).await.unwrap(), 20_000);
    }

    #[test]
    fn a_reader_gives_way_once_after_so_many_bytes_and_not_when_it_waits_before() {
        let mut turn = Turn::default();
        for _ in 0..3 {
            turn.note(&Poll::Ready(TURN - 1));
            assert!(!turn.is_over());
            turn.note(&Poll::Ready(1));
            assert!(turn.is_over() && !turn.is_over());
        }
        turn.note(&Poll::Ready(TURN - 1));
        turn.note(&Poll::Pending);
        turn.note(&Poll::Ready(TURN - 1));
        assert!(!turn.is_over());
    }

    #[test]
    fn what_waits_in_the_kernel_lasts_four_milliseconds_within_bounds() {
        assert_eq!(unsent(2_500_000), LEAST_UNSENT);
        assert_eq!(unsent(150_000_000), 600_000);
        assert_eq!(unsent(u64::MAX), MOST_UNSENT);
    }

    #[tokio::test]
    async fn the_kernel_asks_a_silent_peer_whether_it_is_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialed = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let tuned = TunedStream::new(dialed);
        let socket = SockRef::from(&tuned.stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), ASK_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), ASK_AGAIN);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), ASK_TIMES);
    }
}
