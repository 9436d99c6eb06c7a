//! What this host finds out about the network it is on, and where its peers were and are.
//!
//! The machine is `peerup-reach`; here its facts come from: the kernel, relays and peers (identify), STUN servers, the
//! router. And here is what follows from its answers: candidates offered to peers, the place in the DHT, health.

mod files;
mod health;
pub mod stun;

use std::{
    net::{IpAddr, SocketAddrV4},
    num::NonZeroU16,
    time::{Duration, Instant},
};

use peerup_netmon::{NetworkChange, NetworkView};
use peerup_portmap::{Options, PortMapper, Ports, State};
use peerup_reach::{
    AddressBook, Interface, Lookups, PortMapping, Reach, Report, Scope, StunFindings, Transport, endpoint,
    scope,
};
use peerup_swarm::PathHandle;
use peerup_types::{Multiaddr, PathClass, PathId, PeerId, Protocol};

use crate::controller::{Controller, Done, Mode};

pub use health::{explain, items as health};

/// The address book is written once for all that was learned in a while.
const WRITE_AFTER: Duration = Duration::from_secs(5);
/// STUN servers are asked again, because a NAT may restart without a notice to anybody.
const STUN_EVERY: Duration = Duration::from_secs(30 * 60);

/// What the loop knows of its surroundings.
pub struct Surroundings {
    pub reach: Reach,
    pub view: NetworkView,
    book: AddressBook,
    lookups: Lookups,
    mapper: Option<PortMapper>,
    /// What the router forwards, as announced.
    mapped: Vec<Multiaddr>,
    /// What AutoNAT confirmed in this network.
    confirmed: Vec<Multiaddr>,
    write_at: Option<Instant>,
    stun_at: Option<Instant>,
}

/// What a task found out.
pub enum Found {
    Network(NetworkView),
    Stun { local_port: u16, findings: StunFindings },
    NoStun,
}

impl Surroundings {
    pub fn new(external: Vec<Multiaddr>, force_private: bool) -> Self {
        Self {
            reach: Reach::new(external, force_private),
            view: NetworkView::default(),
            book: AddressBook::default(),
            lookups: Lookups::default(),
            mapper: None,
            mapped: Vec::new(),
            confirmed: Vec::new(),
            write_at: None,
            stun_at: None,
        }
    }

    pub fn configure(&mut self, external: Vec<Multiaddr>, force_private: bool) {
        self.reach.configure(external, force_private);
    }

    /// The next news about the port mapping. Cancel-safe.
    pub async fn port_mapping(&mut self) -> State {
        match &mut self.mapper {
            Some(mapper) => mapper.changed().await,
            None => std::future::pending().await,
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.write_at, self.stun_at].into_iter().flatten().min()
    }
}

impl Controller {
    /// The first look around, before anybody is dialed.
    pub async fn look_around(&mut self) {
        if self.mode == Mode::Pairing {
            return;
        }
        match peerup_netmon::look().await {
            Ok(view) => self.take_view(view),
            Err(error) => tracing::warn!(%error, "the interfaces of this host are not known"),
        }
        self.surroundings.book = files::read(&self.files.state.addresses, peerup_clock::unix());
        self.remind_node();
        self.start_mapping();
        self.ask_stun();
    }

    /// Tells the node where members are said to be: what the owner wrote, and where they were last.
    pub fn remind_node(&mut self) {
        let now = peerup_clock::now();
        let keys: Vec<(PeerId, Vec<Multiaddr>)> =
            self.keys.entries().map(|entry| (entry.peer(), entry.addresses().to_vec())).collect();
        let members: Vec<PeerId> = keys.iter().map(|(peer, _)| *peer).collect();
        if self.surroundings.book.retain(|peer| members.contains(peer)) {
            self.surroundings.write_at.get_or_insert(now + WRITE_AFTER);
        }
        self.surroundings.lookups.retain(|peer| members.contains(peer));
        for (peer, addresses) in keys {
            let remembered: Vec<Multiaddr> = self.surroundings.book.addresses(&peer).cloned().collect();
            for address in addresses.into_iter().chain(remembered) {
                self.node.handle_address(&peer, address, now);
            }
        }
    }

