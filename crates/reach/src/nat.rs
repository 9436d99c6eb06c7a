//! How a NAT maps and filters, in the words of RFC 4787.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
};

use peerup_types::NatMapping;

/// How one observer saw one socket of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sighting {
    /// The address we sent to.
    pub observer: SocketAddr,
    /// The address it saw us under.
    pub mapped: SocketAddr,
}

/// Which packets from outside a NAT lets in to a socket that has sent something (RFC 4787 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Filtering {
    #[default]
    Unknown,
    /// From anybody.
    EndpointIndependent,
    /// From addresses that the socket has sent to, whatever the port.
    AddressDependent,
    /// From addresses and ports that the socket has sent to.
    AddressAndPortDependent,
}

impl Filtering {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
        }
    }
}

impl fmt::Display for Filtering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the sightings of one socket add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mapping {
    pub behaviour: NatMapping,
    /// Whether an address was changed on the way; `None` while nobody looked.
    pub translated: Option<bool>,
    /// Whether the outside port is the inside one; `None` while nobody looked.
    pub keeps_port: Option<bool>,
    /// Where observers saw the socket; the smallest of several.
    pub external: Option<SocketAddr>,
}

impl Mapping {
    /// `local` are this host's addresses, `port` the port of the socket that all `sightings` are of.
    ///
    /// Two observers at different addresses are needed for a verdict. Differing ports at observers of different
    /// addresses do not tell an address-dependent mapping from an address-and-port-dependent one; without an
    /// observer that has two ports the latter is assumed, which is what NATs do that are not endpoint-independent.
    pub fn of(local: &[IpAddr], port: u16, sightings: &[Sighting]) -> Self {
        let distinct: BTreeSet<Sighting> = sightings.iter().copied().collect();
        let Some(first) = distinct.first() else { return Self::default() };
        let translated = distinct.iter().any(|seen| !local.contains(&seen.mapped.ip()));
        let keeps_port = distinct.iter().all(|seen| seen.mapped.port() == port);
        Self {
            behaviour: if translated { compare(&distinct) } else { NatMapping::EndpointIndependent },
            translated: Some(translated),
            keeps_port: Some(keeps_port),
            external: distinct.iter().map(|seen| seen.mapped).min().or(Some(first.mapped)),
        }
    }
}

fn compare(seen: &BTreeSet<Sighting>) -> NatMapping {
    let pairs = || seen.iter().flat_map(|a| seen.iter().map(move |b| (a, b)));
    let same_host = |a: &Sighting, b: &Sighting| a.observer.ip() == b.observer.ip();
    let mut by_port =
        pairs().filter(|(a, b)| same_host(a, b) && a.observer.port() != b.observer.port()).peekable();
    let port_tested = by_port.peek().is_some();
    if by_port.any(|(a, b)| a.mapped != b.mapped) {
        return NatMapping::AddressAndPortDependent;
    }
    let mut by_address = pairs().filter(|(a, b)| !same_host(a, b)).peekable();
    if by_address.peek().is_none() {
        return NatMapping::Unknown;
    }
    match (by_address.any(|(a, b)| a.mapped != b.mapped), port_tested) {
        (false, _) => NatMapping::EndpointIndependent,
        (true, true) => NatMapping::AddressDependent,
        (true, false) => NatMapping::AddressAndPortDependent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "192.168.1.5";
    const PORT: u16 = 25000;

    fn of(sightings: &[(&str, &str)]) -> Mapping {
        let sighting = |(observer, mapped): &(&str, &str)| Sighting {
            observer: observer.parse().unwrap(),
            mapped: mapped.parse().unwrap(),
        };
        let all: Vec<Sighting> = sightings.iter().map(sighting).collect();
        Mapping::of(&[LOCAL.parse().unwrap()], PORT, &all)
    }

    #[test]
    fn nobody_looked_so_nothing_is_known() {
        assert_eq!(of(&[]), Mapping::default());
        assert_eq!(of(&[]).behaviour, NatMapping::Unknown);
    }

    #[test]
    fn one_observer_sees_that_there_is_a_nat_but_not_how_it_maps() {
        let one = of(&[("198.51.100.1:7777", "203.0.113.9:25000")]);
        assert_eq!(
            (one.behaviour, one.translated, one.keeps_port),
            (NatMapping::Unknown, Some(true), Some(true))
        );
        assert_eq!(one.external, Some("203.0.113.9:25000".parse().unwrap()));
    }

    #[test]
    fn an_address_of_our_own_seen_from_outside_means_that_nothing_translates() {
        let none = of(&[("198.51.100.1:7777", "192.168.1.5:25000")]);
        assert_eq!((none.behaviour, none.translated), (NatMapping::EndpointIndependent, Some(false)));
    }

    #[test]
    fn one_mapping_for_two_addresses_is_endpoint_independent_with_the_port_kept_or_shifted() {
        let kept =
            of(&[("198.51.100.1:7777", "203.0.113.9:25000"), ("198.51.100.2:7777", "203.0.113.9:25000")]);
        assert_eq!((kept.behaviour, kept.keeps_port), (NatMapping::EndpointIndependent, Some(true)));
        let shifted =
            of(&[("198.51.100.1:7777", "203.0.113.9:14001"), ("198.51.100.2:7777", "203.0.113.9:14001")]);
        assert_eq!((shifted.behaviour, shifted.keeps_port), (NatMapping::EndpointIndependent, Some(false)));
    }

    #[test]
    fn two_ports_of_one_address_that_agree_leave_address_dependence_open() {
        let one_host =
            of(&[("198.51.100.1:3478", "203.0.113.9:14001"), ("198.51.100.1:3479", "203.0.113.9:14001")]);
        assert_eq!(one_host.behaviour, NatMapping::Unknown);
    }

    #[test]
    fn a_mapping_that_changes_with_the_address_only_is_address_dependent() {
        let seen = of(&[
            ("198.51.100.1:3478", "203.0.113.9:14001"),
            ("198.51.100.1:3479", "203.0.113.9:14001"),
            ("198.51.100.2:3478", "203.0.113.9:14002"),
        ]);
        assert_eq!(seen.behaviour, NatMapping::AddressDependent);
    }

    #[test]
    fn a_mapping_that_changes_with_the_port_is_address_and_port_dependent() {
        let seen =
            of(&[("198.51.100.1:3478", "203.0.113.9:14001"), ("198.51.100.1:3479", "203.0.113.9:14002")]);
        assert_eq!(seen.behaviour, NatMapping::AddressAndPortDependent);
    }

    #[test]
    fn without_a_second_port_the_worse_of_two_dependent_mappings_is_assumed() {
        let seen =
            of(&[("198.51.100.1:7777", "203.0.113.9:14001"), ("198.51.100.2:7777", "203.0.113.9:14002")]);
        assert_eq!(seen.behaviour, NatMapping::AddressAndPortDependent);
        let pooled =
            of(&[("198.51.100.1:7777", "203.0.113.9:25000"), ("198.51.100.2:7777", "203.0.113.8:25000")]);
        assert_eq!(pooled.behaviour, NatMapping::AddressAndPortDependent, "arbitrary pooling");
    }

    #[test]
    fn one_sighting_told_twice_is_one() {
        let twice =
            of(&[("198.51.100.1:7777", "203.0.113.9:14001"), ("198.51.100.1:7777", "203.0.113.9:14001")]);
        assert_eq!(twice.behaviour, NatMapping::Unknown);
    }
}
