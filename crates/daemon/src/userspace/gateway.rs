//! The Internet for an `exec` session (docs/adr/0071): a stack of its own that stands for every address there is.
//!
//! What the session's device sends to anywhere but the overlay comes here. A connection is dialed with this host's own
//! sockets first and only then accepted, so that a refusal looks like one; datagrams likewise. One address is made up:
//! [`RESOLVER`], behind which the host's own resolver answers, also where that one listens on the host's loopback.
//! An echo request is repeated with an echo socket of the host (icmp(7)), and answered when that one was.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use peerup_packet::{IpPacket, protocol};
use peerup_tun::{Device, MAX_FRAME_LEN, PassedTun, VNET_HEADER_LEN};
use peerup_types::OverlayAddrs;
use peerup_userspace::Event;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{
    net::{TcpStream, UdpSocket},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{AbortHandle, yield_now},
    time::timeout,
};

use super::{
    Conversation, Flow, Network,
    inbound::{DATAGRAM, open_udp, relay},
    pump,
    sessions::hand_over,
};

/// Where the session's resolver seems to be: link-local, so no route of the host's leads there.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 53, 53);
const DNS: u16 = 53;
/// Less than the stack keeps a SYN; the session's kernel repeats it meanwhile.
const DIAL: Duration = Duration::from_secs(15);
/// Echo requests whose answer is awaited, and for how long.
const ECHOES: usize = 64;
const ECHO: Duration = Duration::from_secs(10);
/// Frames handed to the device before others have their turn.
const TURN: usize = 16;

pub struct Gateway {
    network: Network,
    /// What is not the Internet.
    overlay: Vec<IpNet>,
    echoes: Arc<Semaphore>,
    delivering: AbortHandle,
}

impl Gateway {
    /// Answers go to `tun`.
    pub fn start(
        addresses: OverlayAddrs,
        mtu: u16,
        overlay: Vec<IpNet>,
        tun: Arc<PassedTun>,
        io: &Handle,
    ) -> Self {
        let (network, knocking) = Network::new(addresses, mtu);
        network.run(serve(network.clone(), knocking), io);
        let delivering = io.spawn(deliver(network.clone(), tun)).abort_handle();
        Self { network, overlay, echoes: Arc::new(Semaphore::new(ECHOES)), delivering }
    }

    /// Takes a frame that leads out of the overlay. `false`: it does not.
    pub fn take(&self, frame: &[u8]) -> bool {
        let Some(Ok(packet)) = frame.get(VNET_HEADER_LEN..).map(IpPacket::parse) else { return false };
        if self.overlay.iter().any(|range| range.contains(&packet.destination())) {
            return false;
        }
        match packet.protocol() {
            protocol::ICMP | protocol::ICMPV6 => self.repeat(&packet),
            _ => self.network.take_frame(frame),
        }
        true
    }

