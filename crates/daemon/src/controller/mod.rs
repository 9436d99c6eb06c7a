//! The control loop: one owner of everything slow, one closed set of wake-ups.

mod data;
mod requests;
mod swarm;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use peerup_clock::SuspendDetector;
use peerup_control::api::UpReport;
use peerup_netmon::{MonitorOptions, NetMonitor, NetworkChange};
use peerup_node::{Action, Event as NodeEvent, Node};
use peerup_path::Role;
use peerup_swarm::{Admission, Event as SwarmEvent, PathHandle, PeerSwarm, Stream};
use peerup_trust::authorized_keys::AuthorizedKeys;
use peerup_tun::TunDevice;
use peerup_types::{Multiaddr, PathId, PeerId, Protocol};
use peerup_wire::{
    control::{Control, GoodbyeReason},
    hello::{FEATURE_SUPER_PACKETS, Hello, HelloAck},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

use crate::{
    api::Request,
    data::{Command, DataEvent, DataPlane, PathCounters, PeerCounters},
    echo,
    error::{DaemonError, describe},
    files::{self, Files},
    greet::{self, GreetError},
    interface::{Interface, InterfaceSettings},
    pairing::{invite::Invites, join::Joins},
    watch::FileWatch,
};

/// Finished tasks waiting for the loop.
const DONE: usize = 256;
/// The loop wakes at least this often, so that a suspend of the host is noticed.
const TICK: Duration = Duration::from_secs(1);
/// The same for a node that has nothing to watch over.
const IDLE_TICK: Duration = Duration::from_secs(5);
/// Listeners are up within milliseconds where the host has an address at all.
const LISTEN_PATIENCE: Duration = Duration::from_secs(1);
/// Peers tell their claims one after another; the file is written once for all of them.
const PERSIST_AFTER: Duration = Duration::from_millis(200);
/// What a goodbye gets to reach the peers before the process ends.
const GOODBYE_FLUSH: Duration = Duration::from_millis(150);

/// What this process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A member of the network, with an interface unless `vpn.enabled` is off.
    Member { started_by_up: bool },
    /// A host that only pairs.
    Pairing,
}

/// What a finished task brings back to the loop.
pub enum Done {
    Greeted { path: PathId, result: Result<(Stream, HelloAck), GreetError> },
    Hello { path: PathId, peer: PeerId, result: Result<(Stream, Hello), GreetError> },
    Answered { path: PathId, peer: PeerId, result: Result<Stream, GreetError> },
    Checked { path: PathId, alive: bool },
    Invite(crate::pairing::invite::Step),
    Join(crate::pairing::join::Step),
}

enum Wake {
    Swarm(SwarmEvent),
    Data(DataEvent),
    DataThreadGone,
    Done(Box<Done>),
    Request(Option<Request>),
    FilesChanged,
    NetworkChanged(NetworkChange),
    Hangup,
    Terminate,
    Timer,
}

/// A known path: how to use it, and whether anything arrives on it.
pub struct KnownPath {
    pub handle: PathHandle,
    pub counters: Arc<PathCounters>,
    /// What the peer calls its software, once identify has finished.
    pub agent: Option<String>,
    /// The signs of life counted so far.
    life: u64,
}

