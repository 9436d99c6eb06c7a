//! Our own underlay addresses, as candidates for a punch (RFC 8445 words: host and server-reflexive candidates).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use peerup_path::{Group, MAX_CANDIDATES, dialable, group};
use peerup_types::{Multiaddr, NatMapping, PathId, PeerId, Protocol};

use crate::observed::Observed;

#[derive(Debug, Default)]
pub struct OwnAddresses {
    /// Configured by the operator, for hosts behind 1:1 NAT.
    external: Vec<Multiaddr>,
    /// What the router forwards to us.
    mapped: Vec<Multiaddr>,
    /// Listen addresses per interface, as the swarm reports them.
    host: BTreeSet<Multiaddr>,
    observed: Observed,
}

impl OwnAddresses {
    pub fn new(external: Vec<Multiaddr>) -> Self {
        Self { external, ..Self::default() }
    }

    pub fn set_external(&mut self, external: Vec<Multiaddr>) {
        self.external = external;
    }

    pub fn listening(&mut self, address: Multiaddr) {
        if dialable(&address) && self.host.len() < 4 * MAX_CANDIDATES {
            self.host.insert(address);
        }
    }

    pub fn expired(&mut self, address: &Multiaddr) {
        self.host.remove(address);
    }

    /// Replaces what the router forwards to us; `true` when it is news.
    pub fn mapped(&mut self, mapped: Vec<Multiaddr>) -> bool {
        let usable: Vec<Multiaddr> = mapped.into_iter().filter(dialable).take(MAX_CANDIDATES).collect();
        let news = self.mapped != usable;
        self.mapped = usable;
        news
    }

    /// Takes what `relay` observed on a connection; `true` when it is news.
    pub fn observed(&mut self, relay: PeerId, path: PathId, address: &Multiaddr) -> bool {
        self.observed.add(relay, path, address)
    }

    pub fn forget_relay(&mut self, relay: &PeerId) {
        self.observed.forget(relay);
    }

    pub fn closed(&mut self, path: PathId) {
        self.observed.closed(path);
    }

    /// The host may be somewhere else.
    pub fn moved(&mut self) {
        self.observed.moved();
    }

    /// The best few: what the operator said, what NATs map, then what interfaces have.
    pub fn candidates(&self) -> Vec<Multiaddr> {
        let mut seen = BTreeSet::new();
        let outside = self.external.iter().chain(&self.mapped).chain(self.observed.addresses());
        let all = outside.chain(&self.host);
        all.filter(|address| seen.insert(*address)).take(MAX_CANDIDATES).cloned().collect()
    }

    /// Whether this host listens for QUIC and for TCP on an address that others can send to.
    pub fn has_both_transports(&self) -> bool {
        let any = |tcp: bool| self.host.iter().filter_map(group).any(|group| group.is_tcp() == tcp);
        any(true) && any(false)
    }

    /// What the operator said, and what the router forwards where it has an address of the internet itself.
    pub(crate) fn external(&self) -> impl Iterator<Item = &Multiaddr> {
        self.external.iter().chain(self.mapped.iter().filter(|address| is_global(address)))
    }

    /// Listen addresses with an IP address that an observer saw: nothing translates between them.
    pub(crate) fn public(&self) -> impl Iterator<Item = &Multiaddr> {
        let same_ip = |a: &Multiaddr, b: &Multiaddr| a.iter().next() == b.iter().next();
        self.host.iter().filter(move |own| self.observed.addresses().any(|seen| same_ip(own, seen)))
    }

    /// Whether an interface has the IP address of `address`: nothing translates on the way there.
    pub(crate) fn is_own_ip(&self, address: &Multiaddr) -> bool {
        let ip = ip_of(address);
        ip.is_some() && self.host.iter().any(|own| ip_of(own) == ip)
    }

    pub fn observed_addresses(&self) -> impl Iterator<Item = &Multiaddr> {
        self.observed.addresses()
    }

    /// Internet addresses of this host's interfaces, of one family, each once.
    pub fn globals(&self, v6: bool) -> BTreeSet<IpAddr> {
        let global = self.host.iter().filter(|address| is_global(address));
        global.filter_map(ip_of).filter(|ip| ip.is_ipv6() == v6).collect()
    }

    /// How our NAT maps ports, from what several relays saw of one socket: the same port for all of them, or another
    /// one for each.
    pub fn mapping(&self) -> NatMapping {
        let mapped =
            self.observed.iter().filter(|(group, address)| *group == Group::QuicV4 && is_global(address));
        let seen: Vec<&Multiaddr> = mapped.map(|(_, address)| address).collect();
        // A host may have several ways to the internet; only ports of one address can be compared.
        let same_ip = |a: &Multiaddr, b: &Multiaddr| a.iter().next() == b.iter().next();
        let mut pairs = seen
            .iter()
            .enumerate()
            .flat_map(|(index, one)| seen[..index].iter().map(move |other| (*one, *other)))
            .filter(|(one, other)| same_ip(one, other))
            .peekable();
        if pairs.peek().is_none() {
            NatMapping::Unknown
        } else if pairs.all(|(one, other)| one == other) {
            NatMapping::EndpointIndependent
        } else {
            NatMapping::AddressAndPortDependent
        }
    }

    pub fn host(&self) -> impl Iterator<Item = &Multiaddr> {
        self.host.iter()
    }
}

/// Whether `address` is routed on the internet, which says nothing about who lets packets to it pass.
pub(crate) fn is_global(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => !ip.is_private() && !is_shared(ip),
        Some(Protocol::Ip6(ip)) => ip.segments()[0] & 0xe000 == 0x2000,
        _ => false,
    }
}

fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// RFC 6598: the space of carrier-grade NATs.
fn is_shared(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn mapped_addresses_come_before_interface_addresses_and_none_stands_twice() {
        let mut own = OwnAddresses::new(vec![addr("/ip4/203.0.113.9/tcp/4001")]);
        own.listening(addr("/ip4/192.168.1.5/udp/4001/quic-v1"));
        own.listening(addr("/ip4/127.0.0.1/udp/4001/quic-v1"));
        let mapped = addr("/ip4/198.51.100.7/udp/14001/quic-v1");
        assert!(own.observed(PeerId::random(), PathId(1), &mapped));
        own.observed(PeerId::random(), PathId(2), &mapped);
        let expected = [addr("/ip4/203.0.113.9/tcp/4001"), mapped, addr("/ip4/192.168.1.5/udp/4001/quic-v1")];
        assert_eq!(own.candidates(), expected);
    }

    #[test]
    fn what_the_router_forwards_is_offered_until_it_stops() {
        let mut own = OwnAddresses::default();
        own.listening(addr("/ip4/192.168.1.5/udp/4001/quic-v1"));
        let mapped = addr("/ip4/198.51.100.7/udp/4001/quic-v1");
        assert!(own.mapped(vec![mapped.clone(), addr("/ip4/127.0.0.1/tcp/1")]));
        assert!(!own.mapped(vec![mapped.clone()]));
        assert_eq!(own.candidates(), [mapped, addr("/ip4/192.168.1.5/udp/4001/quic-v1")]);
        assert!(own.mapped(Vec::new()));
        assert_eq!(own.candidates().len(), 1);
    }
}
