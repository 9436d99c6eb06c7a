//! What peers ask of this host: their connections and datagrams go to the same port on loopback.
//!
//! A peer shall reach what it would reach on an interface, and no more: services that listen on every address. A
//! service that listens on 127.0.0.1 alone was not meant for others (docs/adr/0060). Linux has sixteen million
//! addresses on loopback, and a service bound to one of them does not answer on another: so the connection goes to
//! another one than 127.0.0.1, and the kernel tells the two kinds apart. It comes from one that stands for the peer, so
//! that logs tell peers apart.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use nix::sys::socket::{
    setsockopt,
    sockopt::{Ipv4RecvErr, Ipv6RecvErr},
};
use peerup_userspace::Event;
use tokio::{
    net::{TcpSocket, TcpStream, UdpSocket},
    sync::mpsc,
    time::timeout,
};

use super::{Access, Conversation, Flow, Network, pump};

/// Loopback answers at once; a service whose backlog is full may take a few repetitions.
const DIAL: Duration = Duration::from_secs(10);
/// The longest datagram.
pub const DATAGRAM: usize = u16::MAX as usize;

pub async fn serve(network: Network, mut knocking: mpsc::Receiver<Event>) {
    while let Some(event) = knocking.recv().await {
        match event {
            Event::Accept { flow, peer, local } => {
                let flow = Flow::new(network.clone(), flow);
                let access = network.access(local.port());
                tokio::spawn(connect(flow, access, peer, local));
            }
            Event::Opened { conversation, peer, local } => {
                let conversation = Conversation::new(network.clone(), conversation);
                let access = network.access(local.port());
                tokio::spawn(converse(conversation, access, peer, local));
            }
            Event::Ready(_) | Event::Datagrams(_) => {}
        }
    }
}

/// Dials the service first; a flow that is dropped without having been accepted is refused.
async fn connect(flow: Flow, access: Access, peer: SocketAddr, local: SocketAddr) {
    let port = local.port();
    match timeout(DIAL, dial(access, peer, local)).await {
        Ok(Ok(service)) => {
            // Small writes of a relay are somebody's keystrokes.
            let _ = service.set_nodelay(true);
            flow.accept();
            pump(flow, service).await;
        }
        Ok(Err(error)) => tracing::debug!(port, %error, "a peer's connection is refused"),
        Err(_) => tracing::debug!(port, "a local service does not answer"),
    }
}

async fn dial(access: Access, peer: SocketAddr, local: SocketAddr) -> io::Result<TcpStream> {
    let mut refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    for to in places(access, local) {
        match dial_one(peer, to).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => refused = error,
            result => return result,
        }
    }
    Err(refused)
}

async fn dial_one(peer: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if to.is_ipv4() {
        socket.bind((stand_in(peer.ip()), 0).into())?;
    }
    socket.connect(to).await
}

async fn converse(conversation: Conversation, access: Access, peer: SocketAddr, local: SocketAddr) {
    let mut buffer = vec![0; DATAGRAM];
    // Nobody says whether a datagram is welcome but the answer to it: the next place is tried with the next one.
    for to in places(access, local) {
        let from = match to {
            SocketAddr::V4(_) => IpAddr::V4(stand_in(peer.ip())),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        let Ok(service) = open_udp(SocketAddr::new(from, 0)) else { continue };
        if !relay(&conversation, &service, to, peer, &mut buffer).await {
            return;
        }
    }
    conversation.refuse();
}

/// Runs until the conversation is over, or says that nobody listens.
pub async fn relay(
    conversation: &Conversation,
    service: &UdpSocket,
    to: SocketAddr,
    peer: SocketAddr,
    buffer: &mut [u8],
) -> bool {
    loop {
        let result = tokio::select! {
            datagram = conversation.recv() => match datagram {
                Some((_, data)) => service.send_to(&data, to).await.map(drop),
                None => return false,
            },
            received = service.recv_from(buffer) => received.map(|(len, from)| {
                if is_answer(from, to) {
                    conversation.send(peer, &buffer[..len]);
                }
            }),
        };
        // Loopback answers a datagram that nobody takes with ICMP, which the socket reports (ip(7)).
        if let Err(error) = result
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            return true;
        }
    }
}