pub struct Controller {
    pub mode: Mode,
    pub version: &'static str,
    pub started: Instant,
    pub files: Files,
    pub keys: AuthorizedKeys,
    pub node: Node,
    pub swarm: PeerSwarm,
    pub data: DataPlane<TunDevice>,
    pub interface: Option<Interface>,
    pub paths: BTreeMap<PathId, KnownPath>,
    pub counters: BTreeMap<PeerId, Arc<PeerCounters>>,
    pub last_seen: BTreeMap<PeerId, u64>,
    pub invites: Invites,
    pub joins: Joins,
    pub done: mpsc::Sender<Done>,
    /// Relays that pairing added and the configuration does not hold yet.
    pub extra_relays: BTreeMap<PeerId, Vec<Multiaddr>>,
    pub pings: BTreeMap<u64, oneshot::Sender<Duration>>,
    pub hosts: Vec<IpAddr>,
    pub next_probe: u64,
    pub restarts: u64,
    pub keys_problem: Option<String>,
    pub config_problem: Option<String>,
    /// Paths that closed and that the data thread has not been told of.
    closed: Vec<PathId>,
    persist_at: Option<Instant>,
    finished: mpsc::Receiver<Done>,
    requests: mpsc::Receiver<Request>,
    watch: FileWatch,
    /// `None` where the host cannot tell.
    monitor: Option<NetMonitor>,
    suspend: SuspendDetector,
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// Unix time at which the next key expires.
    next_expiry: Option<u64>,
    stopping: bool,
    /// Why the loop ends, when nobody asked it to.
    failure: Option<DaemonError>,
}

/// What [`Controller::new`] is made of.
pub struct Parts {
    pub mode: Mode,
    pub version: &'static str,
    pub files: Files,
    pub keys: AuthorizedKeys,
    pub node: Node,
    pub swarm: PeerSwarm,
    pub data: DataPlane<TunDevice>,
    pub interface: Option<Interface>,
    pub requests: mpsc::Receiver<Request>,
}

impl Controller {
    /// Runs inside the control thread's runtime.
    pub fn new(parts: Parts) -> Result<Self, DaemonError> {
        let Parts { mode, version, files, keys, node, swarm, data, interface, requests } = parts;
        let (done, finished) = mpsc::channel(DONE);
        let watched = [files.config.security.authorized_keys_file.clone(), files.config_file.clone()];
        let on = |kind| signal(kind).map_err(DaemonError::Signals);
        Ok(Self {
            mode,
            version,
            started: peerup_clock::now(),
            watch: FileWatch::new(&watched),
            monitor: None,
            files,
            keys,
            node,
            swarm,
            data,
            interface,
            paths: BTreeMap::new(),
            counters: BTreeMap::new(),
            last_seen: BTreeMap::new(),
            invites: Invites::default(),
            joins: Joins::default(),
            done,
            extra_relays: BTreeMap::new(),
            pings: BTreeMap::new(),
            hosts: Vec::new(),
            next_probe: 0,
            restarts: 0,
            keys_problem: None,
            config_problem: None,
            closed: Vec::new(),
            persist_at: None,
            finished,
            requests,
            suspend: SuspendDetector::start(),
            hangup: on(SignalKind::hangup())?,
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            next_expiry: None,
            stopping: false,
            failure: None,
        })
    }

    /// Makes the keys and routes count. Nothing is dialed yet.
    pub async fn prepare(&mut self) {
        self.apply_trust();
        self.perform().await;
    }

    /// Runs until it is told to stop, then says goodbye and undoes what was done to the host.
    pub async fn run(mut self) -> Result<(), DaemonError> {
        self.monitor = open_monitor(self.files.config.vpn.interface.as_str()).await;
        self.await_listeners().await;
        self.apply_relays();
        while !self.stopping {
            self.perform().await;
            let wake = self.next_wake().await;
            self.handle(wake).await;
        }
        self.perform().await;
        self.report_drops();
        if self.persist_at.is_some() {
            self.persist();
        }
        self.end_pairing().await;
        self.say_goodbye().await;
        let undone = self.take_down().await.map(|_| ());
        self.failure.map_or(undone, Err)
    }

    /// A dial leaves from the listen port only once the listener is up. Dials that leave from another port show the
    /// relay a mapping that no punch can use, so the first dial waits for a moment.
    async fn await_listeners(&mut self) {
        let patience = tokio::time::sleep(LISTEN_PATIENCE);
        tokio::pin!(patience);
        while !self.node.addresses().has_both_transports() {
            tokio::select! {
                event = self.swarm.next_event() => self.on_swarm(event),
                () = &mut patience => return,
            }
        }
    }

