//! The two ends of a session: a TCP connection here, a stream to a peer there.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{AsyncRead as _, AsyncWrite as _};
use peerup_swarm::{self as swarm, Session, Stream};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
};

use super::copy::Side;

/// A TCP connection on this host.
pub struct Local(TcpStream);

impl Local {
    /// Keystrokes leave at once.
    pub fn new(tcp: TcpStream) -> Self {
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps Nagle's algorithm");
        }
        Self(tcp)
    }
}

impl Side for Local {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(into);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    /// The kernel tells a reset from an end.
    fn is_broken(&mut self, _: &mut Context<'_>) -> bool {
        false
    }

    fn abort(self) {
        reset(&self.0);
    }
}

/// Makes closing `tcp` send a reset in place of an end.
pub fn reset(tcp: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a broken session looks ended to its client");
    }
}

/// A stream to a peer, and the use of its connection.
pub struct Remote {
    stream: Option<Stream>,
    session: Session,
    /// Our direction has ended.
    closed: bool,
    /// The last write had to wait.
    waited: bool,
}

impl Remote {
    pub fn new(stream: Stream, session: Session) -> Self {
        Self { stream: Some(stream), session, closed: false, waited: false }
    }

    fn stream(&mut self) -> Pin<&mut Stream> {
        Pin::new(self.stream.as_mut().expect("taken by abort and drop only"))
    }
}

impl Side for Remote {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let Poll::Ready(read) = self.stream().poll_read(cx, into) else { return self.poll_broken(cx) };
        if read.is_ok() {
            self.session.heard();
        }
        Poll::Ready(read)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Poll::Ready(written) = self.stream().poll_write(cx, bytes) else {
            self.waited = true;
            return self.poll_broken(cx);
        };
        // It takes bytes again, so somebody took earlier ones.
        if std::mem::take(&mut self.waited) {
            self.session.heard();
        }
        Poll::Ready(written)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.stream().poll_close(cx))?;
        self.closed = true;
        Poll::Ready(Ok(()))
    }

    fn is_broken(&mut self, cx: &mut Context<'_>) -> bool {
        self.session.is_closed()
            || (!self.closed && swarm::is_reset(self.stream.as_mut().expect("as above"), cx))
    }

    fn abort(mut self) {
        self.reset();
    }
}

impl Remote {
    /// What the stream does not tell while it is waited for.
    fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.session.poll_closed(cx).map(|()| Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn reset(&mut self) {
        if let Some(stream) = self.stream.take() {
            swarm::reset(stream);
        }
    }
}

/// A session that is given up in the middle, by shutdown or panic, has not ended either.
impl Drop for Remote {
    fn drop(&mut self) {
        if !self.closed {
            self.reset();
        }
    }
}
