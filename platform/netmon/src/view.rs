//! The network at one moment: whose addresses, and which way out.

use std::net::{IpAddr, Ipv4Addr};

use crate::snapshot::{Address, DefaultRoute, Link, is_wanted};

/// What an address belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceAddress {
    pub interface: String,
    pub address: IpAddr,
    /// The link is a tunnel (TUN, WireGuard, GRE and their like): an overlay, ours or another one.
    pub tunnel: bool,
}

/// The IPv4 router of the default route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway {
    pub address: Ipv4Addr,
    /// This host's address on the link to it.
    pub local: Ipv4Addr,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkView {
    /// Of links that run, without loopback and link-local addresses; in order of name and address.
    pub addresses: Vec<InterfaceAddress>,
    /// `None` without an IPv4 default route, and where it leads into a tunnel.
    pub gateway: Option<Gateway>,
    /// Whether there is a default route at all.
    pub default_route: bool,
}

impl NetworkView {
    pub(crate) fn new(links: &[Link], addresses: &[Address], routes: &[DefaultRoute]) -> Self {
        let running = |index: u32| links.iter().find(|link| link.index == index && link.running);
        let named = |address: &Address| {
            let link = running(address.link)?;
            Some(InterfaceAddress { interface: link.name.clone(), address: address.ip, tunnel: link.tunnel })
        };
        let mut all: Vec<InterfaceAddress> =
            addresses.iter().filter(|a| is_wanted(a)).filter_map(named).collect();
        all.sort();
        all.dedup();
        Self { addresses: all, gateway: gateway(links, addresses, routes), default_route: !routes.is_empty() }
    }
}

/// The kernel prefers the longest prefix, then the smallest metric.
fn gateway(links: &[Link], addresses: &[Address], routes: &[DefaultRoute]) -> Option<Gateway> {
    let v4 = routes.iter().filter(|route| route.destination.0.is_ipv4());
    let best = v4.min_by_key(|route| (std::cmp::Reverse(route.destination.1), route.metric))?;
    best.hops.iter().find_map(|hop| {
        let link = links.iter().find(|link| link.index == hop.link && link.running && !link.tunnel)?;
        let Some(IpAddr::V4(address)) = hop.gateway else { return None };
        let local = addresses.iter().find_map(|own| match own.ip {
            IpAddr::V4(ip) if own.link == link.index => Some(ip),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })?;
        Some(Gateway { address, local })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::snapshot::Hop;

    fn link(index: u32, name: &str, tunnel: bool) -> Link {
        Link { index, name: name.into(), running: true, carrier_ups: 1, tunnel }
    }

    fn address(link: u32, ip: &str) -> Address {
        Address { link, ip: ip.parse().unwrap(), unconfirmed: false }
    }

    fn route(length: u8, metric: u32, link: u32, gateway: &str) -> DefaultRoute {
        let hops = BTreeSet::from([Hop { link, gateway: Some(gateway.parse().unwrap()) }]);
        DefaultRoute { destination: (Ipv4Addr::UNSPECIFIED.into(), length), metric, hops }
    }

    #[test]
    fn the_router_is_that_of_the_best_default_route_with_our_address_beside_it() {
        let links = [link(2, "eth0", false), link(3, "wlan0", false)];
        let addresses = [address(2, "192.168.1.5"), address(3, "192.168.9.5"), address(2, "fe80::1")];
        let routes = [route(0, 600, 3, "192.168.9.1"), route(0, 100, 2, "192.168.1.1")];
        let view = NetworkView::new(&links, &addresses, &routes);
        let gateway =
            Gateway { address: "192.168.1.1".parse().unwrap(), local: "192.168.1.5".parse().unwrap() };
        assert_eq!(view.gateway, Some(gateway));
        assert_eq!(view.addresses.len(), 2, "link-local addresses are nobody's business");
    }

    #[test]
    fn a_way_out_through_a_tunnel_has_no_router_to_ask() {
        let links = [link(2, "eth0", false), link(9, "wg0", true)];
        let addresses = [address(2, "192.168.1.5"), address(9, "10.9.0.2")];
        let routes = [route(0, 100, 2, "192.168.1.1"), route(1, 0, 9, "10.9.0.1")];
        let view = NetworkView::new(&links, &addresses, &routes);
        assert_eq!((view.gateway, view.default_route), (None, true));
        assert!(view.addresses.iter().find(|a| a.interface == "wg0").unwrap().tunnel);
    }

    #[test]
    fn what_does_not_run_is_not_there() {
        let down = Link { running: false, ..link(2, "eth0", false) };
        let view = NetworkView::new(&[down], &[address(2, "192.168.1.5")], &[]);
        assert_eq!(view, NetworkView::default());
    }
}
