//! [`Reach`]: facts in, a [`Report`] out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use peerup_types::{Multiaddr, NatMapping, PathId};

use crate::{
    address::{Endpoint, Interface, Scope, Transport, endpoint, scope},
    grade::{self, Grade, PortMapping, Report},
    nat::{Filtering, Mapping, Sighting},
    probe::StunFindings,
};

/// Connections looked at; relays and the peers of a large network.
const MAX_SIGHTINGS: usize = 256;
/// Interfaces of a host with many containers; more are not looked at.
const MAX_INTERFACES: usize = 256;
/// Addresses that AutoNAT has tested.
const MAX_TESTED: usize = 64;
/// How long a relay may be reachable by TCP before silence on UDP means something. A QUIC dial gives up after five
/// seconds and is repeated.
const UDP_PATIENCE: Duration = Duration::from_secs(12);
/// Observers see a new network only after connections have moved to it.
const SETTLE: Duration = Duration::from_secs(10);

/// What is known of the network this host is on.
#[derive(Debug, Default)]
pub struct Reach {
    /// Advertised by the operator.
    external: Vec<Multiaddr>,
    force_private: bool,
    interfaces: Vec<Interface>,
    listening: BTreeSet<Endpoint>,
    sightings: BTreeMap<PathId, (Transport, Sighting)>,
    stun: Option<(u16, StunFindings)>,
    port_mapping: PortMapping,
    /// AutoNAT's verdict per address.
    tested: BTreeMap<Endpoint, bool>,
    /// Whether a connection over UDP, or a STUN answer, has shown that UDP passes here.
    udp_worked: bool,
    /// Open connections over UDP. One that outlives a change of networks shows that UDP passes in the new one: a dead
    /// one is closed sooner than [`UDP_PATIENCE`] ends.
    quic: BTreeSet<PathId>,
    /// Since when a relay that speaks QUIC too is connected by TCP, without anything over UDP.
    tcp_only_since: Option<Instant>,
    changed_at: Option<Instant>,
}

impl Reach {
    pub fn new(external: Vec<Multiaddr>, force_private: bool) -> Self {
        Self { external, force_private, ..Self::default() }
    }

    /// What the operator says, which may change.
    pub fn configure(&mut self, external: Vec<Multiaddr>, force_private: bool) {
        (self.external, self.force_private) = (external, force_private);
    }

    pub fn handle_interfaces(&mut self, mut interfaces: Vec<Interface>) {
        interfaces.truncate(MAX_INTERFACES);
        self.interfaces = interfaces;
    }

    pub fn handle_listening(&mut self, address: &Multiaddr) {
        self.listening.extend(endpoint(address));
    }

    pub fn handle_listen_expired(&mut self, address: &Multiaddr) {
        if let Some(endpoint) = endpoint(address) {
            self.listening.remove(&endpoint);
        }
    }

    /// A direct connection is up. `both` says that the other end is a relay that offers QUIC and TCP, so that a
    /// missing one means something.
    pub fn handle_opened(&mut self, path: PathId, remote: &Multiaddr, both: bool, now: Instant) {
        let Some(remote) = endpoint(remote) else { return };
        match remote.transport {
            Transport::Quic => {
                if self.quic.len() < MAX_SIGHTINGS {
                    self.quic.insert(path);
                }
                self.udp_worked = true;
                self.tcp_only_since = None;
            }
            Transport::Tcp if both && !self.udp_worked => {
                self.tcp_only_since.get_or_insert(now);
            }
            Transport::Tcp => {}
        }
    }

    /// identify finished on a direct connection that this host dialed: `observed` is how `remote` sees it. What an
    /// inbound connection shows is the address that was dialed, which says nothing about the mapping.
    pub fn handle_observed(&mut self, path: PathId, remote: &Multiaddr, observed: &Multiaddr) {
        let (Some(remote), Some(observed)) = (endpoint(remote), endpoint(observed)) else { return };
        let same = remote.transport == observed.transport && remote.at.is_ipv4() == observed.at.is_ipv4();
        // A hostile observer may say anything; addresses that nobody can have are not kept.
        if !same || observed.at.port() == 0 || scope(observed.at.ip()) == Scope::Link {
            return;
        }
        if self.sightings.len() < MAX_SIGHTINGS || self.sightings.contains_key(&path) {
            let sighting = Sighting { observer: remote.at, mapped: observed.at };
            self.sightings.insert(path, (remote.transport, sighting));
        }
    }

