//! Connections to peers, through the kernel where there is an interface, else through the stack of this process.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use peerup_userspace::{ConnectError, Write};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes},
    net::{TcpStream, UdpSocket},
};

use crate::userspace::{Conversation, Flow, Local, Network, pump};

/// Of each direction between two sockets of the kernel.
const BUFFER: usize = 64 << 10;

#[derive(Clone)]
pub enum Dialer {
    /// Routes lead there, over the interface of this name.
    Interface(String),
    Userspace(Network),
}

/// A connection to a peer.
pub enum Stream {
    Kernel(TcpStream),
    Flow(Flow),
}

/// Datagrams to and from anybody in the overlay.
pub enum Datagrams {
    Kernel { v4: UdpSocket, v6: Option<UdpSocket> },
    Conversation(Conversation),
}

#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("connection refused")]
    Refused,
    #[error("host unreachable")]
    Unreachable,
    #[error("{0}")]
    Other(io::Error),
    #[error(transparent)]
    Stack(ConnectError),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unreachable,
            _ => Self::Other(error),
        }
    }
}

impl From<ConnectError> for DialError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused => Self::Refused,
            ConnectError::Unreachable => Self::Unreachable,
            ConnectError::NoAddress | ConnectError::Full => Self::Stack(error),
        }
    }
}

impl Dialer {
    pub async fn dial(&self, remote: SocketAddr) -> Result<Stream, DialError> {
        match self {
            Self::Interface(_) => Ok(Stream::Kernel(outside(remote).await?)),
            Self::Userspace(network) => Ok(Stream::Flow(network.connect(remote).await?)),
        }
    }

    pub fn datagrams(&self) -> io::Result<Datagrams> {
        match self {
            Self::Interface(name) => Datagrams::by(Some(name)),
            Self::Userspace(network) => network
                .bind_udp()
                .map(Datagrams::Conversation)
                .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into()),
        }
    }
}

/// A connection of the host's own.
pub async fn outside(remote: impl tokio::net::ToSocketAddrs) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(remote).await?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

impl Stream {
    /// Joins the connection to a local one, of which `early` has been read already. Ends when both have.
    pub async fn join(self, mut local: impl Local + AsyncRead + AsyncWrite + Unpin, early: &[u8]) {
        match self {
            Self::Flow(flow) => {
                if write_all(&flow, early).await.is_ok() {
                    pump(flow, local).await;
                }
            }
            Self::Kernel(mut remote) => {
                let copied = async {
                    remote.write_all(early).await?;
                    copy_bidirectional_with_sizes(&mut local, &mut remote, BUFFER, BUFFER).await
                };
                if copied.await.is_err() {
                    // Closed in this state, a TCP socket sends a RST.
                    let _ = SockRef::from(&remote).set_linger(Some(Duration::ZERO));
                    let _ = SockRef::from(&local).set_linger(Some(Duration::ZERO));
                }
            }
        }
    }
}

async fn write_all(flow: &Flow, mut data: &[u8]) -> Result<(), ConnectError> {
    while !data.is_empty() {
        let write = flow.write(|room| {
            let len = room.len().min(data.len());
            room[..len].copy_from_slice(&data[..len]);
            len
        });
        match write {
            Write::Room(len) => data = &data[len..],
            Write::Full => flow.writable().await,
            Write::Closed => return Err(ConnectError::Refused),
        }
    }
    Ok(())
}

impl Datagrams {
    /// To and from anywhere else.
    pub fn outside() -> io::Result<Self> {
        Self::by(None)
    }

    fn by(interface: Option<&str>) -> io::Result<Self> {
        let v4 = socket(Ipv4Addr::UNSPECIFIED.into(), interface)?;
        // A host may have no IPv6 at all.
        let v6 = socket(Ipv6Addr::UNSPECIFIED.into(), interface).ok();
        Ok(Self::Kernel { v4, v6 })
    }

    pub async fn send(&self, to: SocketAddr, data: &[u8]) {
        // Lost where the host cannot send it, as any datagram.
        match self {
            Self::Conversation(conversation) => conversation.send(to, data),
            Self::Kernel { v4, .. } if to.is_ipv4() => drop(v4.send_to(data, to).await),
            Self::Kernel { v6: Some(v6), .. } => drop(v6.send_to(data, to).await),
            Self::Kernel { v6: None, .. } => {}
        }
    }

    /// The next datagram, in `buffer` where the kernel delivers it. `None` once there will be no more.
    pub async fn recv(&self) -> Option<(SocketAddr, Vec<u8>)> {
        match self {
            Self::Conversation(conversation) => conversation.recv().await,
            Self::Kernel { v4, v6 } => loop {
                let received = tokio::select! {
                    received = recv_from(v4) => received,
                    received = recv_from(v6.as_ref().unwrap_or(v4)), if v6.is_some() => received,
                };
                if let Ok(datagram) = received {
                    return Some(datagram);
                }
            },
        }
    }
}

/// A socket that takes datagrams from one interface alone, where one is named: socket(7), SO_BINDTODEVICE.
fn socket(ip: IpAddr, interface: Option<&str>) -> io::Result<UdpSocket> {
    let address = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Errors are about single datagrams sent before (ICMP), not about the socket.
async fn recv_from(socket: &UdpSocket) -> io::Result<(SocketAddr, Vec<u8>)> {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let (len, from) = socket.recv_from(&mut buffer).await?;
    buffer.truncate(len);
    Ok((from, buffer))
}