    async fn next_wake(&mut self) -> Wake {
        let deadline = self.next_deadline();
        tokio::select! {
            event = self.swarm.next_event() => Wake::Swarm(event),
            event = self.data.next_event() => event.map_or(Wake::DataThreadGone, Wake::Data),
            Some(done) = self.finished.recv() => Wake::Done(Box::new(done)),
            request = self.requests.recv() => Wake::Request(request),
            () = self.watch.changed() => Wake::FilesChanged,
            change = network_change(&mut self.monitor) => Wake::NetworkChanged(change),
            _ = self.hangup.recv() => Wake::Hangup,
            _ = self.terminate.recv() => Wake::Terminate,
            _ = self.interrupt.recv() => Wake::Terminate,
            () = tokio::time::sleep_until(deadline.into()) => Wake::Timer,
        }
    }

    fn next_deadline(&self) -> Instant {
        let now = peerup_clock::now();
        let tick = now + if self.paths.is_empty() { IDLE_TICK } else { TICK };
        let due =
            [self.node.poll_timeout(), self.invites.poll_timeout(), self.join_timeout(), self.persist_at];
        due.into_iter().flatten().fold(tick, Instant::min)
    }

    async fn handle(&mut self, wake: Wake) {
        match wake {
            Wake::Swarm(event) => self.on_swarm(event),
            Wake::Data(event) => self.on_data(event).await,
            Wake::DataThreadGone => {
                tracing::error!("the data thread is gone: stopping");
                self.failure = Some(DaemonError::DataThread);
                self.stopping = true;
            }
            Wake::Done(done) => self.on_done(*done).await,
            // All handles are gone: whoever wanted this node does not any more.
            Wake::Request(None) => self.stopping = true,
            Wake::Request(Some(request)) => self.on_request(request).await,
            Wake::FilesChanged => self.reload().await,
            Wake::NetworkChanged(change) => {
                tracing::info!(?change, "the network changed: putting every path to the proof");
                self.node.handle_wake(peerup_clock::now());
            }
            Wake::Hangup => {
                self.report_drops();
                self.reload().await;
            }
            Wake::Terminate => self.stopping = true,
            Wake::Timer => {}
        }
        self.on_time().await;
    }

    async fn on_time(&mut self) {
        let now = peerup_clock::now();
        if let Some(slept) = self.suspend.tick_now() {
            tracing::info!(seconds = slept.as_secs(), "the host slept: putting every path to the proof");
            self.node.handle_wake(now);
        }
        for (path, known) in &mut self.paths {
            let life = known.counters.reads.get() + known.counters.resumed_writes.get();
            if std::mem::replace(&mut known.life, life) != life {
                self.node.handle_heard(*path);
            }
        }
        self.node.handle_timeout(now, peerup_clock::unix());
        self.on_invite_time(now).await;
        self.on_join_time(now).await;
        self.drop_expired_keys();
        if self.persist_at.is_some_and(|at| at <= now) {
            self.persist();
        }
    }

    /// Carries out what the node decided.
    async fn perform(&mut self) {
        for path in std::mem::take(&mut self.closed) {
            self.data.send(Command::Remove(path)).await;
        }
        while let Some(action) = self.node.poll_action() {
            self.act(action).await;
        }
        while let Some(event) = self.node.poll_event() {
            report(&event);
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Dial { peer, addresses, role } => self.dial(peer, addresses, role),
            Action::Reserve { relay, address } => {
                if let Err(error) = self.swarm.reserve(relay, address) {
                    tracing::debug!(%error, "reservation not requested");
                    self.node.handle_reservation_lost(relay, peerup_clock::now());
                }
            }
            Action::Check { path } => self.check(path),
            Action::Disconnect { peer } => self.swarm.disconnect(peer),
            Action::Greet { path } => self.greet(path),
            Action::Use { peer, path } => self.data.send(Command::Use { peer, path }).await,
            Action::Probe { path } => {
                self.next_probe += 1;
                self.data.send(Command::Probe { path, id: self.next_probe }).await;
            }
            Action::Say { path, control } => self.data.send(Command::Say { path, control }).await,
            Action::Close { path } => {
                self.data.send(Command::Remove(path)).await;
                self.swarm.close(path);
            }
            Action::Route { table, hosts } => {
                for (_, peer) in table.peers() {
                    self.counters.entry(*peer).or_default();
                }
                let counters = self.counters.clone();
                self.data.send(Command::Table { table, counters }).await;
                self.route(hosts).await;
            }
            Action::Readdress { address } => {
                if let Some(interface) = &mut self.interface
                    && let Err(error) = interface.readdress(address).await
                {
                    tracing::error!(error = %describe(&error), "cannot change the overlay address");
                }
            }
            Action::Persist => {
                self.persist_at.get_or_insert(peerup_clock::now() + PERSIST_AFTER);
            }
            Action::Candidate(address) => self.swarm.add_candidate(address),
        }
    }