    /// The stack answers an echo request by itself, and so it gets it when the answer is true.
    fn repeat(&self, request: &IpPacket<'_>) {
        let Ok(place) = self.echoes.clone().try_acquire_owned() else { return };
        let (network, to) = (self.network.clone(), request.destination());
        let (packet, echo) = (request.as_bytes().to_vec(), request.payload().to_vec());
        if is_outside(to) && is_echo_request(to, &echo) {
            tokio::spawn(async move {
                if let Ok(Ok(())) = timeout(ECHO, echo_once(to, &echo, place)).await {
                    network.take_frame(&[&[0; VNET_HEADER_LEN][..], &packet].concat());
                }
            });
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.delivering.abort();
        self.network.close();
    }
}

async fn deliver(network: Network, tun: Arc<PassedTun>) {
    let mut buffer = vec![0; MAX_FRAME_LEN];
    loop {
        let mut next = network.recv(&mut buffer).await;
        for _ in 0..TURN {
            let Ok(len) = next else { break };
            if let Err(error) = hand_over(&tun, &buffer[..len], network.mtu()) {
                tracing::trace!(%error, "an exec session did not take a frame");
            }
            next = network.try_recv(&mut buffer);
        }
        yield_now().await;
    }
}

async fn serve(network: Network, mut knocking: mpsc::Receiver<Event>) {
    while let Some(event) = knocking.recv().await {
        match event {
            Event::Accept { flow, local, .. } => {
                tokio::spawn(connect(Flow::new(network.clone(), flow), local));
            }
            Event::Opened { conversation, peer, local } => {
                tokio::spawn(converse(Conversation::new(network.clone(), conversation), peer, local));
            }
            Event::Ready(_) | Event::Datagrams(_) => {}
        }
    }
}

async fn connect(flow: Flow, to: SocketAddr) {
    let Some(to) = outside(to).await else { return };
    match timeout(DIAL, TcpStream::connect(to)).await {
        Ok(Ok(stream)) => {
            // Small writes of a relay are somebody's keystrokes.
            let _ = stream.set_nodelay(true);
            flow.accept();
            pump(flow, stream).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a connection of an exec session is refused"),
        Err(_) => tracing::debug!("a connection of an exec session is not answered"),
    }
}

async fn converse(conversation: Conversation, session: SocketAddr, to: SocketAddr) {
    let Some(to) = outside(to).await else { return conversation.refuse() };
    let Ok(socket) = open_outside(to) else { return conversation.refuse() };
    if relay(&conversation, &socket, to, session, &mut vec![0; DATAGRAM]).await {
        conversation.refuse();
    }
}

fn open_outside(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    open_udp(any.parse().map_err(io::Error::other)?)
}

/// Where this host finds what a session asks for.
async fn outside(to: SocketAddr) -> Option<SocketAddr> {
    if to.ip() == IpAddr::V4(RESOLVER) {
        if to.port() != DNS {
            return None;
        }
        // Read each time: a laptop's resolver changes with its network.
        let text = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
        return Some(SocketAddr::new(nameserver(&text), DNS));
    }
    is_outside(to.ip()).then_some(to)
}

/// Not this host's loopback, and nothing that is no single host.
fn is_outside(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || broadcast)
}

/// resolv.conf(5): without a server the one on this machine is asked.
fn nameserver(resolv_conf: &str) -> IpAddr {
    let servers = resolv_conf.lines().filter_map(|line| line.strip_prefix("nameserver"));
    servers
        .filter_map(|server| server.split_whitespace().next()?.parse().ok())
        .next()
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn is_echo_request(to: IpAddr, icmp: &[u8]) -> bool {
    icmp.len() >= 8 && icmp[0] == if to.is_ipv4() { 8 } else { 128 }
}

/// Ends when `to` has answered. The kernel puts an identifier of its own and checksums in, and takes them off.
async fn echo_once(to: IpAddr, request: &[u8], _place: OwnedSemaphorePermit) -> io::Result<()> {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(protocol))?;
    socket.connect(&SockAddr::from(SocketAddr::new(to, 0)))?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send(request).await?;
    let mut answer = vec![0; DATAGRAM];
    loop {
        let len = socket.recv(&mut answer).await?;
        // The sequence number; answers to others do not come to this socket.
        if answer[..len].get(6..8) == request.get(6..8) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_made_up_resolver_is_the_hosts_and_nothing_else() {
        for (text, server) in [
            ("", "127.0.0.1"),
            (
                "# nameserver 192.0.2.1\nsearch lan\nnameserver 127.0.0.53\nnameserver 192.0.2.2\n",
                "127.0.0.53",
            ),
            ("nameserver\t2001:db8::1 \n", "2001:db8::1"),
            ("nameserver fe80::1%eth0\nnameserver 192.0.2.2\n", "192.0.2.2"),
        ] {
            assert_eq!(nameserver(text), server.parse::<IpAddr>().unwrap(), "{text:?}");
        }
        assert_eq!(outside(SocketAddr::from((RESOLVER, 80))).await, None);
        assert_eq!(outside(SocketAddr::from((RESOLVER, 53))).await.unwrap().port(), 53);
    }

    #[tokio::test]
    async fn this_hosts_loopback_and_everybody_at_once_are_not_the_internet() {
        for closed in
            ["127.0.0.1", "127.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "ff02::1"]
        {
            assert_eq!(outside(SocketAddr::new(closed.parse().unwrap(), 80)).await, None, "{closed}");
        }
        assert_eq!(outside("[::ffff:127.0.0.1]:80".parse().unwrap()).await, None);
        for open in ["192.0.2.1:80", "[2001:db8::1]:443"] {
            assert_eq!(outside(open.parse().unwrap()).await, Some(open.parse().unwrap()));
        }
    }
}
