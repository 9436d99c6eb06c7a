//! Which of the addresses that a peer offers are worth a dial.

use std::net::IpAddr;

use peerup_types::{Multiaddr, Protocol};

/// Addresses taken from one offer: both families and transports of a few interfaces plus the mapped ones.
pub const MAX_CANDIDATES: usize = 16;

/// The transport and family of a candidate; one dial races the addresses of one group, so that a fast IPv4 answer
/// does not cancel the IPv6 attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    QuicV6,
    QuicV4,
    TcpV6,
    TcpV4,
}

impl Group {
    pub fn is_tcp(self) -> bool {
        match self {
            Self::TcpV6 | Self::TcpV4 => true,
            Self::QuicV6 | Self::QuicV4 => false,
        }
    }
}

/// Whether `address` is a plain QUIC or TCP underlay address that a packet can be sent to. A peer's word is not
/// trusted: loopback, link-local, multicast and unspecified addresses would lead back to this host or nowhere.
pub fn dialable(address: &Multiaddr) -> bool {
    group(address).is_some()
}

pub fn group(address: &Multiaddr) -> Option<Group> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let mut parts = parts.peekable();
    let quic = match parts.next()? {
        Protocol::Udp(port) if port > 0 && parts.next() == Some(Protocol::QuicV1) => true,
        Protocol::Tcp(port) if port > 0 => false,
        _ => return None,
    };
    // Of what follows only the peer's name leaves it a plain address: a circuit begins with the relay's.
    parts.next_if(|part| matches!(part, Protocol::P2p(_)));
    if parts.next().is_some() || !is_unicast(ip) {
        return None;
    }
    Some(match (quic, ip.is_ipv6()) {
        (true, true) => Group::QuicV6,
        (true, false) => Group::QuicV4,
        (false, true) => Group::TcpV6,
        (false, false) => Group::TcpV4,
    })
}

fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_unspecified())
        }
        IpAddr::V6(ip) => {
            let link_local = ip.segments()[0] & 0xffc0 == 0xfe80;
            let mapped = ip.to_ipv4_mapped().is_some();
            !(ip.is_loopback() || link_local || mapped || ip.is_multicast() || ip.is_unspecified())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    fn group_of(text: &str) -> Option<Group> {
        group(&text.parse().unwrap())
    }

    #[test]
    fn plain_underlay_addresses_are_grouped_by_transport_and_family() {
        assert_eq!(group_of("/ip4/192.0.2.1/udp/4001/quic-v1"), Some(Group::QuicV4));
        assert_eq!(group_of("/ip6/2001:db8::1/udp/4001/quic-v1"), Some(Group::QuicV6));
        assert_eq!(group_of("/ip4/192.168.1.5/tcp/4001"), Some(Group::TcpV4));
        assert_eq!(group_of(&format!("/ip4/192.168.1.5/tcp/4001/p2p/{PEER}")), Some(Group::TcpV4));
        assert_eq!(group_of(&format!("/ip6/2001:db8::1/udp/1/quic-v1/p2p/{PEER}")), Some(Group::QuicV6));
    }

    #[test]
    fn addresses_that_lead_back_here_or_nowhere_are_refused() {
        for bad in [
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/169.254.1.1/tcp/4001",
            "/ip4/224.0.0.1/udp/4001/quic-v1",
            "/ip4/0.0.0.0/tcp/4001",
            "/ip6/::1/tcp/4001",
            "/ip6/fe80::1/tcp/4001",
            "/ip6/::ffff:127.0.0.1/tcp/4001",
            "/ip4/192.0.2.1/tcp/0",
            "/ip4/192.0.2.1/udp/4001",
            "/dns4/example.org/tcp/4001",
            "/ip4/192.0.2.1/tcp/4001/ws",
            &format!("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{PEER}/p2p-circuit"),
            &format!("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{PEER}/p2p-circuit/p2p/{PEER}"),
            &format!("/ip4/192.0.2.1/tcp/4001/p2p/{PEER}/p2p-circuit/p2p/{PEER}"),
            &format!("/ip4/192.0.2.1/tcp/4001/p2p/{PEER}/p2p/{PEER}"),
        ] {
            assert_eq!(group_of(bad), None, "{bad}");
        }
    }
}
