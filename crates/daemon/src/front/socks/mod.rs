//! The proxy: SOCKS5 with CONNECT and UDP ASSOCIATE, and HTTP CONNECT, on one listener. The first byte tells which.

mod codec;
mod udp;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use super::{
    DIAL, Doors,
    dial::{DialError, Stream, outside},
};
use crate::{api::NodeHandle, userspace::PrivatePort};
use codec::{Destination, Host, MAX_HTTP, Malformed, Reply, Request};

/// Clients at once; the rest wait in the kernel's backlog.
const MAX_CLIENTS: usize = 4096;
/// A client that connects has said what it wants by then.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Pause after a failed accept (out of file descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const SOCKS5: u8 = 5;

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub listen: SocketAddr,
    pub allow_outside: bool,
}

/// What one client is served with.
struct Proxy {
    node: NodeHandle,
    doors: Doors,
    settings: Settings,
}

/// Serves clients until the task is dropped. `private` keeps peers away from the port.
pub async fn serve(
    node: NodeHandle,
    listener: TcpListener,
    settings: Settings,
    private: Option<PrivatePort>,
) {
    let private = Arc::new(Mutex::new(private));
    let room = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, from)) => {
                let (node, private) = (node.clone(), private.clone());
                tokio::spawn(async move {
                    // Asked for each client: the interface may have gone and come back.
                    let Ok(doors) = node.doors().await else { return };
                    *private.lock().unwrap_or_else(PoisonError::into_inner) =
                        doors.keep_private(settings.listen.port());
                    if let Err(error) = (Proxy { node, doors, settings }).serve(client).await {
                        tracing::debug!(%from, %error, "a client of the proxy");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the proxy cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ClientError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the client said too little for too long")]
    Slow,
    #[error("the client hung up")]
    Gone,
}

/// A client and what it has said that nobody has taken yet.
struct Client {
    stream: TcpStream,
    said: Vec<u8>,
}

impl Client {
    /// Reads until `parse` has what it wants.
    async fn next<T>(
        &mut self,
        parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, Malformed>,
    ) -> Result<T, ClientError> {
        loop {
            if let Some((parsed, used)) = parse(&self.said)? {
                self.said.drain(..used);
                return Ok(parsed);
            }
            let mut more = [0; 1024];
            let read =
                timeout(HANDSHAKE, self.stream.read(&mut more)).await.map_err(|_| ClientError::Slow)??;
            if read == 0 {
                return Err(ClientError::Gone);
            }
            self.said.extend_from_slice(&more[..read]);
            if self.said.len() > 2 * MAX_HTTP {
                return Err(Malformed::TooLong.into());
            }
        }
    }
}

impl Proxy {
    async fn serve(&self, stream: TcpStream) -> Result<(), ClientError> {
        let _ = stream.set_nodelay(true);
        let mut client = Client { stream, said: Vec::new() };
        let first = client.next(|said| Ok(said.first().map(|byte| (*byte, 0)))).await?;
        if first == SOCKS5 { self.socks(client).await } else { self.http(client).await }
    }

    async fn socks(&self, mut client: Client) -> Result<(), ClientError> {
        let acceptable = client.next(codec::greeting).await?;
        client.stream.write_all(&codec::method(acceptable)).await?;
        if !acceptable {
            return Ok(());
        }
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        match client.next(codec::request).await? {
            Request::Connect(destination) => match self.dial(&destination).await {
                Ok(stream) => {
                    client.stream.write_all(&codec::reply(Reply::Succeeded, nowhere)).await?;
                    stream.join(client.stream, &client.said).await;
                }
                Err(why) => client.stream.write_all(&codec::reply(why.socks(), nowhere)).await?,
            },
            Request::UdpAssociate { port } => udp::associate(self, client, port).await?,
            Request::Unsupported => {
                client.stream.write_all(&codec::reply(Reply::CommandNotSupported, nowhere)).await?;
            }
        }
        Ok(())
    }

    async fn http(&self, mut client: Client) -> Result<(), ClientError> {
        let destination = match client.next(codec::http).await {
            Ok(destination) => destination,
            Err(error) => {
                let answer = "HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\nContent-Length: 0\r\n\r\n";
                let _ = client.stream.write_all(answer.as_bytes()).await;
                return Err(error);
            }
        };
        match self.dial(&destination).await {
            Ok(stream) => {
                client.stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                stream.join(client.stream, &client.said).await;
            }
            Err(why) => {
                let answer = format!("HTTP/1.1 {}\r\nContent-Length: 0\r\n\r\n", why.http());
                client.stream.write_all(answer.as_bytes()).await?;
            }
        }
        Ok(())
    }

    async fn dial(&self, to: &Destination) -> Result<Stream, NotDialed> {
        let dialed = async {
            match self.place(&to.host).await? {
                Place::Overlay(address) => {
                    Ok(self.doors.dialer.dial(SocketAddr::new(address, to.port)).await?)
                }
                Place::Outside => Ok(Stream::Kernel(
                    outside((to.host.to_string(), to.port)).await.map_err(DialError::from)?,
                )),
            }
        };
        timeout(DIAL, dialed).await.unwrap_or(Err(NotDialed::Dial(DialError::Unreachable)))
    }

    /// Where a host is. Names that the network does not know are outside.
    async fn place(&self, host: &Host) -> Result<Place, NotDialed> {
        let (inside, ours) = match host {
            Host::Address(address) => (self.doors.is_inside(*address).then_some(*address), false),
            Host::Name(name) => {
                let name = name.to_ascii_lowercase();
                let ours = name.trim_end_matches('.').ends_with(".peerup");
                (self.node.overlay_address(&self.doors, &name).await.ok(), ours)
            }
        };
        match inside {
            Some(address) => Ok(Place::Overlay(address)),
            None if ours => Err(NotDialed::Dial(DialError::Unreachable)),
            None if self.settings.allow_outside => Ok(Place::Outside),
            None => Err(NotDialed::NotAllowed),
        }
    }
}

enum Place {
    Overlay(std::net::IpAddr),
    Outside,
}

#[derive(Debug, thiserror::Error)]
enum NotDialed {
    #[error("outside the overlay")]
    NotAllowed,
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl NotDialed {
    fn socks(&self) -> Reply {
        match self {
            Self::NotAllowed => Reply::NotAllowed,
            Self::Dial(DialError::Refused) => Reply::Refused,
            Self::Dial(DialError::Unreachable) => Reply::HostUnreachable,
            Self::Dial(DialError::Other(_) | DialError::Stack(_)) => Reply::Failure,
        }
    }

    fn http(&self) -> &'static str {
        match self {
            Self::NotAllowed => "403 Forbidden",
            Self::Dial(_) => "502 Bad Gateway",
        }
    }
}
