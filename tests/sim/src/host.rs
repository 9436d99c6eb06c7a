//! A host: its interfaces, and the process that drives a node as the daemon does.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use peerup_membership::Membership;
use peerup_node::{Action, Event, Node, NodeConfig};
use peerup_path::{Opened, Reason};
use peerup_types::{Keypair, Multiaddr, PathClass, PathId, PathKind, PeerId, Protocol};
use peerup_wire::{
    control::{Control, GoodbyeReason},
    hello::{Hello, HelloAck, LENGTH_PREFIX},
};

use crate::{
    connection::{ConnId, EndId, Message, Over},
    dial,
    nat::Transport,
    relay::Relay,
    world::{Happening, HostId, SiteId, World},
};

pub(crate) const OVERLAY: &str = "10.64.0.0/16";
/// Everybody listens here, for QUIC and TCP.
pub const PORT: u16 = 4001;
/// The daemon's bound on a greeting.
const GREET_DEADLINE: Duration = Duration::from_secs(5);
/// The same on an echo from a relay.
const ECHO_DEADLINE: Duration = Duration::from_millis(1200);
/// What a goodbye gets to leave the host.
const GOODBYE_FLUSH: Duration = Duration::from_millis(150);

/// What happened on a host over all its processes.
#[derive(Debug, Default)]
pub struct Tally {
    pub probes: u64,
    pub last_probe: Option<Instant>,
    pub punches: u64,
    /// Connections to peers and relays.
    pub opened: u64,
    /// Wake-ups that the node asked for.
    pub timeouts: u64,
    pub path_changes: Vec<PathChange>,
    /// When earlier switches were forgotten: the host woke up, roamed, or met another start of its peer.
    pub fresh_starts: Vec<Instant>,
}

#[derive(Debug, Clone)]
pub struct PathChange {
    pub at: Instant,
    pub peer: PeerId,
    pub from: Option<PathKind>,
    pub to: Option<PathKind>,
    pub reason: Reason,
    /// A direct path worked when it was left for a relay.
    pub leaves_live_direct: bool,
}

pub struct Host {
    pub name: String,
    pub peer: PeerId,
    pub tally: Tally,
    /// `peers.yaml`.
    pub yaml: Option<String>,
    /// When the newest packet that came from each peer was sent.
    pub(crate) newest: BTreeMap<PeerId, Duration>,
    pub(crate) site: SiteId,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Option<Ipv6Addr>,
    pub(crate) members: Vec<PeerId>,
    pub(crate) relays: BTreeMap<PeerId, Vec<Multiaddr>>,
    pub(crate) serves: bool,
    pub(crate) process: Process,
    pub(crate) boot: u64,
    pub(crate) asleep: Option<Instant>,
    /// What is reported when the host wakes up.
    pub(crate) deferred: Vec<Happening>,
    pub(crate) slept: Duration,
    pub(crate) keypair: Keypair,
    powered: bool,
    next_path: u64,
}

pub(crate) enum Process {
    Down,
    Node(Box<Running>),
    Relay(Relay),
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Goodbye to everybody, then every connection is closed.
    Goodbye,
    /// Killed: the kernel resets TCP, QUIC falls silent.
    Kill,
    /// The whole host is gone.
    PowerCut,
}

pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) ends: BTreeMap<PathId, EndId>,
    /// Paths on which the peer accepted our hello: our stream carries frames.
    pub(crate) outlets: BTreeMap<PathId, PeerId>,
    pub(crate) active: BTreeMap<PeerId, PathId>,
    pub(crate) beside: BTreeMap<PeerId, PathId>,
    pub(crate) parked: BTreeMap<PeerId, Vec<Duration>>,
    pub(crate) probes: BTreeMap<(PathId, u64), Instant>,
    pub(crate) traffic: BTreeMap<PeerId, Instant>,
    pub(crate) wanted: BTreeMap<PeerId, Instant>,
    /// Since when packets leave on the path in use without anything coming back, and whether the node knows.
    pub(crate) unheard: BTreeMap<PeerId, (PathId, Instant, bool)>,
    pub(crate) timer: Option<Instant>,
    /// Whether `peers.yaml` is out of date.
    pub(crate) unwritten: bool,
}

