//! The loop that owns the relay: its swarm, its list of authorized keys, its admissions.

mod config;
mod listen;
mod observing;
mod pairing;
mod vouching;

use std::{collections::BTreeSet, path::Path, time::Duration};

use peerup_config::{RelayConfig, RelayStatePaths, Resources};
use peerup_service::{
    files::{ConfigStore, FileLock},
    notify::{self, watchdog_interval},
};
use peerup_swarm::{Admission, Event, PeerSwarm, Profile, RelayLimits, SwarmConfig};
use peerup_types::{Keypair, Multiaddr, PeerId};
use peerup_wire::protocol;
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{Interval, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    addresses,
    admissions::Admissions,
    connections::Connections,
    counters::Counters,
    error::RelayError,
    files::{KeyFile, load_config, load_or_create_identity},
    watch::FileWatch,
};
use observing::{Observing, Question};
use pairing::{Pairing, Shown};
use vouching::Asked;

/// A mesh of 64 nodes, each with two circuits to everybody: one at work and one that replaces it.
const MAX_CIRCUITS_PER_PEER: usize = 128;
const REPORT_EVERY: Duration = Duration::from_secs(15 * 60);
/// Expiry is a date, and the date may be corrected while nobody looks.
const LOOK_AT_DATE_EVERY: Duration = Duration::from_secs(60);
/// For telling the peers that the relay goes.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// What the process wants of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Read configuration and authorized keys again.
    Reload,
    Stop,
}

/// How the relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Stopped,
    Again,
}

/// Who and where the relay is, once it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeReport {
    pub peer_id: PeerId,
    /// Addresses that nodes can use, without the peer ID.
    pub addresses: Vec<Multiaddr>,
}

/// A relay that listens.
pub struct Relay {
    config: RelayConfig,
    swarm: PeerSwarm,
    keys: KeyFile,
    admissions: Admissions,
    admission: Admission,
    /// The next time at which a key stops admitting its peer, as of the last look at the keys.
    expiry: Option<u64>,
    connections: Connections,
    listening: Vec<Multiaddr>,
    /// Listeners that a rebuilt swarm could not bind yet.
    unbound: Vec<Multiaddr>,
    bind_again: Option<std::time::Instant>,
    report: ServeReport,
    counters: Counters,
    vouching: JoinSet<Option<Asked>>,
    pairing: Pairing,
    watch: FileWatch,
    observing: Observing,
    standing: config::Standing,
    /// Whether the configuration wants parts that are made at the start.
    again: bool,
    _lock: FileLock,
}

enum Wake {
    Question(Question),
    Command(Option<Command>),
    Swarm(Event),
    Vouching(Result<Option<Asked>, JoinError>),
    Pairing(Result<Option<Shown>, JoinError>),
    KeysChanged,
    ConfigChanged,
    Timeout,
    Report,
    Watchdog,
}

impl Relay {
    /// Reads the files, binds every listener and finds out where others reach them. `io` runs the connections.
    pub async fn start(config_file: &Path, version: &str, io: Handle) -> Result<Self, RelayError> {
        let config_file = std::path::absolute(config_file).unwrap_or_else(|_| config_file.to_owned());
        let lock = FileLock::acquire(&RelayStatePaths::beside(&config_file).lock)?;
        ConfigStore::beside(&config_file).settle(peerup_clock::since_epoch())?;
        let config = load_config(&config_file)?;
        let keypair = load_or_create_identity(&config.identity.key_file)?;
        let keys = KeyFile::load_or_create(config.security.authorized_keys_file.clone())?;
        let mut swarm = PeerSwarm::new(swarm_config(&config, keypair, version, io))?;
        let observing = Observing::start(&config, &config_file, version, &mut swarm).await?;
        let connections = connections(&config.resources);
        let report = ServeReport { peer_id: swarm.local_peer(), addresses: Vec::new() };
        let pairing = Pairing::load(RelayStatePaths::beside(&config_file).pairing);
        let watch = FileWatch::new(&[keys.path(), pairing.file()]);
        let standing = config::Standing::new(&config_file, config.resolved())?;
        let mut relay = Self {
            config,
            swarm,
            keys,
            admissions: Admissions::default(),
            admission: Admission::default(),
            expiry: None,
            connections,
            listening: Vec::new(),
            unbound: Vec::new(),
            bind_again: None,
            report,
            counters: Counters::default(),
            vouching: JoinSet::new(),
            pairing,
            watch,
            observing,
            standing,
            again: false,
            _lock: lock,
        };
        relay.warn_about_config();
        relay.apply_admission();
        relay.listen().await?;
        Ok(relay)
    }

    fn warn_about_config(&self) {
        if !self.config.security.enable_connection_gating {
            tracing::warn!(
                "CONNECTION GATING IS OFF: everybody who finds this relay can use it and its bandwidth; \
                 set security.enable_connection_gating to true"
            );
        } else if self.keys.authorized(peerup_clock::unix()).is_empty() {
            tracing::warn!(
                file = %self.keys.path().display(),
                "nobody is authorized yet; `peerup relay authorize PEER_ID` adds a machine"
            );
        }
    }

