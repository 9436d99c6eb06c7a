//! What an address says by itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use peerup_types::{Multiaddr, Protocol};

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Loopback, link-local, multicast, unspecified: no address to be reached at.
    Link,
    /// RFC 1918 and RFC 4193: inside one site.
    Private,
    /// RFC 6598, 100.64.0.0/10: between a carrier's NAT and its customers.
    Shared,
    /// Routed on the internet, as far as the address tells.
    Global,
}

pub fn scope(ip: IpAddr) -> Scope {
    match ip {
        IpAddr::V4(ip) if is_shared(ip) => Scope::Shared,
        IpAddr::V4(ip) if ip.is_private() => Scope::Private,
        IpAddr::V4(ip) => {
            let local = ip.is_loopback() || ip.is_link_local() || ip.is_unspecified();
            // 240.0.0.0/4 is reserved and 224.0.0.0/4 multicast; 0.0.0.0/8 is this network (RFC 6890).
            if local || ip.octets()[0] >= 224 || ip.octets()[0] == 0 { Scope::Link } else { Scope::Global }
        }
        IpAddr::V6(ip) => match ip.segments()[0] {
            first if first & 0xe000 == 0x2000 => Scope::Global,
            first if first & 0xfe00 == 0xfc00 => Scope::Private,
            _ => Scope::Link,
        },
    }
}

fn is_shared(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64
}

/// An address of one of this host's interfaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface {
    pub name: String,
    pub address: IpAddr,
    /// A tunnel: the overlay, or another VPN. What it carries travels through another interface after all.
    pub tunnel: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// QUIC, over UDP.
    Quic,
    Tcp,
}

/// One end of an underlay connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    pub transport: Transport,
    pub at: SocketAddr,
}

/// `/ip4/…/udp/…/quic-v1` or `/ip6/…/tcp/…`, with or without `/p2p/…`; `None` for circuits, names and the rest.
pub fn endpoint(address: &Multiaddr) -> Option<Endpoint> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let (transport, port) = match parts.next()? {
        Protocol::Udp(port) => match parts.next()? {
            Protocol::QuicV1 => (Transport::Quic, port),
            _ => return None,
        },
        Protocol::Tcp(port) => (Transport::Tcp, port),
        _ => return None,
    };
    let rest = parts.next();
    let ends = matches!(rest, None | Some(Protocol::P2p(_))) && parts.next().is_none();
    ends.then_some(Endpoint { transport, at: SocketAddr::new(ip, port) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_scope() {
        let of = |text: &str| scope(text.parse().unwrap());
        for link in
            ["127.0.0.1", "169.254.3.4", "0.0.0.0", "0.1.2.3", "224.0.0.251", "255.255.255.255", "::1"]
        {
            assert_eq!(of(link), Scope::Link, "{link}");
        }
        for link in ["fe80::1", "ff02::1", "::", "::ffff:203.0.113.1"] {
            assert_eq!(of(link), Scope::Link, "{link}");
        }
        for private in ["10.0.0.1", "172.31.255.1", "192.168.1.1", "fd12::1", "fc00::1"] {
            assert_eq!(of(private), Scope::Private, "{private}");
        }
        for shared in ["100.64.0.1", "100.127.255.254"] {
            assert_eq!(of(shared), Scope::Shared, "{shared}");
        }
        for global in ["203.0.113.1", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2001:db8::1", "3fff::1"]
        {
            assert_eq!(of(global), Scope::Global, "{global}");
        }
    }

    #[test]
    fn only_plain_underlay_addresses_are_endpoints() {
        let of = |text: &str| endpoint(&text.parse().unwrap());
        let quic = of("/ip4/192.0.2.1/udp/4001/quic-v1").unwrap();
        assert_eq!((quic.transport, quic.at), (Transport::Quic, "192.0.2.1:4001".parse().unwrap()));
        let id = "12D3KooWC7cDcNR4J3NC9y1gTkqafZKmnjCUvrRMxU2LMugGJGgy";
        let tcp = of(&format!("/ip6/2001:db8::1/tcp/80/p2p/{id}")).unwrap();
        assert_eq!((tcp.transport, tcp.at), (Transport::Tcp, "[2001:db8::1]:80".parse().unwrap()));
        for other in [
            "/ip4/192.0.2.1/udp/4001".to_owned(),
            "/ip4/192.0.2.1/tcp/80/ws".to_owned(),
            "/dns4/example.org/tcp/80".to_owned(),
            format!("/ip4/192.0.2.1/tcp/80/p2p/{id}/p2p-circuit"),
        ] {
            assert_eq!(of(&other), None, "{other}");
        }
    }
}