impl Host {
    pub(crate) fn new(name: &str, keypair: Keypair, site: SiteId, v4: Ipv4Addr) -> Self {
        Self {
            name: name.to_owned(),
            peer: keypair.public().to_peer_id(),
            tally: Tally::default(),
            yaml: None,
            newest: BTreeMap::new(),
            site,
            v4,
            v6: None,
            members: Vec::new(),
            relays: BTreeMap::new(),
            serves: false,
            process: Process::Down,
            boot: 0,
            asleep: None,
            deferred: Vec::new(),
            slept: Duration::ZERO,
            keypair,
            powered: true,
            next_path: 1,
        }
    }

    pub fn node(&self) -> Option<&Node> {
        match &self.process {
            Process::Node(running) => Some(&running.node),
            Process::Down | Process::Relay(_) => None,
        }
    }

    /// The overlay's IPv4 address of this host, as it sees itself.
    pub fn overlay_v4(&self) -> Option<Ipv4Addr> {
        self.node()?.membership().own_addrs().v4
    }

    pub(crate) fn running(&mut self) -> Option<&mut Running> {
        match &mut self.process {
            Process::Node(running) => Some(running),
            Process::Down | Process::Relay(_) => None,
        }
    }

    pub(crate) fn relay(&self) -> Option<&Relay> {
        match &self.process {
            Process::Relay(relay) => Some(relay),
            Process::Down | Process::Node(_) => None,
        }
    }

    pub(crate) fn relay_mut(&mut self) -> Option<&mut Relay> {
        match &mut self.process {
            Process::Relay(relay) => Some(relay),
            Process::Down | Process::Node(_) => None,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        !matches!(self.process, Process::Down)
    }

    pub(crate) fn is_powered(&self) -> bool {
        self.powered
    }

    pub fn is_awake(&self) -> bool {
        self.powered && self.asleep.is_none()
    }

    pub(crate) fn has(&self, address: IpAddr) -> bool {
        address == self.v4 || self.v6.is_some_and(|v6| address == v6)
    }

    /// The listening socket of the family of `remote`, from which dials leave.
    pub(crate) fn socket_towards(&self, remote: SocketAddr) -> Option<SocketAddr> {
        match remote {
            SocketAddr::V4(_) => Some((self.v4, PORT).into()),
            SocketAddr::V6(_) => Some((self.v6?, PORT).into()),
        }
    }

    pub(crate) fn listen_addresses(&self) -> Vec<Multiaddr> {
        let ips = [Some(IpAddr::V4(self.v4)), self.v6.map(IpAddr::V6)].into_iter().flatten();
        let both = [Transport::Udp, Transport::Tcp];
        ips.flat_map(|ip| both.map(|transport| dial::multiaddr(transport, (ip, PORT).into()))).collect()
    }

    /// A connection of ours to the relay, as libp2p's relay client picks one.
    pub(crate) fn connection_to(&self, relay: &PeerId) -> Option<EndId> {
        let Process::Node(running) = &self.process else { return None };
        running
            .outlets
            .iter()
            .find(|(_, peer)| *peer == relay)
            .and_then(|(path, _)| running.ends.get(path))
            .copied()
    }

    /// The monotonic clock, which stands still during sleep.
    pub(crate) fn clock(&self, now: Instant) -> Instant {
        self.asleep.unwrap_or(now) - self.slept
    }
}

impl World {
    // The process

    pub fn start(&mut self, host: HostId) {
        self.disturb(host, "starts");
        if !self.hosts[host.0].serves {
            let now = self.now;
            self.hosts.iter_mut().for_each(|host| host.tally.fresh_starts.push(now));
        }
        let (seed, unix) = (self.random(0..u64::MAX), self.unix());
        let listen = self.hosts[host.0].listen_addresses();
        let found = &mut self.hosts[host.0];
        found.boot += 1;
        found.powered = true;
        if found.serves {
            found.process = Process::Relay(Relay::default());
            return;
        }
        let config = NodeConfig {
            name: found.name.parse().ok(),
            network: None,
            mtu: 1380,
            boot_epoch: found.boot,
            external: Vec::new(),
            seed,
        };
        let range = OVERLAY.parse().expect("a constant");
        let membership = match &found.yaml {
            Some(text) => {
                Membership::from_yaml(text, found.keypair.clone(), None, range).expect("our own file")
            }
            None => Membership::new(found.keypair.clone(), None, range).expect("a /16 has room"),
        };
        found.process = Process::Node(Box::new(Running::new(Node::new(config, membership))));
        let relays = found.relays.clone();
        self.apply_members(host);
        self.tell(host, move |node, now, _| {
            node.membership_mut().ensure_own(unix).expect("a /16 has room");
            node.follow_membership();
            listen.into_iter().for_each(|address| node.handle_listening(address, now));
            node.set_relays(relays, now);
        });
    }

