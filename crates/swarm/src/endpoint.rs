//! What an endpoint's addresses say about the path: class, family, carrier, relay.

use libp2p::{Multiaddr, PeerId, core::ConnectedPoint, multiaddr::Protocol};
use peerup_types::{CarrierKind, Family, PathClass, PathKind};

/// The kind of path that `endpoint` is. A circuit takes the family of the leg to its relay.
pub fn kind(endpoint: &ConnectedPoint) -> PathKind {
    let relayed = endpoint.is_relayed();
    let addr = leg(endpoint);
    PathKind {
        class: if relayed { PathClass::Relay } else { PathClass::Direct },
        family: family(addr),
        carrier: match relayed {
            true => CarrierKind::RelayStream,
            false => carrier(addr),
        },
    }
}

/// The relay of a circuit, where the address names it.
pub fn relay(endpoint: &ConnectedPoint) -> Option<PeerId> {
    if !endpoint.is_relayed() {
        return None;
    }
    leg(endpoint).iter().take_while(|part| *part != Protocol::P2pCircuit).find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    })
}

/// Where the other end is. Of an inbound circuit libp2p says only who came; the way led through our relay.
pub fn remote(endpoint: &ConnectedPoint, peer: PeerId) -> Multiaddr {
    match endpoint {
        ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => {
            let to_circuit = local_addr.iter().take_while(|part| *part != Protocol::P2pCircuit);
            to_circuit.chain([Protocol::P2pCircuit, Protocol::P2p(peer)]).collect()
        }
        ConnectedPoint::Listener { .. } | ConnectedPoint::Dialer { .. } => {
            endpoint.get_remote_address().clone()
        }
    }
}

/// The address whose first hop carries the packets: an inbound circuit names its relay in the local address.
fn leg(endpoint: &ConnectedPoint) -> &Multiaddr {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => address,
        ConnectedPoint::Listener { local_addr, .. } if endpoint.is_relayed() => local_addr,
        ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr,
    }
}

fn family(addr: &Multiaddr) -> Family {
    match addr.iter().next() {
        Some(Protocol::Ip6(_) | Protocol::Dns6(_)) => Family::Ipv6,
        _ => Family::Ipv4,
    }
}

fn carrier(addr: &Multiaddr) -> CarrierKind {
    match addr.iter().any(|part| part == Protocol::QuicV1) {
        true => CarrierKind::QuicStream,
        false => CarrierKind::TcpStream,
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::{Endpoint, transport::PortUse};

    use super::*;

    fn dialed(address: &str) -> ConnectedPoint {
        ConnectedPoint::Dialer {
            address: address.parse().unwrap(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        }
    }

    #[test]
    fn direct_endpoints_tell_family_and_carrier() {
        let kind = kind(&dialed("/ip6/2001:db8::1/udp/4001/quic-v1"));
        assert_eq!((kind.class, kind.family), (PathClass::Direct, Family::Ipv6));
        assert_eq!(kind.carrier, CarrierKind::QuicStream);
        assert_eq!(super::kind(&dialed("/ip4/192.0.2.1/tcp/4001")).carrier, CarrierKind::TcpStream);
    }

    #[test]
    fn a_circuit_is_a_relay_path_and_names_its_relay_not_its_destination() {
        let relay_peer = PeerId::random();
        let target = PeerId::random();
        let outbound = dialed(&format!("/ip4/192.0.2.9/tcp/7777/p2p/{relay_peer}/p2p-circuit/p2p/{target}"));
        assert_eq!(kind(&outbound).class, PathClass::Relay);
        assert_eq!(relay(&outbound), Some(relay_peer));
        let inbound = ConnectedPoint::Listener {
            local_addr: format!("/ip6/2001:db8::9/tcp/7777/p2p/{relay_peer}/p2p-circuit").parse().unwrap(),
            send_back_addr: format!("/p2p/{target}").parse().unwrap(),
        };
        assert_eq!(relay(&inbound), Some(relay_peer));
        assert_eq!(kind(&inbound).family, Family::Ipv6);
        let circuit = format!("/ip6/2001:db8::9/tcp/7777/p2p/{relay_peer}/p2p-circuit/p2p/{target}");
        assert_eq!(remote(&inbound, target).to_string(), circuit);
        assert_eq!(remote(&outbound, target), *outbound.get_remote_address());
    }
}