/// A service on every address of loopback answers from the one that the kernel prefers, which is 127.0.0.1.
fn is_answer(from: SocketAddr, to: SocketAddr) -> bool {
    from == to || (to.ip().is_loopback() && from == SocketAddr::from((Ipv4Addr::LOCALHOST, to.port())))
}

/// Not connected, because answers come from another address; told of ICMP errors all the same (ip(7), IP_RECVERR).
pub fn open_udp(from: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(from)?;
    socket.set_nonblocking(true)?;
    match from {
        SocketAddr::V4(_) => setsockopt(&socket, Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, Ipv6RecvErr, &true)?,
    }
    UdpSocket::from_std(socket)
}

/// Where a service may be that this access reaches.
fn places(access: Access, local: SocketAddr) -> Vec<SocketAddr> {
    let wildcard = IpAddr::V4(stand_in(local.ip()));
    let all = [wildcard, Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let reached = match access {
        Access::Never => &all[..0],
        Access::Wildcard => &all[..1],
        Access::Loopback => &all[..],
    };
    reached.iter().map(|ip| SocketAddr::new(*ip, local.port())).collect()
}

/// An address on loopback that stands for one of the overlay: 127.64.0.2 for 10.64.0.2, and never one of 127.0.0.0/16.
/// There is 127.0.0.1, which is what services trust, and resolvers listen there that are for this host alone
/// (127.0.0.53, 127.0.1.1).
fn stand_in(overlay: IpAddr) -> Ipv4Addr {
    let [_, a, b, c] = match overlay {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => {
            let [.., a, b, c] = v6.octets();
            [0, a, b, c]
        }
    };
    match a {
        // The last address of the range is not for hosts.
        0 => Ipv4Addr::new(127, 255, b, c.min(254)),
        _ if [a, b, c] == [255; 3] => Ipv4Addr::new(127, 255, 255, 254),
        _ => Ipv4Addr::new(127, a, b, c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_addresses_have_stand_ins_that_are_never_the_one_that_is_trusted() {
        let of = |text: &str| stand_in(text.parse().unwrap()).to_string();
        assert_eq!(of("10.64.0.2"), "127.64.0.2");
        assert_eq!(of("10.0.0.1"), "127.255.0.1");
        assert_eq!(of("fd00::12:3456"), "127.18.52.86");
        assert_ne!(of("fd00::1"), "127.0.0.1");
        // Resolvers of this host alone.
        assert_eq!(of("10.0.0.53"), "127.255.0.53");
        assert_eq!(of("10.0.1.1"), "127.255.1.1");
        for last in ["10.0.255.255", "10.255.255.255"] {
            assert!(!["127.0.255.255", "127.255.255.255"].contains(&of(last).as_str()), "{last}");
        }
    }

    #[tokio::test]
    async fn a_service_on_127_0_0_1_alone_is_reached_only_when_its_port_is_listed() {
        let private = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let public = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        let peer = "10.64.0.2:40000".parse().unwrap();
        let local = |listener: &tokio::net::TcpListener| {
            SocketAddr::new("10.64.0.1".parse().unwrap(), listener.local_addr().unwrap().port())
        };
        assert!(dial(Access::Wildcard, peer, local(&private)).await.is_err());
        assert!(dial(Access::Loopback, peer, local(&private)).await.is_ok());
        assert!(dial(Access::Never, peer, local(&public)).await.is_err());
        dial(Access::Wildcard, peer, local(&public)).await.unwrap();
        let (_, from) = public.accept().await.unwrap();
        assert_eq!(from.ip().to_string(), "127.64.0.2");
    }
}
