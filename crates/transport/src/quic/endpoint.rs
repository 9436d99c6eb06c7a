//! UDP sockets and the quinn endpoints on them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use quinn::TokioRuntime;
use socket2::{Domain, Protocol, Socket, Type};

use super::config::{Ends, Settings};

/// 50 ms at 1 Gbit/s. The default of Linux (208 KiB) holds fewer than a hundred full packets, and a receiver that
/// was not scheduled for a moment loses the rest.
const REQUESTED: usize = 7 << 20;

/// What a socket asked for and what the kernel granted, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketBuffers {
    pub requested: usize,
    pub receive: usize,
    pub send: usize,
}

impl SocketBuffers {
    /// The kernel's limits (`net.core.rmem_max`, `net.core.wmem_max`) are so far below the request that the bursts of an
    /// access line lose packets.
    pub fn are_short(&self) -> bool {
        self.receive.min(self.send) < self.requested / 4
    }
}

/// An endpoint that dials and accepts from `local`.
pub(crate) fn listening(settings: &Settings, local: SocketAddr) -> io::Result<quinn::Endpoint> {
    bind(settings, local, Some((*settings.server().get(Ends::Apart)).clone()))
}

/// An endpoint that dials from a port of the kernel's choice.
pub(crate) fn dialing(settings: &Settings, remote: SocketAddr) -> io::Result<quinn::Endpoint> {
    bind(settings, wildcard_for(remote), None)
}

/// The address that packets of `endpoint` to `remote` leave from. Nothing is sent: a route is looked up.
pub(crate) fn source_to(endpoint: &quinn::Endpoint, remote: SocketAddr) -> io::Result<IpAddr> {
    let bound = endpoint.local_addr()?.ip();
    if !bound.is_unspecified() {
        return Ok(bound);
    }
    let probe = UdpSocket::bind(wildcard_for(remote))?;
    probe.connect(remote)?;
    Ok(probe.local_addr()?.ip())
}

fn wildcard_for(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn bind(
    settings: &Settings,
    local: SocketAddr,
    server: Option<quinn::ServerConfig>,
) -> io::Result<quinn::Endpoint> {
    let (socket, buffers) = socket(local)?;
    let local = socket.local_addr()?;
    let endpoint = quinn::Endpoint::new(settings.endpoint.clone(), server, socket, Arc::new(TokioRuntime))?;
    tracing::debug!(%local, ?buffers, "QUIC socket bound");
    settings.registry.bound(local, buffers);
    Ok(endpoint)
}

fn socket(local: SocketAddr) -> io::Result<(UdpSocket, SocketBuffers)> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?; // the IPv4 listener has the same port
    }
    let buffers = enlarge(&socket)?;
    socket.bind(&local.into())?;
    Ok((socket.into(), buffers))
}

fn enlarge(socket: &Socket) -> io::Result<SocketBuffers> {
    let receive = granted(socket.recv_buffer_size()?);
    if receive < REQUESTED && !force_receive(socket) {
        socket.set_recv_buffer_size(REQUESTED)?;
    }
    let send = granted(socket.send_buffer_size()?);
    if send < REQUESTED && !force_send(socket) {
        socket.set_send_buffer_size(REQUESTED)?;
    }
    Ok(SocketBuffers {
        requested: REQUESTED,
        receive: granted(socket.recv_buffer_size()?),
        send: granted(socket.send_buffer_size()?),
    })
}

/// Linux reports twice the size, as it doubles it for its own bookkeeping (socket(7)).
fn granted(reported: usize) -> usize {
    if cfg!(target_os = "linux") { reported / 2 } else { reported }
}

/// CAP_NET_ADMIN, which a daemon with a TUN device has, goes past `net.core.rmem_max`.
#[cfg(target_os = "linux")]
fn force_receive(socket: &Socket) -> bool {
    use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
    setsockopt(socket, RcvBufForce, &REQUESTED).is_ok()
}

#[cfg(target_os = "linux")]
fn force_send(socket: &Socket) -> bool {
    use nix::sys::socket::{setsockopt, sockopt::SndBufForce};
    setsockopt(socket, SndBufForce, &REQUESTED).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn force_receive(_: &Socket) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn force_send(_: &Socket) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_reports_what_the_kernel_granted() {
        let (socket, buffers) = socket("127.0.0.1:0".parse().unwrap()).unwrap();
        let socket = Socket::from(socket);
        assert_eq!(buffers.receive, granted(socket.recv_buffer_size().unwrap()));
        assert_eq!(buffers.requested, REQUESTED);
        let with = |receive| SocketBuffers { receive, send: REQUESTED, requested: REQUESTED };
        assert!(with(212_992).are_short() && !with(4 << 20).are_short());
    }

    #[test]
    fn a_wildcard_of_both_families_can_share_a_port() {
        let (v4, _) = socket("0.0.0.0:0".parse().unwrap()).unwrap();
        let port = v4.local_addr().unwrap().port();
        assert!(socket((Ipv6Addr::UNSPECIFIED, port).into()).is_ok());
    }
}