    /// Takes a key out of `authorized_keys`; the swarm disconnects its owner.
    pub fn unfriend(&mut self, host: HostId, other: HostId) {
        let peer = self.hosts[other.0].peer;
        self.hosts[host.0].members.retain(|member| *member != peer);
        self.apply_members(host);
        for end in self.ends_to(host, &peer) {
            self.close_end(end, true);
        }
    }

    pub fn start_all(&mut self) {
        for host in 0..self.hosts.len() {
            if !self.hosts[host].is_running() {
                self.start(HostId(host));
            }
        }
    }

    /// Takes what `authorized_keys` says.
    pub fn apply_members(&mut self, host: HostId) {
        let members = self.hosts[host.0].members.iter().map(|peer| (*peer, Default::default())).collect();
        self.tell(host, move |node, now, unix| {
            node.set_members(members, None, now, unix).expect("nobody is pinned");
        });
    }

    pub fn stop(&mut self, host: HostId, how: Stop) {
        self.disturb(host, format_args!("stops: {how:?}"));
        if how == Stop::Goodbye {
            self.say_goodbye(host);
            let boot = self.hosts[host.0].boot;
            return self.after(GOODBYE_FLUSH, move |world| {
                if world.hosts[host.0].boot == boot {
                    world.halt(host, how);
                }
            });
        }
        self.halt(host, how);
    }

    fn say_goodbye(&mut self, host: HostId) {
        let Some(node) = self.hosts[host.0].node() else { return };
        let goodbye = Control::Goodbye(GoodbyeReason::Shutdown).encode().expect("a goodbye has no lists");
        for path in node.active_paths() {
            self.send_frame(host, path, Message::Control(goodbye.clone()));
        }
    }

    fn halt(&mut self, host: HostId, how: Stop) {
        if how == Stop::Goodbye {
            self.persist(host);
        }
        self.hosts[host.0].process = Process::Down;
        self.hosts[host.0].powered = how != Stop::PowerCut;
        for end in self.ends_of(host) {
            let tcp = self.connections[&end.connection].transport() == Transport::Tcp;
            self.close_end(end, how == Stop::Goodbye || how == Stop::Kill && tcp);
        }
    }

    fn ends_of(&self, host: HostId) -> Vec<EndId> {
        let both = |connection: &ConnId| [0, 1].map(|index| EndId { connection: *connection, index });
        let all = self.connections.keys().flat_map(both);
        all.filter(|end| self.end(*end).is_some_and(|end| end.host == host)).collect()
    }

    pub(crate) fn readdressed(&mut self, host: HostId, old: Vec<Multiaddr>) {
        let now = self.now;
        self.hosts[host.0].tally.fresh_starts.push(now);
        let new = self.hosts[host.0].listen_addresses();
        self.tell(host, move |node, now, _| {
            old.iter().for_each(|address| node.handle_listen_expired(address, now));
            new.into_iter().for_each(|address| node.handle_listening(address, now));
        });
    }

    /// Multicast DNS tells `a` where `b` is.
    pub fn discover(&mut self, a: HostId, b: HostId) {
        let (peer, addresses) = (self.hosts[b.0].peer, self.hosts[b.0].listen_addresses());
        self.tell(a, move |node, now, _| {
            addresses.into_iter().for_each(|address| node.handle_address(&peer, address, now));
        });
    }

    pub(crate) fn find(&self, peer: &PeerId) -> Option<HostId> {
        self.hosts.iter().position(|host| host.peer == *peer).map(HostId)
    }

    // The control loop

    /// Hands the node a fact and carries out what it decides.
    pub(crate) fn tell(&mut self, host: HostId, fact: impl FnOnce(&mut Node, Instant, u64)) {
        self.ask(host, fact);
    }

