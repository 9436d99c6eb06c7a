//! Sites, their wires and routers: where a datagram leaves, what happens to it, and whom it reaches.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    host::Process,
    nat::{Nat, Transport},
    world::{HostId, SiteId, World},
};

/// One way between hosts of one site.
const LAN_DELAY: Duration = Duration::from_millis(1);

/// A network with one access line: a home, an office, a data centre.
#[derive(Debug)]
pub struct Site {
    pub nat: Option<Nat>,
    /// One way over the access line.
    pub delay: Duration,
    /// Share of datagrams lost on the access line.
    pub loss: f64,
    pub online: bool,
    /// Whether its firewall lets UDP out.
    pub udp: bool,
    /// Whether it lets TCP in and out between this site and others than relays'.
    pub tcp: bool,
}

/// A datagram on its way.
#[derive(Debug, Clone, Copy)]
pub struct Flight {
    from: HostId,
    site: SiteId,
    pub transport: Transport,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub delay: Duration,
}

impl World {
    /// Sends a datagram from a socket of `host`; `None` when it gets nowhere. NATs on the way out take note.
    pub(crate) fn leave(
        &mut self,
        host: HostId,
        transport: Transport,
        local: SocketAddr,
        destination: SocketAddr,
    ) -> Option<Flight> {
        let sender = &self.hosts[host.0];
        let site = sender.site;
        if !sender.is_awake() || !sender.has(local.ip()) {
            return None;
        }
        let flight = Flight { from: host, site, transport, source: local, destination, delay: LAN_DELAY };
        let target = self.site_of(site, destination.ip())?;
        if target == site {
            return Some(flight);
        }
        let open = |site: SiteId| {
            self.sites[site.0].online && (self.sites[site.0].udp || transport == Transport::Tcp)
        };
        let online = open(site) && open(target);
        let delay = self.sites[site.0].delay + self.sites[target.0].delay;
        let now = self.now;
        let source = match (&mut self.sites[site.0].nat, local) {
            (Some(nat), SocketAddr::V4(_)) => nat.outbound(transport, local, destination, now),
            (Some(_) | None, _) => local,
        };
        online.then_some(Flight { source, delay, ..flight })
    }

    /// The end of a datagram's way: the host and the socket that get it.
    pub(crate) fn land(&mut self, flight: Flight) -> Option<(HostId, SocketAddr)> {
        let Flight { from, site, transport, source, destination, .. } = flight;
        let target = self.site_of(site, destination.ip())?;
        let now = self.now;
        let local = match &mut self.sites[target.0].nat {
            Some(nat) if destination.ip() == IpAddr::V4(nat.public) => {
                // Hairpinning (RFC 4787 REQ-9) is what many routers lack.
                if target == site {
                    return None;
                }
                nat.inbound(transport, destination.port(), source, now)?
            }
            Some(_) | None => destination,
        };
        let host = self.hosts.iter().position(|host| host.site == target && host.has(local.ip()))?;
        let host = HostId(host);
        if transport == Transport::Tcp && site != target && !self.lets_tcp(from, host) {
            return None;
        }
        (self.hosts[host.0].is_awake() && !self.is_cut(from, host)).then_some((host, local))
    }

    /// Whether the firewalls of both sites let TCP pass between two hosts.
    fn lets_tcp(&self, from: HostId, to: HostId) -> bool {
        let ends = [from, to].map(|host| &self.hosts[host.0]);
        let relayed = ends.iter().any(|host| matches!(host.process, Process::Relay(_)));
        relayed || ends.iter().all(|host| self.sites[host.site.0].tcp)
    }

    /// Whether the line between two sites swallows this datagram.
    pub(crate) fn is_lost(&mut self, from: HostId, to: HostId) -> bool {
        let (from, to) = (self.hosts[from.0].site, self.hosts[to.0].site);
        let loss = self.sites[from.0].loss + self.sites[to.0].loss;
        from != to && loss > 0.0 && self.chance(loss)
    }

    /// The site that `address` leads to, seen from `from`: private addresses mean the own one.
    fn site_of(&self, from: SiteId, address: IpAddr) -> Option<SiteId> {
        if matches!(address, IpAddr::V4(ip) if ip.is_private()) {
            return Some(from);
        }
        let translated = self
            .sites
            .iter()
            .position(|site| site.nat.as_ref().is_some_and(|nat| IpAddr::V4(nat.public) == address));
        let plain = || self.hosts.iter().find(|host| host.has(address)).map(|host| host.site);
        translated.map(SiteId).or_else(plain)
    }
}
