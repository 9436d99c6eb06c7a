//! UDP ASSOCIATE (RFC 1928 §7): a socket for one client, for as long as its connection stands.
//!
//! Datagrams for the client come from whom it has sent some to (RFC 4787 §5, address-dependent filtering); those for the
//! overlay enter and leave by the overlay alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
};

use super::{
    ClientError, Place, Proxy,
    codec::{self, Destination, Host, Reply},
};
use crate::front::dial::Datagrams;

/// The longest datagram.
const DATAGRAM: usize = u16::MAX as usize;
/// Names that one association remembers.
const MAX_NAMES: usize = 64;
/// Hosts that one association may talk to; more are not sent to.
const MAX_CONTACTS: usize = 1024;

struct Association<'a> {
    proxy: &'a Proxy,
    socket: UdpSocket,
    client: Client,
    inside: Datagrams,
    outside: Option<Datagrams>,
    names: BTreeMap<String, IpAddr>,
    contacts: Contacts,
}

/// Whose datagrams are taken: those from where the connection comes from and, there, from the port that the client
/// named, or else from the first that sends any.
#[derive(Debug)]
struct Client {
    ip: IpAddr,
    port: Option<u16>,
}

impl Client {
    fn is(&mut self, from: SocketAddr) -> bool {
        from.ip() == self.ip && *self.port.get_or_insert(from.port()) == from.port()
    }

    fn address(&self) -> Option<SocketAddr> {
        self.port.map(|port| SocketAddr::new(self.ip, port))
    }
}

/// Whom the client has sent something to.
#[derive(Debug, Default)]
struct Contacts(BTreeSet<IpAddr>);

impl Contacts {
    /// Whether there is room for one more.
    fn add(&mut self, ip: IpAddr) -> bool {
        self.0.contains(&ip) || (self.0.len() < MAX_CONTACTS && self.0.insert(ip))
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }
}

pub async fn associate(proxy: &Proxy, client: super::Client, port: Option<u16>) -> Result<(), ClientError> {
    let mut stream = client.stream;
    let socket = UdpSocket::bind(SocketAddr::new(stream.local_addr()?.ip(), 0)).await?;
    let bound = socket.local_addr()?;
    let _private = proxy.doors.keep_private(bound.port());
    let association = Association {
        proxy,
        socket,
        client: Client { ip: stream.peer_addr()?.ip(), port },
        inside: proxy.doors.dialer.datagrams()?,
        outside: match proxy.settings.allow_outside {
            true => Some(Datagrams::outside()?),
            false => None,
        },
        names: BTreeMap::new(),
        contacts: Contacts::default(),
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
        if !self.client.is(from) {
            return;
        }
        let Some((Destination { host, port }, data)) = codec::datagram(bytes) else { return };
        let (through, to) = match self.place(&host).await {
            Some(Place::Overlay(address)) => (Some(&self.inside), Some(SocketAddr::new(address, port))),
            Some(Place::Outside) => (self.outside.as_ref(), look_up(&host, port).await),
            None => return,
        };
        if let (Some(through), Some(to)) = (through, to)
            && self.contacts.add(to.ip())
        {
            through.send(to, data).await;
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
        if let Some(client) = self.client.address()
            && self.contacts.has(from.ip())
        {
            // Lost where the client has no room, as any datagram.
            let _ = self.socket.send_to(&codec::datagram_from(from, data), client).await;
        }
    }
}

/// Where a host outside of the overlay is.
async fn look_up(host: &Host, port: u16) -> Option<SocketAddr> {
    match host {
        Host::Address(address) => Some(SocketAddr::new(*address, port)),
        Host::Name(name) => tokio::net::lookup_host((name.as_str(), port)).await.ok()?.next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_port_it_named_or_the_first_that_sends() {
        let [ip, other] = ["127.0.0.1", "127.0.0.2"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let mut named = Client { ip, port: Some(5000) };
        assert_eq!(named.address(), Some(SocketAddr::new(ip, 5000)));
        assert!(!named.is(SocketAddr::new(ip, 5001)) && named.is(SocketAddr::new(ip, 5000)));
        let mut unnamed = Client { ip, port: None };
        assert!(!unnamed.is(SocketAddr::new(other, 6000)) && unnamed.address().is_none());
        assert!(unnamed.is(SocketAddr::new(ip, 6000)) && !unnamed.is(SocketAddr::new(ip, 6001)));
    }

    #[test]
    fn contacts_are_bounded_and_nobody_else_is_one() {
        let mut contacts = Contacts::default();
        let ip = |number: u32| IpAddr::from(number.to_be_bytes());
        assert_eq!((0..2000).filter(|number| contacts.add(ip(*number))).count(), MAX_CONTACTS);
        assert!(contacts.has(ip(7)) && contacts.add(ip(7)) && !contacts.has(ip(1999)));
    }
}