    /// The same for a fact that has an answer; `None` without a node.
    fn ask<T>(&mut self, host: HostId, fact: impl FnOnce(&mut Node, Instant, u64) -> T) -> Option<T> {
        let unix = self.unix();
        let now = self.hosts[host.0].clock(self.now);
        let running = self.hosts[host.0].running()?;
        let told = fact(&mut running.node, now, unix);
        while let Some(action) = self.hosts[host.0].running().and_then(|running| running.node.poll_action()) {
            self.act(host, action);
        }
        while let Some(event) = self.hosts[host.0].running().and_then(|running| running.node.poll_event()) {
            self.reported(host, event);
        }
        self.set_timer(host);
        Some(told)
    }

    pub(crate) fn set_timer(&mut self, host: HostId) {
        let (slept, now) = (self.hosts[host.0].slept, self.now);
        let Some(running) = self.hosts[host.0].running() else { return };
        let due = running.node.poll_timeout().map(|due| (due + slept).max(now));
        if due.is_none() || due == running.timer {
            return;
        }
        running.timer = due;
        let due = due.expect("checked above");
        self.at(due, move |world| world.timer_fired(host, due));
    }

    fn timer_fired(&mut self, host: HostId, due: Instant) {
        if self.hosts[host.0].asleep.is_some() {
            return;
        }
        let Some(running) = self.hosts[host.0].running().filter(|running| running.timer == Some(due)) else {
            return;
        };
        running.timer = None;
        self.hosts[host.0].tally.timeouts += 1;
        self.tell(host, |node, now, unix| node.handle_timeout(now, unix));
    }

    fn act(&mut self, host: HostId, action: Action) {
        match action {
            Action::Dial { peer, addresses, role } => self.dial(host, peer, addresses, role),
            Action::Reserve { relay, .. } => self.reserve(host, relay),
            Action::Disconnect { peer } => {
                for end in self.ends_to(host, &peer) {
                    self.close_end(end, true);
                }
            }
            Action::Check { path } => self.check(host, path),
            Action::Greet { path } => self.greet(host, path),
            Action::Use { peer, path, beside } => self.switch(host, peer, path, beside),
            Action::Probe { path } => self.probe(host, path),
            Action::Say { path, control } => self.say(host, path, &control),
            Action::Close { path } => {
                let end = self.hosts[host.0].running().and_then(|running| running.ends.get(&path).copied());
                if let Some(end) = end {
                    self.close_end(end, true);
                }
            }
            Action::Persist => self.persist_later(host),
            Action::Readdress { address } => self.note(host, format_args!("has address {address:?}")),
            // The simulation asks the node itself who has which address, and leaves DCUtR out.
            Action::Route { .. } | Action::Candidate(_) => {}
        }
    }

    fn reported(&mut self, host: HostId, event: Event) {
        match event {
            Event::PathChanged { peer, from, to, reason } => {
                let name = self.find(&peer).map_or("?".to_owned(), |found| self.hosts[found.0].name.clone());
                let word = |kind: Option<PathKind>| {
                    kind.map_or("none".to_owned(), |kind| {
                        format!("{} {} {}", kind.class, kind.family, kind.carrier)
                    })
                };
                let text = format!("to {name}: {} -> {} ({})", word(from), word(to), reason.as_str());
                self.note(host, text);
                let to_relay = to.is_some_and(|to| to.class != PathClass::Direct);
                let left = from.filter(|from| to_relay && from.class == PathClass::Direct);
                let leaves_live_direct = left.is_some() && self.has_working_direct(host, &peer);
                let change = PathChange { at: self.now, peer, from, to, reason, leaves_live_direct };
                self.hosts[host.0].tally.path_changes.push(change);
            }
            Event::RelayReserved { .. } => self.note(host, "has a reservation"),
            Event::RelayLost { .. } => self.note(host, "lost its reservation"),
            Event::AddressLost { address, .. } => self.note(host, format_args!("lost {address}")),
        }
    }

    // What the swarm does