    pub fn report(&self) -> &ServeReport {
        &self.report
    }

    /// Serves until it is told to stop or nobody is left to tell it, or has to start again.
    pub async fn run(mut self, commands: &mut mpsc::Receiver<Command>) -> End {
        let mut report = every(REPORT_EVERY);
        let mut watchdog = watchdog_interval().map(every);
        while !self.again {
            match self.next_wake(commands, &mut report, &mut watchdog).await {
                Wake::Command(Some(Command::Reload)) => {
                    self.reload();
                    self.reload_config();
                }
                Wake::KeysChanged => self.reload(),
                Wake::ConfigChanged => self.reload_config(),
                Wake::Command(Some(Command::Stop) | None) => {
                    notify::stopping();
                    self.stop().await;
                    return End::Stopped;
                }
                Wake::Swarm(event) => self.handle_event(event),
                Wake::Vouching(finished) => self.handle_vouching(finished),
                Wake::Pairing(finished) => self.handle_pairing(finished),
                Wake::Timeout => self.handle_timeout(),
                Wake::Report => self.log_counters(),
                Wake::Question(question) => self.answer_question(question),
                Wake::Watchdog => notify::watchdog(),
            }
        }
        self.stop().await;
        End::Again
    }

    /// What is ours to do comes before what the network wants.
    async fn next_wake(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        report: &mut Interval,
        watchdog: &mut Option<Interval>,
    ) -> Wake {
        let until_timeout = self.until_timeout();
        tokio::select! {
            biased;
            command = commands.recv() => Wake::Command(command),
            () = tick(watchdog) => Wake::Watchdog,
            () = self.watch.changed() => Wake::KeysChanged,
            () = self.standing.changed() => Wake::ConfigChanged,
            () = optional_sleep(until_timeout) => Wake::Timeout,
            Some(finished) = self.vouching.join_next() => Wake::Vouching(finished),
            Some(finished) = self.pairing.next() => Wake::Pairing(finished),
            _ = report.tick() => Wake::Report,
            question = self.observing.question() => Wake::Question(question),
            event = self.swarm.next_event() => Wake::Swarm(event),
        }
    }

    fn until_timeout(&self) -> Option<Duration> {
        let (now, unix_now) = (peerup_clock::now(), peerup_clock::unix());
        let timers = self.admissions.poll_timeout().into_iter().chain(self.bind_again);
        let timers = timers.chain(self.standing.poll_timeout()).min();
        let timer = timers.map(|at| at.saturating_duration_since(now));
        let expiry = self.expiry.map(|at| Duration::from_secs(at.saturating_sub(unix_now)));
        let expiry = expiry.map(|wait| wait.min(LOOK_AT_DATE_EVERY));
        timer.into_iter().chain(expiry).min()
    }

    fn handle_timeout(&mut self) {
        let now = peerup_clock::now();
        let guests = self.admissions.handle_timeout(now);
        self.cut_off(guests);
        self.apply_admission();
        if self.bind_again.is_some_and(|at| at <= now) {
            self.bind_again();
        }
        self.on_config_time(now);
    }

