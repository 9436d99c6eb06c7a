//! UDP ASSOCIATE (RFC 1928 §7): a socket for one client, for as long as its connection stands.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
};

use super::{
    Client, ClientError, Place, Proxy,
    codec::{self, Destination, Host, Reply},
};
use crate::front::{Dialer, dial::Datagrams};

/// The longest datagram.
const DATAGRAM: usize = u16::MAX as usize;
/// Names that one association remembers.
const MAX_NAMES: usize = 64;

struct Association<'a> {
    proxy: &'a Proxy,
    socket: UdpSocket,
    /// Whose datagrams are taken: the first that come from where the connection comes from.
    client: Option<SocketAddr>,
    client_ip: IpAddr,
    inside: Datagrams,
    outside: Option<Datagrams>,
    names: BTreeMap<String, IpAddr>,
}

pub async fn associate(proxy: &Proxy, client: Client) -> Result<(), ClientError> {
    let mut stream = client.stream;
    let socket = UdpSocket::bind(SocketAddr::new(stream.local_addr()?.ip(), 0)).await?;
    let bound = socket.local_addr()?;
    let _private = proxy.doors.keep_private(bound.port());
    let association = Association {
        proxy,
        socket,
        client: None,
        client_ip: stream.peer_addr()?.ip(),
        inside: proxy.doors.dialer.datagrams().await?,
        outside: match proxy.settings.allow_outside {
            true => Some(Dialer::Kernel.datagrams().await?),
            false => None,
        },
        names: BTreeMap::new(),
    };
    stream.write_all(&codec::reply(Reply::Succeeded, bound)).await?;
    let mut ignored = [0; 64];
    tokio::select! {
        () = association.run() => {}
        () = async { while stream.read(&mut ignored).await.is_ok_and(|read| read > 0) {} } => {}
    }
    Ok(())
}

impl Association<'_> {
    async fn run(mut self) {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let outside = async {
                match &self.outside {
                    Some(outside) => outside.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    if let Ok((len, from)) = received {
                        self.client_sent(from, &buffer[..len]).await;
                    }
                }
                Some((from, data)) = self.inside.recv() => self.to_client(from, &data).await,
                Some((from, data)) = outside => self.to_client(from, &data).await,
                else => return,
            }
        }
    }

    async fn client_sent(&mut self, from: SocketAddr, bytes: &[u8]) {
        if from.ip() != self.client_ip || *self.client.get_or_insert(from) != from {
            return;
        }
        let Some((Destination { host, port }, data)) = codec::datagram(bytes) else { return };
        match self.place(&host).await {
            Some(Place::Overlay(address)) => self.inside.send(SocketAddr::new(address, port), data).await,
            Some(Place::Outside) => self.send_outside(&host, port, data).await,
            None => {}
        }
    }

    async fn send_outside(&self, host: &Host, port: u16, data: &[u8]) {
        let Some(outside) = &self.outside else { return };
        let found = match host {
            Host::Address(address) => Some(SocketAddr::new(*address, port)),
            Host::Name(name) => {
                tokio::net::lookup_host((name.as_str(), port)).await.ok().and_then(|mut found| found.next())
            }
        };
        if let Some(to) = found {
            outside.send(to, data).await;
        }
    }

    async fn place(&mut self, host: &Host) -> Option<Place> {
        if let Host::Name(name) = host
            && let Some(address) = self.names.get(name)
        {
            return Some(Place::Overlay(*address));
        }
        let place = self.proxy.place(host).await.ok()?;
        if let (Host::Name(name), Place::Overlay(address)) = (host, &place)
            && self.names.len() < MAX_NAMES
        {
            self.names.insert(name.clone(), *address);
        }
        Some(place)
    }

    async fn to_client(&self, from: SocketAddr, data: &[u8]) {
        if let Some(client) = self.client {
            // Lost where the client has no room, as any datagram.
            let _ = self.socket.send_to(&codec::datagram_from(from, data), client).await;
        }
    }
}