    /// Writes the claims that changed a moment ago, several changes at once.
    fn persist(&mut self) {
        self.persist_at = None;
        if let Err(error) = self.files.write_membership(self.node.membership()) {
            tracing::error!(error = %describe(&error), "cannot keep the address claims");
        }
    }

    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, role: Role) {
        let dialed = match role {
            Role::Dialer => self.swarm.dial(peer, addresses),
            Role::Listener => self.swarm.dial_as_listener(peer, addresses),
        };
        if let Err(error) = dialed {
            tracing::debug!(%error, "not dialed");
            self.node.handle_dial_failed(&peer, peerup_clock::now());
        }
    }

    fn greet(&self, path: PathId) {
        let Some(known) = self.paths.get(&path) else { return };
        let (handle, hello, done) = (known.handle.clone(), self.node.hello(), self.done.clone());
        tokio::spawn(async move {
            let result = greet::greet(handle, hello).await;
            let _ = done.send(Done::Greeted { path, result }).await;
        });
    }

    fn check(&self, path: PathId) {
        let Some(known) = self.paths.get(&path) else { return };
        let (handle, done) = (known.handle.clone(), self.done.clone());
        tokio::spawn(async move {
            let alive = echo::answers(&handle).await;
            let _ = done.send(Done::Checked { path, alive }).await;
        });
    }

    async fn route(&mut self, hosts: Vec<IpAddr>) {
        if let Some(interface) = &mut self.interface
            && let Err(error) = interface.route(&hosts).await
        {
            tracing::error!(error = %describe(&error), "cannot set the routes to peers");
        }
        self.hosts = hosts;
    }

    async fn on_done(&mut self, done: Done) {
        match done {
            Done::Greeted { path, result } => self.on_greeted(path, result).await,
            Done::Hello { path, peer, result } => self.on_hello(path, peer, result),
            Done::Answered { path, peer, result } => match result {
                Ok(stream) => self.add_inlet(path, peer, stream).await,
                Err(error) => tracing::debug!(%peer, %path, %error, "hello not answered"),
            },
            Done::Checked { alive: true, .. } => {}
            Done::Checked { path, alive: false } => self.swarm.close(path),
            Done::Invite(step) => self.on_invite_step(step).await,
            Done::Join(step) => self.on_join_step(step).await,
        }
    }

    async fn on_greeted(&mut self, path: PathId, result: Result<(Stream, HelloAck), GreetError>) {
        let now = peerup_clock::now();
        let Some(peer) = self.paths.get(&path).map(|known| known.handle.peer) else { return };
        match result {
            Ok((stream, ack)) => {
                if let HelloAck::Refused { reason, .. } = &ack {
                    tracing::warn!(%peer, reason = reason.as_str(), "the peer refused us");
                }
                let Some(known) = self.paths.get(&path) else { return };
                let counters = known.counters.clone();
                let supers = takes_supers(&ack);
                self.data.send(Command::Outlet { path, peer, stream, counters, supers }).await;
                if self.node.handle_ack(path, &ack, now, peerup_clock::unix()) {
                    self.seen(peer);
                }
            }
            Err(error) => {
                tracing::debug!(%peer, %path, %error, "not greeted");
                self.node.handle_broken(path, now);
            }
        }
    }

    fn on_hello(&mut self, path: PathId, peer: PeerId, result: Result<(Stream, Hello), GreetError>) {
        let (stream, hello) = match result {
            Ok(read) => read,
            Err(error) => return tracing::debug!(%peer, %path, %error, "no hello"),
        };
        let ack = self.node.handle_hello(path, &peer, &hello, peerup_clock::now(), peerup_clock::unix());
        let accepted = matches!(ack, HelloAck::Accepted(_));
        let done = self.done.clone();
        tokio::spawn(async move {
            let result = greet::answer(stream, ack).await;
            if accepted {
                let _ = done.send(Done::Answered { path, peer, result }).await;
            }
        });
    }

    async fn add_inlet(&mut self, path: PathId, peer: PeerId, stream: Stream) {
        let Some(known) = self.paths.get(&path) else { return };
        let counters = known.counters.clone();
        self.data.send(Command::Inlet { path, peer, stream, counters }).await;
    }

    pub fn seen(&mut self, peer: PeerId) {
        self.last_seen.insert(peer, peerup_clock::unix());
    }

    // Trust

    /// Reads `authorized_keys` and the configuration again. What cannot be read keeps its old meaning.
    pub async fn reload(&mut self) {
        self.config_problem = self.files.reload().err().map(|error| describe(&error));
        if let Some(problem) = &self.config_problem {
            tracing::error!(%problem, "the configuration in use stays");
        }
        match self.files.keys() {
            Ok(keys) => {
                self.keys = keys;
                self.keys_problem = None;
            }
            Err(error) => {
                tracing::error!(error = %describe(&error), "the keys in use stay");
                self.keys_problem = Some(describe(&error));
            }
        }
        self.apply_relays();
        self.apply_trust();
    }

    /// Makes the keys count: who may connect, who is a member, who is routed to.
    pub fn apply_trust(&mut self) {
        let (now, unix) = (peerup_clock::now(), peerup_clock::unix());
        let own = self.swarm.local_peer();
        self.next_expiry = self.keys.next_expiry(unix);
        let members = files::members(&self.keys, unix);
        let authorized: BTreeSet<PeerId> = members.keys().copied().filter(|peer| *peer != own).collect();
        match self.mode {
            Mode::Member { .. } => {
                let pin = self.files.config.vpn.address;
                if let Err(error) = self.node.set_members(members, pin, now, unix) {
                    tracing::error!(error = %describe(&error), "a pinned address is not used");
                }
            }
            // A host that only pairs keeps the books and connects to nobody.
            Mode::Pairing => {
                let membership = self.node.membership_mut();
                membership.set_authorized(authorized.clone(), unix);
                self.node.follow_membership();
            }
        }
        let authorized = if self.mode == Mode::Pairing { BTreeSet::new() } else { authorized };
        let infrastructure = self.relays().into_keys().collect();
        let guests = self.invites.is_open();
        self.swarm.set_admission(Admission { authorized, infrastructure, guests, open: false });
    }

    pub fn apply_relays(&mut self) {
        let relays = self.relays();
        self.node.set_relays(relays, peerup_clock::now());
    }

    fn relays(&self) -> BTreeMap<PeerId, Vec<Multiaddr>> {
        let configured = self.files.config.relays().into_iter().map(|relay| (relay.peer, relay.addresses));
        let mut relays: BTreeMap<_, _> = self.extra_relays.clone();
        relays.extend(configured);
        relays
    }

    /// An expired key stops counting the moment it expires.
    fn drop_expired_keys(&mut self) {
        if self.next_expiry.is_some_and(|at| at <= peerup_clock::unix()) {
            self.apply_trust();
        }
    }

    // Interface

    pub async fn bring_up(&mut self) -> Result<UpReport, DaemonError> {
        let already_up = self.interface.is_some();
        if !already_up {
            let settings = interface_settings(&self.files, &self.node);
            let addresses = self.node.membership().own_addrs();
            let (interface, device) = Interface::up(settings, addresses, self.data.io()).await?;
            self.interface = Some(interface);
            self.data.send(Command::Attach(device)).await;
            self.route(self.hosts.clone()).await;
        }
        Ok(self.up_report(already_up))
    }

    pub async fn take_down(&mut self) -> Result<Option<String>, DaemonError> {
        let Some(interface) = self.interface.take() else { return Ok(None) };
        let name = interface.name().to_owned();
        let undone = interface.down().await;
        // The link goes with the last handle of its device.
        let (closed, closing) = oneshot::channel();
        self.data.send(Command::Detach(closed)).await;
        let _ = closing.await;
        undone.map(|()| Some(name))
    }

    /// What became of packets that went nowhere, for the log.
    fn report_drops(&self) {
        for (reason, packets) in self.data.counters.reasons().into_iter().filter(|(_, packets)| *packets > 0)
        {
            tracing::info!(reason, packets, "packets dropped");
        }
    }

    pub fn stop(&mut self) {
        self.stopping = true;
    }

    async fn say_goodbye(&mut self) {
        peerup_service::notify::stopping();
        let paths = self.node.active_paths();
        if paths.is_empty() {
            return;
        }
        for path in paths {
            let control = Control::Goodbye(GoodbyeReason::Shutdown);
            self.data.send(Command::Say { path, control }).await;
        }
        // The connections' tasks run on the data thread; the swarm only has to live until they have written.
        let flush = tokio::time::sleep(GOODBYE_FLUSH);
        tokio::pin!(flush);
        loop {
            tokio::select! {
                () = &mut flush => break,
                _ = self.swarm.next_event() => {}
            }
        }
    }
}

