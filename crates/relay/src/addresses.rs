//! Where the relay listens and where others find it.
//!
//! libp2p's relay puts its external addresses into every reservation, and a client refuses a reservation without
//! one. So there must always be some: what the configuration says; else the listeners on this host's public
//! addresses; else, in a LAN or a laboratory, on all of them.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use peerup_types::{Multiaddr, Protocol};

/// The addresses of `listeners` for others: a wildcard stands for the `interfaces` of its family.
pub fn announced(listeners: &[Multiaddr], interfaces: &[IpAddr]) -> Vec<Multiaddr> {
    let public: Vec<IpAddr> = interfaces.iter().copied().filter(|ip| is_public(*ip)).collect();
    let reachable = if public.is_empty() { interfaces } else { &public };
    listeners.iter().flat_map(|listener| on_interfaces(listener, reachable)).collect()
}

/// Outside RFC 1918, RFC 6598 (carrier-grade NAT) and RFC 4193.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !(v4.is_private() || v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64),
        IpAddr::V6(v6) => !v6.is_unique_local(),
    }
}

fn on_interfaces(listener: &Multiaddr, interfaces: &[IpAddr]) -> Vec<Multiaddr> {
    let Some(wildcard) = ip_of(listener).filter(IpAddr::is_unspecified) else {
        return vec![listener.clone()];
    };
    let same_family = interfaces.iter().filter(|ip| ip.is_ipv4() == wildcard.is_ipv4());
    same_family.map(|ip| with_ip(listener, *ip)).collect()
}

/// `listener` with the port that was bound for it, once one of the addresses listened on is its. A listener that
/// names its port needs none of them.
pub fn bound(listener: &Multiaddr, listening: &[Multiaddr]) -> Option<Multiaddr> {
    if port_of(listener) != Some(0) {
        return Some(listener.clone());
    }
    let port = listening.iter().filter(|address| is_of(address, listener)).find_map(port_of)?;
    Some(with_port(listener, port))
}

fn is_of(address: &Multiaddr, listener: &Multiaddr) -> bool {
    let (Some(ip), Some(wanted)) = (ip_of(address), ip_of(listener)) else { return false };
    let same_ip = ip == wanted || wanted.is_unspecified() && ip.is_ipv4() == wanted.is_ipv4();
    same_ip && with_port(&with_ip(address, wanted), 0) == *listener
}

/// Finds out whether `listener` can be bound, with an error that says why not.
///
/// libp2p binds TCP with SO_REUSEPORT, which succeeds beside another relay of the same user and then shares its
/// connections at random.
pub fn check_free(listener: &Multiaddr) -> io::Result<()> {
    let (Some(ip), Some(port)) = (ip_of(listener), port_of(listener)) else { return Ok(()) };
    let address = SocketAddr::new(ip, port);
    match is_udp(listener) {
        true => UdpSocket::bind(address).map(drop),
        false => TcpListener::bind(address).map(drop),
    }
}

/// Whether `listener` asks for every IPv6 address on a host whose kernel has no IPv6.
pub fn lacks_family(listener: &Multiaddr) -> bool {
    ip_of(listener) == Some(Ipv6Addr::UNSPECIFIED.into())
        && UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err()
}

/// The first IP address in `address`.
pub fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    })
}

pub fn port_of(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    })
}

fn is_udp(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Udp(_)))
}

fn with_ip(address: &Multiaddr, ip: IpAddr) -> Multiaddr {
    let replace = |part| match (part, ip) {
        (Protocol::Ip4(_) | Protocol::Ip6(_), IpAddr::V4(v4)) => Protocol::Ip4(v4),
        (Protocol::Ip4(_) | Protocol::Ip6(_), IpAddr::V6(v6)) => Protocol::Ip6(v6),
        (other, _) => other,
    };
    address.iter().map(replace).collect()
}

fn with_port(address: &Multiaddr, port: u16) -> Multiaddr {
    let replace = |part| match part {
        Protocol::Tcp(_) => Protocol::Tcp(port),
        Protocol::Udp(_) => Protocol::Udp(port),
        other => other,
    };
    address.iter().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_the_public_addresses_of_their_family() {
        let listeners = ["/ip4/0.0.0.0/tcp/7777", "/ip6/::/udp/7777/quic-v1", "/ip4/192.0.2.1/tcp/1"];
        let shown = shown(&listeners, &["10.0.0.5", "100.64.3.3", "203.0.113.50", "2001:db8::50", "fd00::1"]);
        assert_eq!(
            shown,
            ["/ip4/203.0.113.50/tcp/7777", "/ip6/2001:db8::50/udp/7777/quic-v1", "/ip4/192.0.2.1/tcp/1"]
        );
    }

    #[test]
    fn a_host_without_public_addresses_announces_all_it_has() {
        let shown = shown(&["/ip4/0.0.0.0/tcp/7777", "/ip6/::/tcp/7777"], &["192.168.1.5", "fd00::1"]);
        assert_eq!(shown, ["/ip4/192.168.1.5/tcp/7777", "/ip6/fd00::1/tcp/7777"]);
    }

    #[test]
    fn a_port_that_the_kernel_chose_is_found_by_family_and_transport() {
        let listening =
            addresses(&["/ip4/127.0.0.1/udp/9/quic-v1", "/ip6/::1/tcp/8", "/ip4/192.0.2.1/tcp/7"]);
        let port =
            |listener: &str| bound(&listener.parse().unwrap(), &listening).map(|found| found.to_string());
        assert_eq!(port("/ip4/0.0.0.0/tcp/0").unwrap(), "/ip4/0.0.0.0/tcp/7");
        assert_eq!(port("/ip4/0.0.0.0/udp/0/quic-v1").unwrap(), "/ip4/0.0.0.0/udp/9/quic-v1");
        assert_eq!(port("/ip6/::1/tcp/0").unwrap(), "/ip6/::1/tcp/8");
        assert_eq!(port("/ip4/192.0.2.2/tcp/0"), None);
        assert_eq!(port("/ip4/192.0.2.2/tcp/5").unwrap(), "/ip4/192.0.2.2/tcp/5");
    }

    #[test]
    fn a_port_that_somebody_has_is_not_free() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for taken in [
            format!("/ip4/127.0.0.1/tcp/{}", tcp.local_addr().unwrap().port()),
            format!("/ip4/127.0.0.1/udp/{}/quic-v1", udp.local_addr().unwrap().port()),
        ] {
            let error = check_free(&taken.parse().unwrap()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{taken}");
        }
        check_free(&"/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    }

    fn shown(listeners: &[&str], interfaces: &[&str]) -> Vec<String> {
        let interfaces: Vec<IpAddr> = interfaces.iter().map(|ip| ip.parse().unwrap()).collect();
        announced(&addresses(listeners), &interfaces).iter().map(ToString::to_string).collect()
    }

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }
}