    pub fn on_found(&mut self, found: Found) {
        match found {
            Found::Network(view) => {
                let router = view.gateway != self.surroundings.view.gateway;
                self.take_view(view);
                let wanted = self.wanted_gateway();
                match &self.surroundings.mapper {
                    Some(mapper) if router => mapper.set_gateway(wanted),
                    Some(_) => {}
                    None => self.start_mapping(),
                }
            }
            Found::NoStun => {
                if let Some(observer) = &self.observer {
                    observer.asked_stun(false);
                }
            }
            Found::Stun { local_port, findings } => {
                tracing::debug!(?findings, "STUN servers answered");
                if let Some(observer) = &self.observer {
                    observer.asked_stun(true);
                }
                self.surroundings.reach.handle_stun(local_port, findings);
            }
        }
        self.follow_reach();
    }

    /// Another network, or the same one with other addresses.
    pub fn on_network_changed(&mut self, change: &NetworkChange) {
        if self.mode == Mode::Pairing {
            return;
        }
        let now = peerup_clock::now();
        let moved = change.default_route_changed
            || !(change.addresses_added.is_empty() && change.addresses_removed.is_empty());
        if moved {
            self.surroundings.reach.handle_network_changed(now);
            self.surroundings.lookups.handle_network_changed();
            for address in std::mem::take(&mut self.surroundings.confirmed) {
                self.swarm.remove_external_address(&address);
            }
            self.ask_stun();
        }
        let done = self.done.clone();
        tokio::spawn(async move {
            if let Ok(view) = peerup_netmon::look().await {
                let _ = done.send(Done::Found(Found::Network(view))).await;
            }
        });
    }

    /// A connection is up, or identify has told more about the other end of it.
    pub fn observe_path(&mut self, path: PathId, observed: Option<&Multiaddr>) {
        let Some(known) = self.paths.get(&path) else { return };
        if known.handle.kind.class != PathClass::Direct {
            return;
        }
        let (remote, now) = (known.handle.remote.clone(), peerup_clock::now());
        let relay = self.node.relays().into_iter().find(|relay| relay.relay == known.handle.peer);
        let speaks = |transport| {
            let offers = |at: &Multiaddr| endpoint(at).is_some_and(|at| at.transport == transport);
            relay.as_ref().is_some_and(|relay| relay.addresses.iter().any(offers))
        };
        let both = speaks(Transport::Quic) && speaks(Transport::Tcp);
        self.surroundings.reach.handle_opened(path, &remote, both, now);
        if let Some(observed) = observed.filter(|_| known.handle.outbound) {
            self.surroundings.reach.handle_observed(path, &remote, observed);
        }
        self.follow_reach();
    }

    pub fn forget_path(&mut self, path: PathId) {
        self.surroundings.reach.handle_closed(path);
        self.follow_reach();
    }

    /// Addresses of other tunnels lead to peers only through them, so they are not offered.
    pub fn is_offered(&self, address: &Multiaddr) -> bool {
        !ip(address).is_some_and(|ip| self.surroundings.reach.is_tunnel(ip))
    }

    /// A member proved its identity and took our hello on this path.
    pub fn note_reached(&mut self, path: PathId) {
        let Some(handle) = self.paths.get(&path).map(|known| &known.handle) else { return };
        if handle.kind.class != PathClass::Direct {
            return;
        }
        // The source port of an inbound TCP connection is nobody's listener; QUIC has one socket for both directions.
        let quic = endpoint(&handle.remote).is_some_and(|at| at.transport == Transport::Quic);
        let (usable, peer, remote) = (handle.outbound || quic, handle.peer, handle.remote.clone());
        if usable && self.surroundings.book.note(peer, &remote, peerup_clock::unix()) {
            self.surroundings.write_at.get_or_insert(peerup_clock::now() + WRITE_AFTER);
        }
    }

