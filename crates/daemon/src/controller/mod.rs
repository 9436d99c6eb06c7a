//! The control loop: one owner of everything slow, one closed set of wake-ups.

mod actions;
mod config;
mod data;
mod dialed;
mod interface;
mod relaying;
mod requests;
mod services;
mod swarm;
mod trust;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use peerup_clock::SuspendDetector;
use peerup_netmon::{MonitorOptions, NetMonitor, NetworkChange};
use peerup_node::Node;
use peerup_swarm::{Event as SwarmEvent, PathHandle, PeerSwarm, Stream};
use peerup_trust::{authorized_keys::AuthorizedKeys, pairing::Introduction};
use peerup_types::{Multiaddr, PathId, PeerId, Protocol};
use peerup_wire::{
    control::{Control, GoodbyeReason},
    hello::{Hello, HelloAck},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

use crate::{
    api::Request,
    data::{Command, DataEvent, DataPlane, PathCounters, PeerCounters},
    device::AnyDevice,
    error::DaemonError,
    events::Readers,
    files::Files,
    greet::GreetError,
    interface::Interface,
    observe::Observer,
    pairing::{group::GroupError, invite::Invites, join::Joins},
    services::Services,
    surroundings::Surroundings,
    watch::FileWatch,
};

pub use interface::interface_settings;
pub use relaying::{Relaying, limits as relay_limits, overview as relaying_overview};
pub use services::ServiceRequest;

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

/// What a command gets to ask of its own host after Ctrl-C.
const LAST_QUESTION: Duration = Duration::from_secs(1);

/// What this process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A member of the network, with an interface unless `vpn.enabled` is off.
    Member { started_by_up: bool },
    /// A host that only pairs.
    Pairing,
    /// A member for the time of one command: it reaches others, and offers them nothing.
    Visitor,
}

/// What a finished task brings back to the loop.
pub enum Done {
    Greeted { path: PathId, result: Result<(Stream, HelloAck), GreetError> },
    Hello { path: PathId, peer: PeerId, result: Result<(Stream, Hello), GreetError> },
    Answered { path: PathId, peer: PeerId, result: Result<Stream, GreetError> },
    Checked { path: PathId, alive: bool },
    Found(crate::surroundings::Found),
    Invite(crate::pairing::invite::Step),
    Join(crate::pairing::join::Step),
    Introduced { relay: PeerId, result: Result<Introduction, GroupError> },
}

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Stopped,
    /// The configuration wants parts that are made at the start.
    Again,
}

enum Wake {
    Swarm(SwarmEvent),
    Data(DataEvent),
    DataThreadGone,
    Done(Box<Done>),
    Request(Option<Request>),
    FilesChanged,
    NetworkChanged(NetworkChange),
    PortMapping(peerup_portmap::State),
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
    /// Those of them that sessions showed.
    sessions_heard: u64,
}

pub struct Controller {
    pub mode: Mode,
    pub version: &'static str,
    pub started: Instant,
    pub files: Files,
    pub keys: AuthorizedKeys,
    pub node: Node,
    pub swarm: PeerSwarm,
    pub data: DataPlane<AnyDevice>,
    pub interface: Option<Interface>,
    /// Whether this node does without a network device.
    pub userspace: bool,
    pub paths: BTreeMap<PathId, KnownPath>,
    pub counters: BTreeMap<PeerId, Arc<PeerCounters>>,
    pub last_seen: BTreeMap<PeerId, u64>,
    pub invites: Invites,
    pub joins: Joins,
    pub services: Services,
    pub done: mpsc::Sender<Done>,
    /// Relays that pairing added and the configuration does not hold yet.
    pub extra_relays: BTreeMap<PeerId, Vec<Multiaddr>>,
    pub relaying: Relaying,
    pub pings: BTreeMap<u64, oneshot::Sender<Duration>>,
    pub hosts: Vec<IpAddr>,
    pub next_probe: u64,
    dialed: dialed::Dialed,
    pub restarts: u64,
    /// Where metrics or the audit log are on.
    pub observer: Option<Box<Observer>>,
    /// Readers of `/v1/events`.
    pub events: Readers,
    pub surroundings: Surroundings,
    pub keys_problem: Option<String>,
    pub config_problem: Option<String>,
    pub standing: config::Standing,
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
    /// When a visitor that was interrupted goes.
    leaving: Option<Instant>,
    again: bool,
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
    pub data: DataPlane<AnyDevice>,
    pub interface: Option<Interface>,
    /// Whether this node does without a network device.
    pub userspace: bool,
    pub requests: mpsc::Receiver<Request>,
}

