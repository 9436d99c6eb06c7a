//! `/ip4/…/udp/…/quic-v1[/p2p/…]` and socket addresses.

use std::net::{IpAddr, SocketAddr};

use libp2p_core::multiaddr::{Multiaddr, Protocol};
use libp2p_identity::PeerId;

/// The socket address and, where the address names it, the peer. Only QUIC version 1 (RFC 9000) is spoken.
pub(crate) fn parse(address: &Multiaddr) -> Option<(SocketAddr, Option<PeerId>)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let Protocol::Udp(port) = parts.next()? else { return None };
    let Protocol::QuicV1 = parts.next()? else { return None };
    let peer = match parts.next() {
        None => None,
        Some(Protocol::P2p(peer)) => Some(peer),
        Some(_) => return None,
    };
    parts.next().is_none().then_some((SocketAddr::new(ip, port), peer))
}

pub(crate) fn format(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Udp(socket.port())).with(Protocol::QuicV1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_socket_address_survives_the_round_trip(ip: IpAddr, port: u16) {
            let socket = SocketAddr::new(ip, port);
            prop_assert_eq!(parse(&format(socket)), Some((socket, None)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            if let Ok(address) = Multiaddr::try_from(bytes) {
                parse(&address);
            }
        }
    }

    #[test]
    fn a_named_peer_is_found_and_anything_else_is_refused() {
        let peer = PeerId::random();
        let named: Multiaddr = format!("/ip4/1.2.3.4/udp/5/quic-v1/p2p/{peer}").parse().unwrap();
        assert_eq!(parse(&named).unwrap().1, Some(peer));
        for other in [
            "/ip4/1.2.3.4/udp/5",
            "/ip4/1.2.3.4/udp/5/quic",
            "/ip4/1.2.3.4/tcp/5",
            "/dns4/a.org/udp/5/quic-v1",
            "/ip4/1.2.3.4/udp/5/quic-v1/webtransport",
            &format!("/ip4/1.2.3.4/udp/5/quic-v1/p2p/{peer}/p2p-circuit"),
        ] {
            assert_eq!(parse(&other.parse().unwrap()), None, "{other}");
        }
    }
}