    /// Somebody on the LAN claims an address for a peer.
    pub fn on_discovered(&mut self, peer: PeerId, address: Multiaddr) {
        let now = peerup_clock::now();
        if self.keys.get(&peer).is_some() && self.surroundings.lookups.listens(peer, now) {
            self.node.handle_address(&peer, address, now);
        }
    }

    /// A server of the DHT claims one. Only hosts with a public address are found there, so nothing else is believed:
    /// it would be a way to make this node knock on doors of its own network.
    pub fn on_dht_found(&mut self, peer: PeerId, address: Multiaddr) {
        if endpoint(&address).is_some_and(|at| scope(at.at.ip()) == Scope::Global) {
            self.on_discovered(peer, address);
        }
    }

    /// A relay tried one of our addresses. libp2p takes a good one for an external address until it is told otherwise.
    pub fn on_tested(&mut self, address: &Multiaddr, reachable: bool) {
        tracing::debug!(%address, reachable, "a relay tried our address");
        self.surroundings.reach.handle_tested(address, reachable);
        if reachable && !self.surroundings.confirmed.contains(address) {
            self.surroundings.confirmed.push(address.clone());
        }
        self.follow_reach();
    }

    /// Relays connect to nodes to test an address, and close the connection at once. It is no way to the relay.
    pub fn is_dial_back(&self, handle: &PathHandle) -> bool {
        !handle.outbound && self.keys.get(&handle.peer).is_none() && self.relays().contains_key(&handle.peer)
    }

    pub fn on_port_mapping(&mut self, state: State) {
        tracing::debug!(?state, "port mapping");
        if let State::Mapped { protocol, udp, tcp, .. } = &state {
            tracing::info!(%protocol, udp = udp.is_some(), tcp = tcp.is_some(), "the router forwards our port");
        }
        let mapped: Vec<Multiaddr> = match &state {
            State::Mapped { udp, tcp, .. } => {
                let udp = udp.map(quic_address);
                udp.into_iter().chain(tcp.map(tcp_address)).collect()
            }
            State::Searching | State::Unavailable { .. } => Vec::new(),
        };
        self.surroundings.reach.handle_port_mapping(described(state));
        if self.surroundings.mapped != mapped {
            let before = std::mem::replace(&mut self.surroundings.mapped, mapped.clone());
            before.iter().for_each(|address| self.swarm.remove_external_address(address));
            mapped.iter().for_each(|address| self.swarm.add_external_address(address.clone()));
            self.node.handle_mapped(mapped, peerup_clock::now());
        }
        self.follow_reach();
    }

    /// What is due: the file, STUN, and members who are nowhere to be found.
    pub fn on_surroundings_time(&mut self, now: Instant) {
        if self.mode == Mode::Pairing {
            return;
        }
        if self.surroundings.write_at.is_some_and(|at| at <= now) {
            self.write_book();
        }
        if self.surroundings.stun_at.is_some_and(|at| at <= now) {
            self.ask_stun();
        }
        let absent = self.node.peers().into_iter().filter(|view| view.path.is_none()).map(|view| view.peer);
        for peer in self.surroundings.lookups.poll(absent, now) {
            tracing::debug!(%peer, "looking for a member in the DHT");
            self.swarm.find(peer);
        }
    }

    pub fn report(&self) -> Report {
        self.surroundings.reach.report(peerup_clock::now())
    }

    /// Gives the port back and keeps what was learned.
    pub async fn leave_surroundings(&mut self) {
        if self.surroundings.write_at.is_some() {
            self.write_book();
        }
        if let Some(mapper) = self.surroundings.mapper.take() {
            mapper.close().await;
        }
    }

    fn write_book(&mut self) {
        self.surroundings.write_at = None;
        if let Err(error) = files::write(&self.files.state.addresses, &self.surroundings.book) {
            tracing::warn!(error = %crate::error::describe(&error), "cannot keep the addresses of peers");
        }
    }

