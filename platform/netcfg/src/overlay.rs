//! What the host's network should look like.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use peerup_types::OverlayAddrs;

use crate::NetworkError;

/// Below this the kernel turns IPv6 off on the link (RFC 8200 §5).
const MIN_MTU: u16 = 1280;

/// This node's place on the host: its link, its addresses, and the ranges that belong to the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// A TUN device that this process holds.
    pub interface: String,
    pub addresses: OverlayAddrs,
    pub mtu: u16,
    pub v4_range: Ipv4Net,
    pub v6_range: Ipv6Net,
}

impl Overlay {
    /// Refuses an address that no node can have: a peer must not be able to draw the host's own traffic, its
    /// gateway's least of all.
    pub(crate) fn check_address(&self, address: IpAddr) -> Result<(), NetworkError> {
        let inside = match address {
            IpAddr::V4(v4) => self.v4_range.contains(&v4),
            IpAddr::V6(v6) => self.v6_range.contains(&v6),
        };
        if !inside || address.is_multicast() || address.is_unspecified() {
            return Err(NetworkError::NoOverlayAddress { address });
        }
        Ok(())
    }

    pub(crate) fn check(&self) -> Result<(), NetworkError> {
        if self.mtu < MIN_MTU {
            return Err(NetworkError::Mtu { mtu: self.mtu, min: MIN_MTU });
        }
        for range in [self.v4_range.into(), self.v6_range.into()] {
            refuse_default_route(range)?;
        }
        self.addresses.iter().try_for_each(|address| self.check_address(address))
    }
}

/// A range of length 0 would make the `unreachable` route a default route.
fn refuse_default_route(range: IpNet) -> Result<(), NetworkError> {
    if range.prefix_len() == 0 { Err(NetworkError::DefaultRoute { range }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_is_a_default_route_is_refused() {
        overlay().check().unwrap();
        let v4 = Overlay { v4_range: "0.0.0.0/0".parse().unwrap(), ..overlay() };
        assert!(matches!(v4.check(), Err(NetworkError::DefaultRoute { .. })));
        let v6 = Overlay { v6_range: "::/0".parse().unwrap(), ..overlay() };
        assert!(matches!(v6.check(), Err(NetworkError::DefaultRoute { .. })));
    }

    #[test]
    fn an_mtu_that_would_turn_ipv6_off_is_refused() {
        let small = Overlay { mtu: 1279, ..overlay() };
        assert!(matches!(small.check(), Err(NetworkError::Mtu { mtu: 1279, min: 1280 })));
    }

    #[test]
    fn addresses_outside_the_ranges_or_not_of_one_node_are_refused() {
        let wide = Overlay {
            v4_range: "224.0.0.0/3".parse().unwrap(),
            v6_range: "::/1".parse().unwrap(),
            ..overlay()
        };
        for bad in ["10.64.0.1", "224.0.0.1", "::", "fd00::1"] {
            let error = wide.check_address(bad.parse().unwrap()).unwrap_err();
            assert_eq!(error.to_string(), format!("{bad} is no address of a node in the overlay's ranges"));
        }
        wide.check_address("240.0.0.1".parse().unwrap()).unwrap();
        let foreign = OverlayAddrs { v4: Some("192.168.0.1".parse().unwrap()), ..overlay().addresses };
        assert!(Overlay { addresses: foreign, ..overlay() }.check().is_err());
    }

    fn overlay() -> Overlay {
        Overlay {
            interface: "peerup0".into(),
            addresses: OverlayAddrs { v4: None, v6: "fd00::1".parse().unwrap() },
            mtu: 1280,
            v4_range: "10.64.0.0/16".parse().unwrap(),
            v6_range: "fd00::/48".parse().unwrap(),
        }
    }
}
