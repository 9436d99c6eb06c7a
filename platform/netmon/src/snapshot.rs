//! The picture of a network that matters to paths, and the difference of two.
//!
//! Pure: rows as the kernel lists them go in, what counts stays, what differs comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use crate::MonitorOptions;

/// What differs from the last change that was reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkChange {
    /// In order, without duplicates; likewise the removed ones.
    pub addresses_added: Vec<IpAddr>,
    pub addresses_removed: Vec<IpAddr>,
    /// A link with addresses or a default route came, went, or had its carrier interrupted.
    pub links_changed: bool,
    pub default_route_changed: bool,
}

impl NetworkChange {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Up, and able to carry packets (IFF_UP, IFF_RUNNING).
    pub(crate) running: bool,
    /// How often its carrier has come up since the link was made.
    pub(crate) carrier_ups: u32,
    /// Made of packets that travel through another link.
    pub(crate) tunnel: bool,
}

#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) link: u32,
    pub(crate) ip: IpAddr,
    /// Not (or not yet) known to be this host's alone (RFC 4862 §5.4).
    pub(crate) unconfirmed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DefaultRoute {
    /// `0.0.0.0/0`, `::/0`, or one half of either.
    pub(crate) destination: (IpAddr, u8),
    pub(crate) metric: u32,
    pub(crate) hops: BTreeSet<Hop>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hop {
    pub(crate) link: u32,
    pub(crate) gateway: Option<IpAddr>,
}

/// The longest prefix of a route that counts as a default route.
pub(crate) const LONGEST_DEFAULT: u8 = 1;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    links: BTreeMap<u32, u32>,
    addresses: BTreeSet<IpAddr>,
    default_routes: BTreeSet<DefaultRoute>,
}

impl Snapshot {
    /// Keeps what counts. An address or hop whose link is not listed came up after the links were read; the notice
    /// about it leads to another reading.
    pub(crate) fn new(
        links: &[Link],
        addresses: &[Address],
        default_routes: Vec<DefaultRoute>,
        options: &MonitorOptions,
    ) -> Self {
        let counts = |link: &&Link| link.running && !options.ignore_interfaces.contains(&link.name);
        let running: BTreeMap<u32, u32> =
            links.iter().filter(counts).map(|link| (link.index, link.carrier_ups)).collect();
        let on_running = |address: &&Address| running.contains_key(&address.link) && is_wanted(address);
        let addresses: Vec<&Address> = addresses.iter().filter(on_running).collect();
        let default_routes: BTreeSet<DefaultRoute> =
            default_routes.into_iter().filter_map(|route| route.through(&running)).collect();
        let hops = default_routes.iter().flat_map(|route| &route.hops);
        let used: BTreeSet<u32> =
            addresses.iter().map(|address| address.link).chain(hops.map(|hop| hop.link)).collect();
        Self {
            addresses: addresses.iter().map(|address| address.ip).collect(),
            links: running.into_iter().filter(|(index, _)| used.contains(index)).collect(),
            default_routes,
        }
    }

    /// What has to happen to `self` to become `new`.
    pub(crate) fn diff(&self, new: &Self) -> NetworkChange {
        NetworkChange {
            addresses_added: new.addresses.difference(&self.addresses).copied().collect(),
            addresses_removed: self.addresses.difference(&new.addresses).copied().collect(),
            links_changed: self.links != new.links,
            default_route_changed: self.default_routes != new.default_routes,
        }
    }
}

impl DefaultRoute {
    fn through(mut self, running: &BTreeMap<u32, u32>) -> Option<Self> {
        self.hops.retain(|hop| running.contains_key(&hop.link));
        (!self.hops.is_empty()).then_some(self)
    }
}

pub(crate) fn is_wanted(address: &Address) -> bool {
    !address.unconfirmed
        && match address.ip {
            IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
            IpAddr::V6(v6) => !v6.is_loopback() && !is_link_local(v6) && !v6.is_unspecified(),
        }
}