    fn take_view(&mut self, view: NetworkView) {
        let own = self.files.config.vpn.interface.as_str();
        let interface = |address: &peerup_netmon::InterfaceAddress| Interface {
            name: address.interface.clone(),
            address: address.address,
            tunnel: address.tunnel || address.interface == own,
        };
        self.surroundings.reach.handle_interfaces(view.addresses.iter().map(interface).collect());
        self.surroundings.view = view;
        let hosts: Vec<Multiaddr> = self.node.addresses().host().cloned().collect();
        for address in hosts {
            if !self.is_offered(&address) {
                self.node.handle_listen_expired(&address, peerup_clock::now());
            }
        }
    }

    /// What others have to know: how our NAT maps, and whether we can be found in the DHT.
    fn follow_reach(&mut self) {
        if self.mode == Mode::Pairing {
            return;
        }
        self.node.set_nat_mapping(self.surroundings.reach.mapping(), peerup_clock::now());
        let reachable = self.report().reachable == Some(true);
        self.swarm.serve_dht(reachable && self.is_member());
    }

    /// Whether this node stays; one that is up for a single command asks nobody for a port.
    pub fn is_member(&self) -> bool {
        matches!(self.mode, Mode::Member { .. })
    }

    fn start_mapping(&mut self) {
        let wanted = self.is_member() && self.files.config.network.port_mapping.is_auto();
        let gateway = self.wanted_gateway();
        if !wanted || gateway.is_none() || self.surroundings.mapper.is_some() {
            return;
        }
        let port = |transport| self.listen_port(transport).and_then(NonZeroU16::new);
        let ports = Ports { udp: port(Transport::Quic), tcp: port(Transport::Tcp) };
        if ports.udp.is_none() && ports.tcp.is_none() {
            return;
        }
        self.surroundings.reach.handle_port_mapping(PortMapping::Searching);
        self.surroundings.mapper = Some(PortMapper::start(ports, gateway, Options::default()));
    }

    /// The router, unless this host has a global address of its own: then nothing stands in between.
    fn wanted_gateway(&self) -> Option<peerup_portmap::Gateway> {
        let gateway = self.surroundings.view.gateway?;
        let private = scope(IpAddr::V4(gateway.local)) != Scope::Global;
        private.then_some(peerup_portmap::Gateway { address: gateway.address, local: gateway.local })
    }

    fn listen_port(&self, transport: Transport) -> Option<u16> {
        let own = self.node.addresses().host().filter_map(endpoint);
        let mut v4 = own.filter(|at| at.transport == transport && at.at.is_ipv4());
        v4.next().map(|at| at.at.port())
    }

    fn ask_stun(&mut self) {
        let servers = self.files.config.network.stun_servers.clone();
        if servers.is_empty() || self.mode == Mode::Pairing {
            return;
        }
        self.surroundings.stun_at = Some(peerup_clock::now() + STUN_EVERY);
        let done = self.done.clone();
        tokio::spawn(async move {
            match stun::ask(&servers).await {
                Ok((local_port, findings)) => {
                    let _ = done.send(Done::Found(Found::Stun { local_port, findings })).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "STUN servers not asked");
                    let _ = done.send(Done::Found(Found::NoStun)).await;
                }
            }
        });
    }
}

fn described(state: State) -> PortMapping {
    match state {
        State::Searching => PortMapping::Searching,
        State::Unavailable { reason } => PortMapping::Unavailable { reason },
        State::Mapped { protocol, udp, tcp, lifetime } => PortMapping::Mapped {
            protocol: protocol.as_str(),
            udp: udp.map(Into::into),
            tcp: tcp.map(Into::into),
            lease_s: u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX),
        },
    }
}

fn quic_address(at: SocketAddrV4) -> Multiaddr {
    Multiaddr::from(*at.ip()).with(Protocol::Udp(at.port())).with(Protocol::QuicV1)
}

fn tcp_address(at: SocketAddrV4) -> Multiaddr {
    Multiaddr::from(*at.ip()).with(Protocol::Tcp(at.port()))
}

fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}
