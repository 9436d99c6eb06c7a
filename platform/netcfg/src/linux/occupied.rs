//! Which IPv4 prefixes the host uses already, and for what.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol, RouteType,
};

use super::netlink::Netlink;
use crate::range::Occupied;
use crate::{NetworkError, ROUTE_PROTOCOL};

/// Interface names by index.
type Names = BTreeMap<u32, String>;

/// Connected prefixes first: they are the better explanation where a route repeats them.
pub(super) async fn occupied(netlink: &Netlink, own_interface: &str) -> Result<Vec<Occupied>, NetworkError> {
    let failed = |what| move |source| NetworkError::Read { what, source };
    let links = netlink.links().await.map_err(failed("interfaces"))?;
    let addresses = netlink.addresses().await.map_err(failed("addresses"))?;
    let routes = netlink.v4_routes().await.map_err(failed("routes"))?;
    let names: Names = links.iter().filter_map(name).collect();
    let others = Others { names, own_interface };
    let connected = addresses.iter().flat_map(|address| others.connected(address));
    Ok(connected.chain(routes.iter().filter_map(|route| others.routed(route))).collect())
}

fn name(link: &LinkMessage) -> Option<(u32, String)> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some((link.header.index, name.clone())),
        _ => None,
    })
}

/// Sees the host without what is our own.
struct Others<'a> {
    names: Names,
    own_interface: &'a str,
}

impl Others<'_> {
    fn interface(&self, index: u32) -> &str {
        self.names.get(&index).map_or("?", String::as_str)
    }

    /// The prefix of an address, and the address itself where a point-to-point link has another one on its far
    /// end (IFA_LOCAL, IFA_ADDRESS).
    fn connected(&self, message: &AddressMessage) -> Vec<Occupied> {
        let interface = self.interface(message.header.index);
        if interface == self.own_interface {
            return Vec::new();
        }
        let prefix_of = |attribute: &AddressAttribute| match attribute {
            AddressAttribute::Address(IpAddr::V4(address)) => Some((*address, message.header.prefix_len)),
            AddressAttribute::Local(IpAddr::V4(address)) => Some((*address, 32)),
            _ => None,
        };
        let prefixes = message.attributes.iter().filter_map(prefix_of);
        prefixes
            .filter_map(|(address, len)| Ipv4Net::new(address, len).ok())
            .map(|prefix| Occupied {
                prefix: prefix.trunc(),
                owner: format!("{interface} {}", prefix.trunc()),
            })
            .collect()
    }

    fn routed(&self, message: &RouteMessage) -> Option<Occupied> {
        let route = Route::from(message);
        let interface = route.interface.map(|index| self.interface(index));
        let ours = interface == Some(self.own_interface) || route.is_our_unreachable;
        if ours || !route.in_main_table || is_default(route.prefix) {
            return None;
        }
        let gateway = route.gateway.map_or(String::new(), |gateway| format!(" via {gateway}"));
        let device = interface.map_or(String::new(), |interface| format!(" dev {interface}"));
        Some(Occupied { prefix: route.prefix, owner: format!("route {}{gateway}{device}", route.prefix) })
    }
}

/// 0.0.0.0/1 and 128.0.0.0/1 are how other VPNs override the default route without replacing it.
fn is_default(prefix: Ipv4Net) -> bool {
    prefix.prefix_len() <= 1
}

/// What matters here of a route.
struct Route {
    prefix: Ipv4Net,
    interface: Option<u32>,
    gateway: Option<Ipv4Addr>,
    in_main_table: bool,
    is_our_unreachable: bool,
}

impl From<&RouteMessage> for Route {
    fn from(message: &RouteMessage) -> Self {
        let header = &message.header;
        let mut destination = Ipv4Addr::UNSPECIFIED;
        let mut table = u32::from(header.table);
        let (mut interface, mut gateway) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::Oif(index) => interface = Some(*index),
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
                RouteAttribute::MultiPath(hops) => interface = hops.first().map(first_interface),
                _ => {}
            }
        }
        let prefix = Ipv4Net::new(destination, header.destination_prefix_length).unwrap_or_default();
        Self {
            prefix: prefix.trunc(),
            interface,
            gateway,
            in_main_table: table == u32::from(RouteHeader::RT_TABLE_MAIN),
            is_our_unreachable: header.kind == RouteType::Unreachable
                && header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL),
        }
    }
}

fn first_interface(hop: &RouteNextHop) -> u32 {
    hop.interface_index
}
