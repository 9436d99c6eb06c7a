//! Network address translators in the words of RFC 4787.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::{Duration, Instant},
};

/// How long a TCP mapping lasts without traffic (RFC 5382 REQ-5); the UDP time is configured.
const TCP_EXPIRY: Duration = Duration::from_secs(7440);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    Udp,
    Tcp,
}

/// RFC 4787 §4.1 for mapping, §5 for filtering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    EndpointIndependent,
    AddressAndPortDependent,
}

#[derive(Debug, Clone, Copy)]
pub struct NatConfig {
    pub mapping: Behaviour,
    pub filtering: Behaviour,
    /// Whether the external port equals the internal one where it is free (RFC 4787 §4.2.1).
    pub preserves_ports: bool,
    pub udp_expiry: Duration,
}

impl NatConfig {
    /// A good home router: one mapping per socket, strangers are filtered.
    pub const HOME: Self = Self {
        mapping: Behaviour::EndpointIndependent,
        filtering: Behaviour::AddressAndPortDependent,
        preserves_ports: true,
        udp_expiry: Duration::from_secs(120),
    };
    /// The same with external ports that differ from the internal ones.
    pub const SHIFTING: Self = Self { preserves_ports: false, ..Self::HOME };
    /// A new mapping per destination: often called symmetric.
    pub const SYMMETRIC: Self =
        Self { mapping: Behaviour::AddressAndPortDependent, preserves_ports: false, ..Self::HOME };
}

/// What makes two packets share a mapping: the destination counts only where mapping depends on it.
type Key = (Transport, SocketAddr, Option<SocketAddr>);

#[derive(Debug)]
struct Mapping {
    port: u16,
    /// Where packets went, and when the last one did: filtering lets answers in from there.
    remotes: BTreeMap<SocketAddr, Instant>,
    used: Instant,
}

#[derive(Debug)]
pub struct Nat {
    pub public: Ipv4Addr,
    config: NatConfig,
    next_port: u16,
    mappings: BTreeMap<Key, Mapping>,
}

impl Nat {
    pub fn new(public: Ipv4Addr, config: NatConfig) -> Self {
        Self { public, config, next_port: 20_000, mappings: BTreeMap::new() }
    }

    /// A packet leaves: the source that the world sees.
    pub fn outbound(
        &mut self,
        transport: Transport,
        local: SocketAddr,
        remote: SocketAddr,
        now: Instant,
    ) -> SocketAddr {
        self.expire(now);
        let dependent = self.config.mapping == Behaviour::AddressAndPortDependent;
        let key = (transport, local, dependent.then_some(remote));
        if !self.mappings.contains_key(&key) {
            let port = self.free_port(transport, local.port());
            self.mappings.insert(key, Mapping { port, remotes: BTreeMap::new(), used: now });
        }
        let mapping = self.mappings.get_mut(&key).expect("it was inserted above");
        mapping.remotes.insert(remote, now);
        mapping.used = now;
        SocketAddrV4::new(self.public, mapping.port).into()
    }

    /// A packet arrives from outside: the socket inside that gets it, if any.
    pub fn inbound(
        &mut self,
        transport: Transport,
        port: u16,
        remote: SocketAddr,
        now: Instant,
    ) -> Option<SocketAddr> {
        self.expire(now);
        let open = self.config.filtering == Behaviour::EndpointIndependent;
        let ((_, local, _), _) = self.mappings.iter().find(|((of, ..), mapping)| {
            *of == transport && mapping.port == port && (open || mapping.remotes.contains_key(&remote))
        })?;
        Some(*local)
    }

    /// Power cycle: every mapping is gone, and ports are given anew.
    pub fn reboot(&mut self) {
        self.mappings.clear();
    }

    pub fn reconfigure(&mut self, config: NatConfig) {
        self.mappings.clear();
        self.config = config;
    }

    // RFC 4787 REQ-6: only outbound packets refresh.
    fn expire(&mut self, now: Instant) {
        let udp = self.config.udp_expiry;
        self.mappings.retain(|(transport, ..), mapping| {
            let limit = if *transport == Transport::Udp { udp } else { TCP_EXPIRY };
            mapping.remotes.retain(|_, used| *used + limit > now);
            mapping.used + limit > now
        });
    }

    fn free_port(&mut self, transport: Transport, wanted: u16) -> u16 {
        let taken = |port| self.mappings.iter().any(|((of, ..), m)| *of == transport && m.port == port);
        if self.config.preserves_ports && !taken(wanted) {
            return wanted;
        }
        self.next_port = self.next_port.wrapping_add(7).max(20_000);
        self.next_port
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_home_router_shows_every_destination_one_address_and_lets_only_them_answer() {
        let (mut nat, now) = (Nat::new([198, 51, 100, 1].into(), NatConfig::HOME), Instant::now());
        let (local, relay, peer) =
            (socket("192.168.0.2:4001"), socket("203.0.113.1:7777"), socket("198.51.100.2:4001"));
        let seen = nat.outbound(Transport::Udp, local, relay, now);
        assert_eq!(nat.inbound(Transport::Udp, seen.port(), peer, now), None);
        assert_eq!(nat.outbound(Transport::Udp, local, peer, now), seen);
        assert_eq!(nat.inbound(Transport::Udp, seen.port(), peer, now), Some(local));
        let later = now + Duration::from_secs(121);
        assert_eq!(nat.inbound(Transport::Udp, seen.port(), peer, later), None);
    }

    #[test]
    fn a_symmetric_one_shows_each_destination_another_port() {
        let (mut nat, now) = (Nat::new([198, 51, 100, 1].into(), NatConfig::SYMMETRIC), Instant::now());
        let local = socket("192.168.0.2:4001");
        let first = nat.outbound(Transport::Udp, local, socket("203.0.113.1:7777"), now);
        let second = nat.outbound(Transport::Udp, local, socket("203.0.113.2:7777"), now);
        assert_ne!(first, second);
    }
}