    fn reload(&mut self) {
        self.pairing.reload();
        match self.keys.reload() {
            Ok(()) => self.apply_admission(),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                hint = error.hint(),
                "the authorized keys cannot be read; the earlier ones stay in force"
            ),
        }
    }

    /// Tells the swarm who may use the relay, after anything that decides it has changed.
    fn apply_admission(&mut self) {
        let (now, unix_now) = (peerup_clock::now(), peerup_clock::unix());
        let codes = self.pairing.open_until(unix_now);
        self.expiry = self.keys.next_expiry(unix_now).into_iter().chain(codes).min();
        let authorized = self.keys.authorized(unix_now);
        let guests = self.admissions.handle_authorized(|inviter| authorized.contains(inviter));
        let admission = Admission {
            authorized,
            infrastructure: BTreeSet::new(),
            guests: self.admissions.is_any_open(now) || codes.is_some(),
            open: !self.config.security.enable_connection_gating,
        };
        if admission != self.admission {
            tracing::info!(authorized = admission.authorized.len(), guests = admission.guests, "admission");
            self.admission = admission.clone();
            self.swarm.set_admission(admission);
        }
        self.cut_off(guests);
    }

    /// Disconnects guests whose admission has ended, except those that have become more than guests.
    fn cut_off(&mut self, guests: Vec<PeerId>) {
        for guest in guests {
            if !self.may_use_relay(&guest) {
                tracing::info!(%guest, "its admission has ended: closing its connections");
                self.swarm.disconnect(guest);
            }
        }
    }

    fn may_use_relay(&self, peer: &PeerId) -> bool {
        self.admission.open || self.keys.is_authorized(peer, peerup_clock::unix())
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::PathOpened(path) => {
                self.connections.handle_opened(path.path, path.peer, addresses::ip_of(&path.remote));
                self.pairing.handle_opened(path);
            }
            Event::PathClosed { path, .. } => {
                self.connections.handle_closed(path);
                self.pairing.handle_closed(path);
            }
            Event::Inbound(stream) if stream.protocol.as_ref() == protocol::RELAY_PAIR => {
                self.handle_code(stream);
            }
            Event::Inbound(stream) => self.handle_stream(stream),
            Event::Listening(address) => self.handle_listening(address),
            Event::ListenExpired(address) => self.listening.retain(|listening| *listening != address),
            Event::ListenFailed(error) => self.handle_listen_failed(error),
            Event::ReservationGranted { peer, renewed } => self.handle_reservation(peer, renewed),
            Event::RelayRefused { peer, reason } => {
                tracing::debug!(%peer, reason = reason.as_str(), "reservation or circuit refused");
                self.counters.refused += 1;
            }
            Event::CircuitOpened { source, destination } => self.handle_circuit_opened(source, destination),
            Event::CircuitClosed { source, destination } => {
                self.counters.circuits_closed += 1;
                self.admissions.handle_circuit_closed(&source, &destination);
            }
            Event::Decided(decision) => self.observing.decided(decision),
            Event::Restarted { panic } => self.handle_restart(&panic),
            Event::Identified { peer, path, agent, .. } => {
                tracing::debug!(%peer, agent, "identified");
                if let Some(path) = path {
                    self.introduce_to(peer, path);
                }
            }
            Event::ReservationEnded { peer } => self.connections.handle_reservation_ended(&peer),
            // A relay dials nobody and reserves nowhere.
            Event::DialFailed { .. }
            | Event::Reserved { .. }
            | Event::ReservationLost { .. }
            | Event::Discovered { .. }
            | Event::Found { .. }
            | Event::Tested { .. }
            | Event::HolePunch { .. } => {}
        }
    }

    fn handle_reservation(&mut self, peer: PeerId, renewed: bool) {
        tracing::debug!(%peer, renewed, "reservation");
        self.counters.reservations += u64::from(!renewed);
        if let Err(exceeded) = self.connections.handle_reservation(peer) {
            tracing::info!(%peer, %exceeded, "closing its connections");
            self.counters.refused += 1;
            self.swarm.disconnect(peer);
        }
    }

    fn handle_circuit_opened(&mut self, source: PeerId, destination: PeerId) {
        self.counters.circuits_opened += 1;
        tracing::debug!(%source, %destination, "circuit opened");
        if self.may_use_relay(&source) {
            return;
        }
        if !self.admissions.handle_circuit_opened(source, &destination, peerup_clock::now()) {
            tracing::info!(%source, %destination, "a guest may not open this circuit: closing its connections");
            self.counters.refused += 1;
            self.swarm.disconnect(source);
        }
    }

    fn handle_restart(&mut self, panic: &str) {
        tracing::error!(panic, "libp2p panicked and was started again; peers will reconnect");
        self.counters.restarts += 1;
        self.connections.handle_restart();
        self.pairing.handle_restart();
        self.listening.clear();
        self.admissions.handle_restart();
    }

    async fn stop(mut self) {
        self.log_counters();
        for peer in self.connections.peers() {
            self.swarm.disconnect(peer);
        }
        let closed = async {
            while !self.connections.is_empty() {
                let event = self.swarm.next_event().await;
                self.handle_event(event);
            }
        };
        if timeout(STOP_DEADLINE, closed).await.is_err() {
            tracing::debug!("not every connection closed in time");
        }
    }

    fn log_counters(&self) {
        self.counters.log(self.connections.len(), self.swarm.refused());
    }
}

fn swarm_config(config: &RelayConfig, keypair: Keypair, version: &str, io: Handle) -> SwarmConfig {
    SwarmConfig {
        keypair,
        agent: format!("relay-server/{version}"),
        dht_protocol: protocol::kad_protocol(config.discovery.network.as_ref()),
        overlay: Vec::new(),
        profile: Profile::Relay(limits(&config.resources)),
        authorized_protocols: vec![protocol::VOUCH, protocol::RELAY_PAIR],
        infrastructure_protocols: Vec::new(),
        guest_protocols: vec![protocol::RELAY_PAIR],
        services: None,
        io,
    }
}

fn connections(resources: &Resources) -> Connections {
    Connections::new(resources.max_reservations_per_ip as usize, resources.max_reservations_per_asn as usize)
}

fn limits(resources: &Resources) -> RelayLimits {
    RelayLimits {
        max_reservations: resources.max_reservations as usize,
        max_circuits: resources.max_circuits as usize,
        max_circuits_per_peer: MAX_CIRCUITS_PER_PEER,
        reservation_ttl: resources.reservation_ttl,
        circuit_duration: resources.session_duration,
        // libp2p counts both directions together.
        circuit_bytes: resources.session_data_limit.map_or(0, |bytes| bytes.saturating_mul(2)),
    }
}

/// Ticks from one period after the start.
fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval.reset();
    interval
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

async fn optional_sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => sleep(wait).await,
        None => std::future::pending().await,
    }
}
