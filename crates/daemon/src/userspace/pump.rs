//! Bytes between a peer's connection and a local socket, both directions, each until its own end.

use std::{
    io::{self, ErrorKind::WouldBlock},
    net::Shutdown,
    os::fd::AsFd,
    time::Duration,
};

use peerup_userspace::{Read, Write};
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};

use super::Flow;

/// A local socket. Bytes go straight between it and the ring buffers of the connection.
pub trait Local: AsFd + Send + Sync {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn try_write(&self, data: &[u8]) -> io::Result<usize>;
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    fn writable(&self) -> impl Future<Output = io::Result<()>> + Send;
}

macro_rules! local {
    ($($socket:ty),*) => {$(
        impl Local for $socket {
            fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                Self::try_read(self, buffer)
            }

            fn try_write(&self, data: &[u8]) -> io::Result<usize> {
                Self::try_write(self, data)
            }

            fn readable(&self) -> impl Future<Output = io::Result<()>> + Send {
                Self::readable(self)
            }

            fn writable(&self) -> impl Future<Output = io::Result<()>> + Send {
                Self::writable(self)
            }
        }
    )*};
}

local!(TcpStream, UnixStream);

/// The connection or the socket broke; the other end of the two has to hear of it.
struct Torn;

/// Runs until both directions have ended, or one side has broken: then the other is reset too.
pub async fn pump(flow: Flow, local: impl Local) {
    if tokio::try_join!(to_local(&flow, &local), to_peer(&flow, &local)).is_err() {
        flow.abort();
        reset(&local);
    }
}

async fn to_local(flow: &Flow, local: &impl Local) -> Result<(), Torn> {
    loop {
        let mut wrote = Ok(());
        let read = flow.read(|data| local.try_write(data).unwrap_or_else(|error| keep(error, &mut wrote)));
        match (read, wrote) {
            (Read::Data(_), Err(error)) => wait(error, local.writable()).await?,
            (Read::Data(_), Ok(())) => {}
            (Read::Empty, _) => flow.readable().await,
            (Read::Finished, _) => {
                let _ = SockRef::from(local).shutdown(Shutdown::Write);
                return Ok(());
            }
            (Read::Reset, _) => return Err(Torn),
        }
    }
}

async fn to_peer(flow: &Flow, local: &impl Local) -> Result<(), Torn> {
    loop {
        let mut read = Ok(());
        let write = flow.write(|room| local.try_read(room).unwrap_or_else(|error| keep(error, &mut read)));
        match (write, read) {
            (Write::Room(_), Err(error)) => wait(error, local.readable()).await?,
            (Write::Room(0), Ok(())) => {
                flow.shutdown();
                return Ok(());
            }
            (Write::Room(_), Ok(())) => {}
            (Write::Full, _) => flow.writable().await,
            (Write::Closed, _) => return Err(Torn),
        }
    }
}

fn keep(error: io::Error, result: &mut io::Result<()>) -> usize {
    *result = Err(error);
    0
}

/// For a socket that is not ready; any other error has broken it.
async fn wait(error: io::Error, ready: impl Future<Output = io::Result<()>>) -> Result<(), Torn> {
    if error.kind() != WouldBlock {
        return Err(Torn);
    }
    ready.await.map_err(|_| Torn)
}

/// A TCP socket that is closed in this state sends a RST; one of another kind is closed as ever.
fn reset(local: &impl Local) {
    let _ = SockRef::from(local).set_linger(Some(Duration::ZERO));
}
