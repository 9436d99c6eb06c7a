//! The words for a path: `direct v6`, `direct v4 lan`, `peer-relay pi`, `relay vps1`, `connecting`, `offline`, with
//! `+tcp` when the carrier is TCP.

use std::net::{IpAddr, SocketAddr};

use peerup_control::api::{OverviewClass, PathOverview};
use peerup_types::{CarrierKind, Family, Multiaddr, PeerId, Protocol};

/// `name_of` gives a relay its name, where it has one.
pub fn words(path: Option<&PathOverview>, name_of: impl Fn(&PeerId) -> String) -> String {
    let Some(path) = path else { return "offline".into() };
    let relay = || path.relay.as_ref().map(&name_of).unwrap_or_default();
    let words = match path.class {
        OverviewClass::Direct => direct(path),
        OverviewClass::PeerRelay => format!("peer-relay {}", relay()),
        OverviewClass::Relay => format!("relay {}", relay()),
        OverviewClass::Connecting => "connecting".into(),
    };
    let tcp = if path.carrier == Some(CarrierKind::TcpStream) { "+tcp" } else { "" };
    format!("{}{tcp}", words.trim_end())
}

fn direct(path: &PathOverview) -> String {
    let family = match path.family {
        Some(Family::Ipv6) => " v6",
        Some(Family::Ipv4) => " v4",
        None => "",
    };
    let lan =
        if path.addr.as_deref().and_then(endpoint).is_some_and(|at| is_local(at.ip())) { " lan" } else { "" };
    format!("direct{family}{lan}")
}

/// `/ip4/203.0.113.7/udp/41000/quic-v1` or `203.0.113.7:41000` as a socket address.
pub fn endpoint(address: &str) -> Option<SocketAddr> {
    if let Ok(socket) = address.parse() {
        return Some(socket);
    }
    let address: Multiaddr = address.parse().ok()?;
    let mut ip = None;
    for part in &address {
        match part {
            Protocol::Ip4(v4) => ip = Some(IpAddr::V4(v4)),
            Protocol::Ip6(v6) => ip = Some(IpAddr::V6(v6)),
            Protocol::Udp(port) | Protocol::Tcp(port) => return Some(SocketAddr::new(ip?, port)),
            _ => return None,
        }
    }
    None
}

/// RFC 1918, RFC 4193 and link-local addresses: the peer is on this site.
fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: &str = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";

    #[test]
    fn every_path_has_its_words() {
        use {CarrierKind::*, Family::*, OverviewClass::*};
        assert_eq!(words(None, name), "offline");
        assert_eq!(shown(Direct, Ipv6, QuicStream, "/ip6/2001:db8::1/udp/1/quic-v1"), "direct v6");
        assert_eq!(shown(Direct, Ipv4, TcpStream, "/ip4/203.0.113.9/tcp/1"), "direct v4+tcp");
        assert_eq!(shown(Direct, Ipv4, QuicStream, "/ip4/192.168.1.9/udp/1/quic-v1"), "direct v4 lan");
        assert_eq!(shown(Relay, Ipv4, RelayStream, "/ip4/203.0.113.9/tcp/1"), "relay vps1");
        assert_eq!(shown(PeerRelay, Ipv6, RelayStream, "?"), "peer-relay vps1");
    }

    #[test]
    fn an_endpoint_is_read_from_either_notation() {
        let socket = "203.0.113.7:41000".parse().ok();
        assert_eq!(endpoint("/ip4/203.0.113.7/udp/41000/quic-v1"), socket);
        assert_eq!(endpoint("203.0.113.7:41000"), socket);
        assert_eq!(endpoint("/dns/a.b/tcp/1"), None);
        assert_eq!(endpoint("nonsense"), None);
    }

    fn shown(class: OverviewClass, family: Family, carrier: CarrierKind, addr: &str) -> String {
        let relay = RELAY.parse().ok();
        let path = PathOverview {
            class,
            family: Some(family),
            carrier: Some(carrier),
            addr: Some(addr.into()),
            relay,
            since: None,
        };
        words(Some(&path), name)
    }

    fn name(_: &PeerId) -> String {
        "vps1".into()
    }
}