    pub fn handle_closed(&mut self, path: PathId) {
        self.sightings.remove(&path);
        self.quic.remove(&path);
    }

    /// STUN servers answered on a socket bound to `local_port`.
    pub fn handle_stun(&mut self, local_port: u16, findings: StunFindings) {
        if findings.answered > 0 {
            self.udp_worked = true;
            self.tcp_only_since = None;
        }
        self.stun = Some((local_port, findings));
    }

    pub fn handle_port_mapping(&mut self, mapping: PortMapping) {
        self.port_mapping = mapping;
    }

    pub fn port_mapping(&self) -> &PortMapping {
        &self.port_mapping
    }

    /// AutoNAT tested one of our addresses.
    pub fn handle_tested(&mut self, address: &Multiaddr, reachable: bool) {
        let Some(endpoint) = endpoint(address) else { return };
        // A relay dials only addresses from which we are connected to it, so its failure to dial another is no test.
        let seen_there = self.sightings.values().any(|(_, seen)| seen.mapped.ip() == endpoint.at.ip());
        if !reachable && !seen_there {
            return;
        }
        if self.tested.len() < MAX_TESTED || self.tested.contains_key(&endpoint) {
            self.tested.insert(endpoint, reachable);
        }
    }

    /// Another network, or the same one after a sleep: what was seen before says nothing about it.
    pub fn handle_network_changed(&mut self, now: Instant) {
        self.sightings.clear();
        self.tested.clear();
        self.stun = None;
        self.udp_worked = false;
        self.tcp_only_since = None;
        self.changed_at = Some(now);
    }

    /// Whether an address belongs to a tunnel other than by accident, and so is not offered to peers.
    pub fn is_tunnel(&self, ip: IpAddr) -> bool {
        self.interfaces.iter().any(|interface| interface.tunnel && interface.address == ip)
    }

    /// How the NAT maps IPv4 sockets: what peers that dial us have to know.
    pub fn mapping(&self) -> NatMapping {
        self.mapped(false).behaviour
    }

    pub fn report(&self, now: Instant) -> Report {
        let (v4, v6) = (self.mapped(false), self.mapped(true));
        let cgnat = grade::cgnat(&self.interfaces, &self.port_mapping, v4.external.map(|at| at.ip()));
        let blocked = self.tcp_only_since.is_some_and(|since| since + UDP_PATIENCE <= now);
        let udp =
            if self.udp_worked || !self.quic.is_empty() { Some(true) } else { blocked.then_some(false) };
        let mut report = Report {
            udp,
            v4,
            v6,
            filtering: self.filtering(),
            cgnat,
            port_mapping: self.port_mapping.clone(),
            interfaces: self.interfaces.clone(),
            reachable: None,
            stale: self.stale(now),
            grade: Grade::F,
            why: "",
        };
        report.reachable = self.reachable(&report);
        report.regrade();
        report
    }

    /// The listen socket as relays and peers see it counts before what STUN servers see of another socket; UDP counts
    /// before TCP, which is only looked at where UDP does not pass.
    fn mapped(&self, v6: bool) -> Mapping {
        let local: Vec<IpAddr> = self.interfaces.iter().map(|interface| interface.address).collect();
        let of_listen_socket = |transport: Transport| {
            let seen = self.sightings.values().filter(|(of, _)| *of == transport).map(|(_, seen)| *seen);
            let seen: Vec<Sighting> = seen.filter(|seen| seen.mapped.is_ipv6() == v6).collect();
            Mapping::of(&local, self.port(transport, v6), &seen)
        };
        let stun = self.stun.as_ref().map(|(port, findings)| {
            let seen = findings.sightings.iter().filter(|seen| seen.mapped.is_ipv6() == v6);
            Mapping::of(&local, *port, &seen.copied().collect::<Vec<_>>())
        });
        let all = [Some(of_listen_socket(Transport::Quic)), stun, Some(of_listen_socket(Transport::Tcp))];
        let all: Vec<Mapping> = all.into_iter().flatten().collect();
        let decided = all.iter().find(|mapping| mapping.behaviour != NatMapping::Unknown);
        let behaviour = decided.map_or(NatMapping::Unknown, |mapping| mapping.behaviour);
        let first = all.iter().find(|mapping| mapping.external.is_some()).copied().unwrap_or_default();
        Mapping { behaviour, ..first }
    }