    pub(crate) fn host_opened(&mut self, end: EndId) {
        let connection = &self.connections[&end.connection];
        let (own, other) = (&connection.ends[end.index], &connection.ends[end.other().index]);
        let (host, outbound, sockets) = (own.host, own.outbound, own.sockets);
        let (kind, transport) = (connection.kind(), connection.transport());
        let via = match connection.over {
            Over::Direct(_) => None,
            Over::Circuit { relay, .. } => Some(self.hosts[relay.0].peer),
        };
        let other = other.host;
        let peer = self.hosts[other.0].peer;
        if self.hosts[host.0].relay().is_some() {
            return self.relay_opened(end);
        }
        let path = PathId(self.hosts[host.0].next_path);
        let found = &mut self.hosts[host.0];
        let known = found.members.contains(&peer) || found.relays.contains_key(&peer);
        let Some(running) = found.running().filter(|_| known) else { return self.close_end(end, true) };
        running.ends.insert(path, end);
        found.next_path += 1;
        found.tally.opened += 1;
        if found.relays.contains_key(&peer)
            && let Some(running) = found.running()
        {
            running.outlets.insert(path, peer);
        }
        if let Some(own) = self.end_mut(end) {
            own.path = path;
        }
        let name = self.hosts[other.0].name.clone();
        self.note(host, format_args!("{path} to {name} opened: {kind:?} {outbound}"));
        let remote = match (sockets, via) {
            (Some((_, remote)), _) => dial::multiaddr(transport, remote),
            (None, Some(relay)) => Multiaddr::from(Protocol::P2p(relay)).with(Protocol::P2pCircuit),
            (None, None) => return,
        };
        let opened = Opened { path, kind, remote, relay: via, outbound };
        self.tell(host, move |node, now, _| node.handle_opened(peer, opened, now));
    }

    /// Reported like everything of the swarm: in its own turn.
    pub(crate) fn host_closed(&mut self, end: EndId) {
        let Some(found) = self.end(end) else { return };
        let (host, path) = (found.host, found.path);
        let (boot, relay) = (self.hosts[host.0].boot, self.reserved_on(end));
        let first = self.chance(0.5);
        self.when_awake(host, move |world| {
            if world.hosts[host.0].boot != boot || world.hosts[host.0].node().is_none() {
                return;
            }
            world.note(host, format_args!("{path} closed"));
            world.forget_path(host, path);
            // libp2p gives no order between the end of a connection and that of the listener on it.
            let lost = |world: &mut Self| {
                if let Some(relay) = relay {
                    world.tell(host, |node, now, _| node.handle_reservation_lost(relay, now));
                }
            };
            if first {
                lost(world);
            }
            world.tell(host, |node, now, _| node.handle_closed(path, now));
            if !first {
                lost(world);
            }
        });
    }

    /// The relay whose reservation of ours was made on this connection.
    fn reserved_on(&self, end: EndId) -> Option<PeerId> {
        let host = &self.hosts[self.end(end)?.host.0];
        let path = self.end(end)?.path;
        let Process::Node(running) = &host.process else { return None };
        let relay = *running.outlets.get(&path).filter(|peer| host.relays.contains_key(peer))?;
        let first = running.outlets.iter().find(|(_, peer)| **peer == relay).map(|(path, _)| *path);
        (first == Some(path)).then_some(relay)
    }

    fn forget_path(&mut self, host: HostId, path: PathId) {
        let Some(running) = self.hosts[host.0].running() else { return };
        running.ends.remove(&path);
        running.outlets.remove(&path);
        running.probes.retain(|(of, _), _| *of != path);
        running.active.retain(|_, active| *active != path);
        running.beside.retain(|_, beside| *beside != path);
    }

    pub(crate) fn ends_to(&self, host: HostId, peer: &PeerId) -> Vec<EndId> {
        let Process::Node(running) = &self.hosts[host.0].process else { return Vec::new() };
        let leads = |end: &&EndId| self.end(end.other()).is_some_and(|e| self.hosts[e.host.0].peer == *peer);
        running.ends.values().filter(leads).copied().collect()
    }

    fn reserve(&mut self, host: HostId, relay: PeerId) {
        match self.hosts[host.0].connection_to(&relay) {
            Some(end) => self.transmit(end, Message::Reserve),
            None => self.after(Duration::ZERO, move |world| {
                world.tell(host, |node, now, _| node.handle_reservation_lost(relay, now));
            }),
        }
    }

    /// An echo over a connection to a relay; without an answer the connection is closed.
    fn check(&mut self, host: HostId, path: PathId) {
        let Some(end) = self.hosts[host.0].running().and_then(|running| running.ends.get(&path).copied())
        else {
            return;
        };
        let asked = self.now;
        self.transmit(end, Message::Echo);
        self.after(ECHO_DEADLINE, move |world| {
            world.when_awake(host, move |world| {
                if world.end(end).is_some_and(|end| end.last_heard <= asked) {
                    world.close_end(end, true);
                }
            });
        });
    }