/// RFC 4291 §2.5.6: fe80::/10.
fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETH0: u32 = 2;
    const WLAN0: u32 = 3;
    const OWN: u32 = 9;

    #[test]
    fn equal_pictures_show_no_change() {
        let change = lan().snapshot().diff(&lan().snapshot());
        assert!(change.is_empty(), "{change:?}");
    }

    #[test]
    fn private_shared_and_global_addresses_count() {
        let counted = ["10.1.2.3", "100.64.0.9", "192.0.2.1", "2001:db8::1", "fd00::1"];
        let change = Host::default().snapshot().diff(&host_with(&counted).snapshot());
        assert_eq!(change.addresses_added, ips(&counted));
        assert!(change.links_changed && change.addresses_removed.is_empty() && !change.default_route_changed);
    }

    #[test]
    fn loopback_link_local_and_unconfirmed_addresses_do_not_count() {
        let mut host = host_with(&["127.0.0.1", "169.254.1.1", "::1", "fe80::1", "febf::1", "0.0.0.0"]);
        host.addresses.push(Address { link: ETH0, ip: ip("2001:db8::2"), unconfirmed: true });
        assert_eq!(host.snapshot(), Snapshot::default());
    }

    #[test]
    fn an_address_that_moves_to_another_link_is_a_change_of_links_only() {
        let mut moved = lan();
        moved.addresses[0].link = WLAN0;
        moved.routes.clear();
        let mut before = lan();
        before.routes.clear();
        let change = before.snapshot().diff(&moved.snapshot());
        assert_eq!(change, NetworkChange { links_changed: true, ..NetworkChange::default() });
    }

    #[test]
    fn what_is_on_a_link_that_does_not_run_does_not_count() {
        let mut down = lan();
        down.links[0].running = false;
        let change = lan().snapshot().diff(&down.snapshot());
        assert_eq!(change.addresses_removed, ips(&["192.168.1.2"]));
        assert!(change.links_changed && change.default_route_changed && change.addresses_added.is_empty());
    }

    #[test]
    fn an_interrupted_carrier_is_a_change_although_everything_is_back() {
        let mut flapped = lan();
        flapped.links[0].carrier_ups += 1;
        let change = lan().snapshot().diff(&flapped.snapshot());
        assert_eq!(change, NetworkChange { links_changed: true, ..NetworkChange::default() });
    }

    #[test]
    fn a_link_without_addresses_and_routes_does_not_count() {
        let mut container = lan();
        container.links.push(link(77, "veth1a2b"));
        assert!(lan().snapshot().diff(&container.snapshot()).is_empty());
    }

    #[test]
    fn our_own_interface_does_not_count() {
        let mut own = lan();
        own.addresses.push(Address { link: OWN, ip: ip("10.64.0.1"), unconfirmed: false });
        own.routes.push(route("0.0.0.0", 1, OWN, None));
        assert!(lan().snapshot().diff(&own.snapshot()).is_empty());
        own.links[2].name = "tun7".into();
        assert!(!lan().snapshot().diff(&own.snapshot()).is_empty());
    }

    #[test]
    fn gateway_metric_and_link_make_a_default_route() {
        let another_gateway = route("0.0.0.0", 0, ETH0, Some("192.168.1.254"));
        let another_link = route("0.0.0.0", 0, WLAN0, Some("192.168.1.1"));
        let another_metric = DefaultRoute { metric: 600, ..lan().routes[0].clone() };
        for other in [another_gateway, another_link, another_metric] {
            let changed = Host { routes: vec![other], ..lan() };
            assert!(lan().snapshot().diff(&changed.snapshot()).default_route_changed);
        }
    }

    #[test]
    fn a_route_over_several_links_loses_those_that_do_not_run() {
        let mut both = lan();
        both.routes[0].hops.insert(Hop { link: WLAN0, gateway: None });
        assert!(lan().snapshot().diff(&both.snapshot()).default_route_changed);
        both.links[1].running = false;
        assert!(!lan().snapshot().diff(&both.snapshot()).default_route_changed);
    }

    #[test]
    fn the_difference_there_and_back_mirrors() {
        let (lan, roamed) = (lan().snapshot(), host_with(&["10.0.0.5"]).snapshot());
        let (there, back) = (lan.diff(&roamed), roamed.diff(&lan));
        assert_eq!(there.addresses_added, back.addresses_removed);
        assert_eq!(there.addresses_removed, back.addresses_added);
        assert!(there.default_route_changed && back.default_route_changed);
    }

    struct Host {
        links: Vec<Link>,
        addresses: Vec<Address>,
        routes: Vec<DefaultRoute>,
    }

    impl Default for Host {
        fn default() -> Self {
            let links = vec![link(ETH0, "eth0"), link(WLAN0, "wlan0"), link(OWN, "peerup0")];
            Self { links, addresses: Vec::new(), routes: Vec::new() }
        }
    }

    impl Host {
        fn snapshot(&self) -> Snapshot {
            let options =
                MonitorOptions { ignore_interfaces: vec!["peerup0".into()], ..MonitorOptions::default() };
            Snapshot::new(&self.links, &self.addresses, self.routes.clone(), &options)
        }
    }

    fn lan() -> Host {
        Host { routes: vec![route("0.0.0.0", 0, ETH0, Some("192.168.1.1"))], ..host_with(&["192.168.1.2"]) }
    }

    fn host_with(addresses: &[&str]) -> Host {
        let on_eth0 = |text: &&str| Address { link: ETH0, ip: ip(text), unconfirmed: false };
        Host { addresses: addresses.iter().map(on_eth0).collect(), ..Host::default() }
    }

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.into(), running: true, carrier_ups: 1, tunnel: false }
    }

    fn route(destination: &str, length: u8, link: u32, gateway: Option<&str>) -> DefaultRoute {
        let hops = BTreeSet::from([Hop { link, gateway: gateway.map(ip) }]);
        DefaultRoute { destination: (ip(destination), length), metric: 100, hops }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| ip(text)).collect()
    }
}