/// Notices of the host's own network changes, without those that we cause.
async fn open_monitor(own_interface: &str) -> Option<NetMonitor> {
    let options = MonitorOptions {
        ignore_interfaces: vec![own_interface.to_owned()],
        ignore_route_protocol: Some(peerup_netcfg::ROUTE_PROTOCOL),
    };
    NetMonitor::open(options)
        .await
        .inspect_err(|error| tracing::warn!(%error, "network changes are only noticed by lost packets"))
        .ok()
}

async fn network_change(monitor: &mut Option<NetMonitor>) -> NetworkChange {
    match monitor {
        Some(monitor) => monitor.changed().await,
        None => std::future::pending().await,
    }
}

fn takes_supers(ack: &HelloAck) -> bool {
    match ack {
        HelloAck::Accepted(hello) => hello.features & FEATURE_SUPER_PACKETS != 0,
        HelloAck::Refused { .. } => false,
    }
}

pub fn interface_settings(files: &Files, node: &Node) -> InterfaceSettings {
    let vpn = &files.config.vpn;
    InterfaceSettings {
        name: vpn.interface.as_str().to_owned(),
        mtu: vpn.mtu,
        v4_range: vpn.cidr,
        v6_range: node.membership().v6_prefix(),
        journal: files.state.netcfg_journal.clone(),
    }
}

/// Tells the log what a user would notice.
fn report(event: &NodeEvent) {
    match event {
        NodeEvent::PathChanged { peer, from, to, reason } => {
            let word = |kind: &Option<peerup_types::PathKind>| {
                kind.map_or("none".to_owned(), |kind| {
                    format!("{} {} {}", kind.class, kind.family, kind.carrier)
                })
            };
            tracing::info!(%peer, from = word(from), to = word(to), reason = reason.as_str(), "path changed");
        }
        NodeEvent::RelayReserved { relay } => tracing::info!(%relay, "reservation held"),
        NodeEvent::RelayLost { relay } => tracing::warn!(%relay, "reservation lost"),
        NodeEvent::AddressLost { address, winner } => {
            tracing::warn!(%address, %winner, "the address was claimed earlier by another peer");
        }
    }
}

/// `address` without a trailing `/p2p/...`.
pub fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}