    pub(crate) fn host_received(&mut self, end: EndId, message: Message) {
        let Some(found) = self.end(end) else { return };
        let (host, path) = (found.host, found.path);
        if self.hosts[host.0].relay().is_some() {
            return self.relay_received(host, end, message);
        }
        let Some(other) = self.end(end.other()).map(|other| other.host) else { return };
        let peer = self.hosts[other.0].peer;
        match message {
            Message::KeepAlive | Message::Close => {}
            Message::Hello(bytes) => self.on_hello(end, host, path, peer, &bytes),
            Message::Ack(bytes) => self.on_ack(host, path, peer, &bytes),
            Message::Probe(id) => {
                self.heard(host, path);
                self.send_frame(host, path, Message::Answer(id));
            }
            Message::Answer(id) => self.on_answer(host, path, id),
            Message::Control(body) => {
                self.heard(host, path);
                let control = Control::parse(&body).expect("it was encoded");
                self.tell(host, move |node, now, unix| node.handle_control(path, control, now, unix));
            }
            Message::Packet { sent } => {
                self.packets.delivered += 1;
                let newest = self.hosts[host.0].newest.entry(peer).or_default();
                *newest = sent.max(*newest);
                self.heard(host, path);
                self.note_traffic(host, peer);
            }
            Message::Identify { observed } => {
                let listen = self.hosts[other.0].listen_addresses();
                self.tell(host, |node, now, _| node.handle_identified(peer, path, &listen, &observed, now));
            }
            Message::Reserved => self.tell(host, |node, now, _| node.handle_reserved(peer, now)),
            Message::Offer { dial, leg } => self.transmit(end, Message::Accept { dial, leg }),
            Message::Connected { dial, leg } => self.circuit_connected(dial, end, leg),
            Message::Denied { dial } => self.circuit_denied(dial),
            Message::LegLost { circuit } => self.close_end(circuit, false),
            // Only relays get these.
            Message::Echo | Message::Reserve | Message::Connect { .. } | Message::Accept { .. } => {}
        }
    }

    // Greetings

    fn greet(&mut self, host: HostId, path: PathId) {
        let Some(running) = self.hosts[host.0].running() else { return };
        let (Some(end), hello) = (running.ends.get(&path).copied(), running.node.hello().encode()) else {
            return;
        };
        self.transmit(end, Message::Hello(hello));
        self.after(GREET_DEADLINE, move |world| {
            world.when_awake(host, move |world| world.greet_ends(host, path))
        });
    }

    fn greet_ends(&mut self, host: HostId, path: PathId) {
        let Some(running) = self.hosts[host.0].running() else { return };
        if running.ends.contains_key(&path) && !running.outlets.contains_key(&path) {
            self.tell(host, |node, now, _| node.handle_broken(path, now));
        }
    }

    fn on_hello(&mut self, end: EndId, host: HostId, path: PathId, peer: PeerId, bytes: &[u8]) {
        let hello = Hello::parse(&bytes[LENGTH_PREFIX..]).expect("it was encoded");
        let ack = self.ask(host, |node, now, unix| node.handle_hello(path, &peer, &hello, now, unix));
        if let Some(ack) = ack {
            self.transmit(end, Message::Ack(ack.encode()));
        }
    }

    fn on_ack(&mut self, host: HostId, path: PathId, peer: PeerId, bytes: &[u8]) {
        let ack = HelloAck::parse(&bytes[LENGTH_PREFIX..]).expect("it was encoded");
        if let Some(running) = self.hosts[host.0].running().filter(|running| running.ends.contains_key(&path))
        {
            running.outlets.insert(path, peer);
        }
        self.ask(host, |node, now, unix| node.handle_ack(path, &ack, now, unix));
    }
}

impl Running {
    fn new(node: Node) -> Self {
        Self {
            node,
            ends: BTreeMap::new(),
            outlets: BTreeMap::new(),
            active: BTreeMap::new(),
            beside: BTreeMap::new(),
            parked: BTreeMap::new(),
            probes: BTreeMap::new(),
            traffic: BTreeMap::new(),
            wanted: BTreeMap::new(),
            unheard: BTreeMap::new(),
            timer: None,
            unwritten: false,
        }
    }
}