    fn port(&self, transport: Transport, v6: bool) -> u16 {
        let ours = self.listening.iter().find(|own| own.transport == transport && own.at.is_ipv6() == v6);
        ours.map_or(0, |own| own.at.port())
    }

    /// What STUN servers found, or what AutoNAT's dial-back shows: it comes from an address that we are connected
    /// to and from another port.
    fn filtering(&self) -> Filtering {
        let stun = self.stun.as_ref().map_or(Filtering::Unknown, |(_, findings)| findings.filtering);
        if stun != Filtering::Unknown {
            return stun;
        }
        let udp4 = |tested: &&Endpoint| tested.transport == Transport::Quic && tested.at.is_ipv4();
        // Only the port that observers see is one that the NAT maps.
        let mapped = |tested: &&Endpoint| self.sightings.values().any(|(_, seen)| seen.mapped == tested.at);
        let behind_nat = |tested: &&Endpoint| !self.is_own(tested.at.ip()) && mapped(tested);
        let let_in = self.tested.iter().filter(|(address, _)| udp4(address) && behind_nat(address));
        match let_in.map(|(_, reachable)| *reachable).max() {
            Some(true) => Filtering::AddressDependent,
            Some(false) => Filtering::AddressAndPortDependent,
            None => Filtering::Unknown,
        }
    }

    /// AutoNAT's word on an address counts before the guess that an address which observers see unchanged is open.
    fn reachable(&self, report: &Report) -> Option<bool> {
        if self.force_private {
            return Some(false);
        }
        if self.tested.values().any(|reachable| *reachable) {
            return Some(true);
        }
        if grade::is_open(&report.port_mapping, report.cgnat) {
            return Some(true);
        }
        let untouched = |mapping: &Mapping| mapping.translated == Some(false);
        let seen = report.v4.translated.is_some() || report.v6.translated.is_some();
        let refused = !self.tested.is_empty();
        seen.then(|| !refused && (untouched(&report.v4) || untouched(&report.v6)))
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        self.interfaces.iter().any(|interface| interface.address == ip)
    }

