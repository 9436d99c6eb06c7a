//! One letter for all of it, and the facts behind the letter.

use std::net::{IpAddr, SocketAddr};

use peerup_types::{Multiaddr, NatMapping};

use crate::{
    address::{Interface, Scope, scope},
    nat::{Filtering, Mapping},
};

/// How well others reach this host, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grade {
    /// A global IPv6 address.
    A,
    /// A global IPv4 address, a mapped port, or a NAT that lets answers from new ports in.
    B,
    /// A NAT that can be punched.
    C,
    /// Relayed with many peers: a carrier's NAT, a mapping that depends on the destination, or no UDP.
    D,
    /// No network.
    F,
}

impl Grade {
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
            Self::F => "F",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::A => "Excellent",
            Self::B => "Good",
            Self::C => "Fair",
            Self::D => "Poor",
            Self::F => "Offline",
        }
    }
}

/// Why a second NAT is believed to stand outside of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgnat {
    /// An interface of this host has an address of RFC 6598.
    Interface(IpAddr),
    /// The router's own outside address is not a global one.
    Router(IpAddr),
    /// The router's outside address is not the one that observers see.
    Elsewhere { router: IpAddr, seen: IpAddr },
}

/// What the router's port mapper (UPnP IGD, NAT-PMP, PCP) did for us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PortMapping {
    /// Switched off in the configuration, or nothing to map.
    #[default]
    Off,
    /// Asked, not answered yet.
    Searching,
    /// No router answered, or it refused.
    Unavailable { reason: String },
    Mapped {
        /// `pcp`, `nat-pmp` or `upnp`.
        protocol: &'static str,
        /// The router's outside address with the port given to us.
        udp: Option<SocketAddr>,
        tcp: Option<SocketAddr>,
        lease_s: u32,
    },
}

impl PortMapping {
    /// The outside address that the router reports.
    pub fn router(&self) -> Option<IpAddr> {
        match self {
            Self::Off | Self::Searching | Self::Unavailable { .. } => None,
            Self::Mapped { udp, tcp, .. } => udp.or(*tcp).map(|address| address.ip()),
        }
    }
}

/// What is known at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether UDP passes; `None` while nothing has shown it either way.
    pub udp: Option<bool>,
    pub v4: Mapping,
    pub v6: Mapping,
    pub filtering: Filtering,
    pub cgnat: Option<Cgnat>,
    pub port_mapping: PortMapping,
    pub interfaces: Vec<Interface>,
    /// Whether others can open connections to this host; `None` while nobody looked.
    pub reachable: Option<bool>,
    /// Advertised addresses that lead elsewhere.
    pub stale: Vec<Multiaddr>,
    pub grade: Grade,
    /// One sentence about the grade.
    pub why: &'static str,
}

impl Report {
    /// Grades again, after a fact was corrected by measurement.
    pub fn regrade(&mut self) {
        (self.grade, self.why) = grade(self);
    }
}

/// A port mapping that leads to the internet, as far as one can tell from here.
pub fn is_open(mapping: &PortMapping, cgnat: Option<Cgnat>) -> bool {
    cgnat.is_none() && mapping.router().is_some_and(|ip| scope(ip) == Scope::Global)
}

/// CGNAT from what the host, its router and observers say.
pub fn cgnat(interfaces: &[Interface], mapping: &PortMapping, seen: Option<IpAddr>) -> Option<Cgnat> {
    let own = |interface: &&Interface| !interface.tunnel && scope(interface.address) == Scope::Shared;
    if let Some(interface) = interfaces.iter().find(own) {
        return Some(Cgnat::Interface(interface.address));
    }
    let router = mapping.router()?;
    if scope(router) != Scope::Global {
        return Some(Cgnat::Router(router));
    }
    let seen = seen.filter(|seen| seen.is_ipv4() == router.is_ipv4() && *seen != router)?;
    Some(Cgnat::Elsewhere { router, seen })
}