impl Controller {
    /// Runs inside the control thread's runtime.
    pub fn new(parts: Parts) -> Result<Self, DaemonError> {
        let Parts { mode, version, files, keys, node, swarm, data, interface, userspace, requests } = parts;
        let (done, finished) = mpsc::channel(DONE);
        let watched = config::watched(&files);
        let standing = config::Standing::new(&files, peerup_clock::now());
        let network = &files.config.network;
        let surroundings =
            Surroundings::new(network.external_addresses.clone(), network.force_private_reachability);
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
            userspace,
            paths: BTreeMap::new(),
            counters: BTreeMap::new(),
            last_seen: BTreeMap::new(),
            invites: Invites::default(),
            joins: Joins::default(),
            services: Services::default(),
            done,
            extra_relays: BTreeMap::new(),
            relaying: Relaying::default(),
            pings: BTreeMap::new(),
            hosts: Vec::new(),
            next_probe: 0,
            dialed: dialed::Dialed::default(),
            restarts: 0,
            observer: None,
            events: Readers::default(),
            surroundings,
            keys_problem: None,
            config_problem: None,
            standing,
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
            leaving: None,
            again: false,
            failure: None,
        })
    }

    /// Makes the keys and routes count. Nothing is dialed yet.
    pub async fn prepare(&mut self) {
        self.data.send(Command::Carriers(self.files.config.vpn.carrier)).await;
        self.apply_trust();
        self.configure_services();
        self.perform().await;
    }

    /// Runs until it is told to stop, then says goodbye and undoes what was done to the host.
    pub async fn run(mut self) -> Result<End, DaemonError> {
        self.monitor = open_monitor(self.files.config.vpn.interface.as_str()).await;
        self.await_listeners().await;
        self.look_around().await;
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
        self.leave_surroundings().await;
        let end = if self.again { End::Again } else { End::Stopped };
        let undone = self.take_down().await.map(|_| end);
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
            state = self.surroundings.port_mapping() => Wake::PortMapping(state),
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
        let due = due.into_iter().chain([
            self.surroundings.poll_timeout(),
            self.standing.poll_timeout(),
            self.leaving,
        ]);
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
                self.on_network_changed(&change);
                if let Some(observer) = &self.observer {
                    observer.network_changed(&change);
                }
                self.node.handle_wake(peerup_clock::now());
            }
            Wake::PortMapping(state) => self.on_port_mapping(state),
            Wake::Hangup => {
                self.report_drops();
                self.reload().await;
            }
            // The command that this host visits for was interrupted too, and has a last question to ask.
            Wake::Terminate if self.mode == Mode::Visitor => {
                self.leaving.get_or_insert(peerup_clock::now() + LAST_QUESTION);
            }
            Wake::Terminate => self.stop(),
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
            let life = known.counters.signs_of_life() + known.handle.usage.heard();
            if std::mem::replace(&mut known.life, life) != life {
                self.node.handle_heard(*path, now);
            }
        }
        self.note_sessions(now);
        self.node.handle_timeout(now, peerup_clock::unix());
        self.tend_sessions(now);
        self.on_invite_time(now).await;
        self.on_join_time(now).await;
        self.on_surroundings_time(now);
        self.drop_expired_keys();
        self.on_config_time(now).await;
        self.follow_relaying();
        self.tell_health(now);
        if self.leaving.is_some_and(|at| at <= now) {
            self.stop();
        }
        if self.persist_at.is_some_and(|at| at <= now) {
            self.persist();
        }
    }

    pub fn seen(&mut self, peer: PeerId) {
        self.last_seen.insert(peer, peerup_clock::unix());
    }

    /// What became of packets that went nowhere, for the log.
    fn report_drops(&self) {
        for (reason, packets) in self.data.counters.reasons().into_iter().filter(|(_, packets)| *packets > 0)
        {
            tracing::info!(reason, packets, "packets dropped");
        }
        let counters = &self.data.counters;
        if counters.marked.get() > 0 {
            tracing::info!(packets = counters.marked.get(), "packets marked for congestion");
        }
        let (sent, received) = (counters.datagrams_sent.get(), counters.datagrams_received.get());
        if sent + received > 0 {
            tracing::info!(sent, received, "packets as datagrams");
        }
        let (resent, duplicates, waited) =
            (counters.resent.get(), counters.duplicates.get(), counters.reordered.get());
        if resent + duplicates + waited > 0 {
            tracing::info!(resent, duplicates, waited, "frames at changes of path");
        }
    }

    /// Ends the loop to begin anew with the configuration as it is.
    fn start_again(&mut self) {
        self.again = true;
        self.stopping = true;
    }

    pub fn stop(&mut self) {
        self.again = false;
        self.stopping = true;
    }

    async fn say_goodbye(&mut self) {
        if !self.again {
            peerup_service::notify::stopping();
        }
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

/// `address` without a trailing `/p2p/...`.
pub fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}