    /// Addresses that the operator advertises, that no interface has, and under which nobody sees this host although
    /// somebody sees it under another one.
    fn stale(&self, now: Instant) -> Vec<Multiaddr> {
        if self.changed_at.is_some_and(|at| now < at + SETTLE) {
            return Vec::new();
        }
        let seen: BTreeSet<IpAddr> = self.sightings.values().map(|(_, seen)| seen.mapped.ip()).collect();
        let is_stale = |address: &&Multiaddr| {
            let Some(advertised) = endpoint(address).map(|endpoint| endpoint.at.ip()) else { return false };
            let looked = seen.iter().any(|ip| ip.is_ipv4() == advertised.is_ipv4());
            looked && !seen.contains(&advertised) && !self.is_own(advertised)
        };
        self.external.iter().filter(is_stale).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::now_for_tests;

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn home() -> Reach {
        let mut reach = Reach::default();
        let address = "192.168.1.5".parse().unwrap();
        reach.handle_interfaces(vec![Interface { name: "eth0".into(), address, tunnel: false }]);
        reach.handle_listening(&addr("/ip4/192.168.1.5/udp/25000/quic-v1"));
        reach.handle_listening(&addr("/ip4/192.168.1.5/tcp/25000"));
        reach
    }

    fn seen(reach: &mut Reach, path: u64, observer: &str, mapped: &str) {
        let remote = addr(&format!("/ip4/{observer}/udp/7777/quic-v1"));
        reach.handle_observed(
            PathId(path),
            &remote,
            &addr(&format!("/ip4/203.0.113.9/udp/{mapped}/quic-v1")),
        );
    }

    #[test]
    fn two_relays_that_see_one_port_make_the_mapping_endpoint_independent() {
        let mut reach = home();
        seen(&mut reach, 1, "198.51.100.1", "14001");
        assert_eq!(reach.mapping(), NatMapping::Unknown);
        seen(&mut reach, 2, "198.51.100.2", "14001");
        let report = reach.report(now_for_tests());
        assert_eq!(report.v4.behaviour, NatMapping::EndpointIndependent);
        assert_eq!((report.v4.translated, report.v4.keeps_port), (Some(true), Some(false)));
        assert_eq!((report.grade, report.reachable), (Grade::C, Some(false)));
    }

    #[test]
    fn two_relays_that_see_two_ports_make_it_symmetric_until_one_of_them_is_gone() {
        let mut reach = home();
        seen(&mut reach, 1, "198.51.100.1", "14001");
        seen(&mut reach, 2, "198.51.100.2", "14002");
        assert_eq!(reach.mapping(), NatMapping::AddressAndPortDependent);
        assert_eq!(reach.report(now_for_tests()).grade, Grade::D);
        reach.handle_closed(PathId(2));
        assert_eq!(reach.mapping(), NatMapping::Unknown);
    }

    #[test]
    fn quic_and_tcp_are_different_sockets_and_not_compared() {
        let mut reach = home();
        seen(&mut reach, 1, "198.51.100.1", "14001");
        let tcp = addr("/ip4/198.51.100.2/tcp/7777");
        reach.handle_observed(PathId(2), &tcp, &addr("/ip4/203.0.113.9/tcp/15555"));
        assert_eq!(reach.mapping(), NatMapping::Unknown);
        reach.handle_observed(PathId(3), &tcp, &addr("/ip4/203.0.113.9/udp/14001/quic-v1"));
        assert_eq!(reach.mapping(), NatMapping::Unknown, "an observer of TCP does not see UDP");
    }

    #[test]
    fn an_observer_that_tells_nonsense_is_not_believed() {
        let mut reach = home();
        let relay = addr("/ip4/198.51.100.1/udp/7777/quic-v1");
        for nonsense in [
            "/ip4/127.0.0.1/udp/1/quic-v1",
            "/ip4/203.0.113.9/udp/0/quic-v1",
            "/ip6/2001:db8::1/udp/1/quic-v1",
        ] {
            reach.handle_observed(PathId(1), &relay, &addr(nonsense));
        }
        assert_eq!(reach.report(now_for_tests()).v4, Mapping::default());
    }

    #[test]
    fn udp_is_blocked_when_a_relay_with_both_transports_stays_on_tcp() {
        let (mut reach, now) = (home(), now_for_tests());
        reach.handle_opened(PathId(1), &addr("/ip4/198.51.100.1/tcp/7777"), true, now);
        assert_eq!(reach.report(now + UDP_PATIENCE / 2).udp, None);
        assert_eq!(reach.report(now + UDP_PATIENCE).udp, Some(false));
        assert_eq!(reach.report(now + UDP_PATIENCE).grade, Grade::D);
        reach.handle_opened(PathId(2), &addr("/ip4/198.51.100.1/udp/7777/quic-v1"), true, now + UDP_PATIENCE);
        assert_eq!(reach.report(now + UDP_PATIENCE * 2).udp, Some(true));
    }

    #[test]
    fn a_relay_that_has_only_tcp_says_nothing_about_udp() {
        let (mut reach, now) = (home(), now_for_tests());
        reach.handle_opened(PathId(1), &addr("/ip4/198.51.100.1/tcp/7777"), false, now);
        assert_eq!(reach.report(now + UDP_PATIENCE * 2).udp, None);
    }

    #[test]
    fn stun_decides_where_relays_cannot_and_tells_how_the_nat_filters() {
        let mut reach = home();
        seen(&mut reach, 1, "198.51.100.1", "14001");
        let sighting = |observer: &str, mapped: &str| Sighting {
            observer: observer.parse().unwrap(),
            mapped: mapped.parse().unwrap(),
        };
        let sightings = vec![
            sighting("198.51.100.8:3478", "203.0.113.9:16001"),
            sighting("198.51.100.9:3478", "203.0.113.9:16002"),
        ];
        let filtering = Filtering::AddressAndPortDependent;
        reach.handle_stun(40000, StunFindings { asked: 2, answered: 2, sightings, filtering, rtt: None });
        let report = reach.report(now_for_tests());
        assert_eq!(report.v4.behaviour, NatMapping::AddressAndPortDependent);
        assert_eq!(report.v4.external, Some("203.0.113.9:14001".parse().unwrap()), "of the listen socket");
        assert_eq!((report.filtering, report.udp), (filtering, Some(true)));
    }

    #[test]
    fn autonat_says_whether_a_nat_lets_new_ports_in_and_whether_a_firewall_does() {
        let mut reach = home();
        seen(&mut reach, 1, "198.51.100.1", "25000");
        let mapped = addr("/ip4/203.0.113.9/udp/25000/quic-v1");
        reach.handle_tested(&mapped, false);
        assert_eq!(reach.report(now_for_tests()).filtering, Filtering::AddressAndPortDependent);
        reach.handle_tested(&mapped, true);
        let report = reach.report(now_for_tests());
        assert_eq!((report.filtering, report.reachable), (Filtering::AddressDependent, Some(true)));

        let mut public = Reach::default();
        let address = "203.0.113.9".parse().unwrap();
        public.handle_interfaces(vec![Interface { name: "eth0".into(), address, tunnel: false }]);
        seen(&mut public, 1, "198.51.100.1", "25000");
        assert_eq!(public.report(now_for_tests()).reachable, Some(true));
        public.handle_tested(&mapped, false);
        assert_eq!(
            public.report(now_for_tests()).reachable,
            Some(false),
            "a firewall drops what is not asked for"
        );
    }

    #[test]
    fn the_operator_may_insist_on_being_private() {
        let mut reach = Reach::new(Vec::new(), true);
        reach.handle_tested(&addr("/ip4/203.0.113.9/udp/1/quic-v1"), true);
        assert_eq!(reach.report(now_for_tests()).reachable, Some(false));
    }

    #[test]
    fn an_advertised_address_is_stale_when_observers_see_another_one() {
        let stale = addr("/ip4/198.51.100.77/udp/25000/quic-v1");
        let good = addr("/ip4/203.0.113.9/udp/25000/quic-v1");
        let mut reach = Reach::new(vec![stale.clone(), good], false);
        let now = now_for_tests();
        assert!(reach.report(now).stale.is_empty(), "nobody looked");
        seen(&mut reach, 1, "198.51.100.1", "25000");
        assert_eq!(reach.report(now).stale, [stale]);
        reach.handle_network_changed(now);
        seen(&mut reach, 1, "198.51.100.1", "25000");
        assert!(reach.report(now).stale.is_empty(), "the network settles first");
        assert_eq!(reach.report(now + SETTLE).stale.len(), 1);
    }

    #[test]
    fn another_network_is_a_fresh_start() {
        let (mut reach, now) = (home(), now_for_tests());
        seen(&mut reach, 1, "198.51.100.1", "14001");
        seen(&mut reach, 2, "198.51.100.2", "14001");
        reach.handle_network_changed(now);
        assert_eq!(reach.mapping(), NatMapping::Unknown);
    }

    #[test]
    fn memory_is_bounded_whatever_observers_say() {
        let mut reach = home();
        for n in 0..10_000u64 {
            seen(&mut reach, n, "198.51.100.1", "14001");
            reach.handle_tested(&addr(&format!("/ip4/203.0.113.9/udp/{}/quic-v1", n % 60_000 + 1)), false);
        }
        assert_eq!((reach.sightings.len(), reach.tested.len()), (MAX_SIGHTINGS, MAX_TESTED));
    }
}