/// The order of the questions is the order of precedence: IPv6, IPv4, the carrier's NAT, UDP, our NAT, anything.
pub fn grade(report: &Report) -> (Grade, &'static str) {
    let own = || report.interfaces.iter().filter(|interface| !interface.tunnel);
    let global = |v6: bool| own().any(|i| i.address.is_ipv6() == v6 && scope(i.address) == Scope::Global);
    if global(true) {
        return (Grade::A, "a global IPv6 address; direct paths with every peer that has one");
    }
    if global(false) {
        return (Grade::B, "a global IPv4 address; direct paths with most peers");
    }
    if report.cgnat.is_some() {
        return (Grade::D, "behind a carrier's NAT; direct paths with some peers, relays with the others");
    }
    if report.udp == Some(false) {
        return (Grade::D, "UDP does not pass; direct paths only where TCP can be punched");
    }
    if is_open(&report.port_mapping, report.cgnat) {
        return (Grade::B, "the router forwards a port; direct paths with most peers");
    }
    match (report.v4.behaviour, report.filtering) {
        (NatMapping::EndpointIndependent, Filtering::EndpointIndependent | Filtering::AddressDependent) => {
            (Grade::B, "behind an open NAT; direct paths with most peers")
        }
        (NatMapping::EndpointIndependent, _) => {
            (Grade::C, "behind a NAT that can be punched; direct paths with most peers")
        }
        (NatMapping::AddressDependent | NatMapping::AddressAndPortDependent, _) => {
            (Grade::D, "behind a symmetric NAT; direct paths with open peers, relays with the others")
        }
        (NatMapping::Unknown, _) if report.v4.external.is_some() => {
            (Grade::C, "behind a NAT; how it maps is not known yet")
        }
        (NatMapping::Unknown, _) if own().next().is_some() => {
            (Grade::D, "nobody outside has seen this host yet")
        }
        (NatMapping::Unknown, _) => (Grade::F, "no network"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare() -> Report {
        Report {
            udp: None,
            v4: Mapping::default(),
            v6: Mapping::default(),
            filtering: Filtering::Unknown,
            cgnat: None,
            port_mapping: PortMapping::Off,
            interfaces: Vec::new(),
            reachable: None,
            stale: Vec::new(),
            grade: Grade::F,
            why: "",
        }
    }

    fn interface(address: &str, tunnel: bool) -> Interface {
        Interface { name: "eth0".into(), address: address.parse().unwrap(), tunnel }
    }

    fn with(addresses: &[&str]) -> Report {
        Report { interfaces: addresses.iter().map(|address| interface(address, false)).collect(), ..bare() }
    }

    fn natted(behaviour: NatMapping, filtering: Filtering) -> Report {
        let external = Some("203.0.113.9:14001".parse().unwrap());
        let v4 = Mapping { behaviour, translated: Some(true), keeps_port: Some(false), external };
        Report { v4, filtering, ..with(&["192.168.1.5"]) }
    }

    fn mapped(external: &str) -> PortMapping {
        PortMapping::Mapped {
            protocol: "upnp",
            udp: Some(external.parse().unwrap()),
            tcp: None,
            lease_s: 3600,
        }
    }

    #[test]
    fn the_grade_follows_the_best_thing_that_is_known() {
        use {Filtering as F, NatMapping as M};
        let of = |report: Report| grade(&report).0;
        assert_eq!(of(bare()), Grade::F);
        assert_eq!(of(with(&["192.168.1.5"])), Grade::D);
        assert_eq!(of(with(&["192.168.1.5", "2001:db8::5"])), Grade::A);
        assert_eq!(of(with(&["203.0.113.5"])), Grade::B);
        assert_eq!(of(natted(M::EndpointIndependent, F::AddressAndPortDependent)), Grade::C);
        assert_eq!(of(natted(M::EndpointIndependent, F::Unknown)), Grade::C);
        assert_eq!(of(natted(M::EndpointIndependent, F::AddressDependent)), Grade::B);
        assert_eq!(of(natted(M::EndpointIndependent, F::EndpointIndependent)), Grade::B);
        assert_eq!(of(natted(M::Unknown, F::Unknown)), Grade::C);
        assert_eq!(of(natted(M::AddressAndPortDependent, F::EndpointIndependent)), Grade::D);
        assert_eq!(of(natted(M::AddressDependent, F::Unknown)), Grade::D);
    }

    #[test]
    fn a_carriers_nat_and_blocked_udp_outweigh_a_good_nat_but_not_a_global_address() {
        let good = natted(NatMapping::EndpointIndependent, Filtering::EndpointIndependent);
        let cgnat = Some(Cgnat::Router("100.64.0.2".parse().unwrap()));
        assert_eq!(grade(&Report { cgnat, ..good.clone() }).0, Grade::D);
        assert_eq!(grade(&Report { udp: Some(false), ..good.clone() }).0, Grade::D);
        assert_eq!(grade(&Report { cgnat, udp: Some(false), ..with(&["2001:db8::5"]) }).0, Grade::A);
        let port_mapping = mapped("203.0.113.9:25000");
        assert_eq!(grade(&Report { port_mapping: port_mapping.clone(), ..good.clone() }).0, Grade::B);
        let symmetric = natted(NatMapping::AddressAndPortDependent, Filtering::Unknown);
        assert_eq!(grade(&Report { port_mapping, ..symmetric }).0, Grade::B);
    }

    #[test]
    fn the_address_of_a_tunnel_is_no_address_of_this_host() {
        let tunnel = Report { interfaces: vec![interface("2001:db8::7", true)], ..bare() };
        assert_eq!(grade(&tunnel).0, Grade::F);
        assert_eq!(cgnat(&[interface("100.101.102.103", true)], &PortMapping::Off, None), None);
    }

    #[test]
    fn a_second_nat_shows_in_three_ways() {
        let seen = Some("203.0.113.9".parse().unwrap());
        let of = |interfaces: &[Interface], mapping: &PortMapping| cgnat(interfaces, mapping, seen);
        assert!(matches!(
            of(&[interface("100.64.3.4", false)], &PortMapping::Off),
            Some(Cgnat::Interface(_))
        ));
        assert!(matches!(of(&[], &mapped("100.64.3.4:25000")), Some(Cgnat::Router(_))));
        assert!(matches!(of(&[], &mapped("10.1.2.3:25000")), Some(Cgnat::Router(_))));
        assert!(matches!(of(&[], &mapped("198.51.100.7:25000")), Some(Cgnat::Elsewhere { .. })));
        assert_eq!(of(&[], &mapped("203.0.113.9:25000")), None);
        assert_eq!(cgnat(&[], &mapped("198.51.100.7:25000"), None), None, "nobody outside has looked");
    }
}
