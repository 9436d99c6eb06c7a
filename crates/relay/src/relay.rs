//! The loop that owns the relay: its swarm, its list of authorized keys, its admissions.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    time::Duration,
};

use peerup_config::{RelayConfig, RelayStatePaths, Resources};
use peerup_service::{
    files::FileLock,
    interface_addresses,
    notify::{self, watchdog_interval},
};
use peerup_swarm::{
    Admission, Event, InboundStream, ListenError, PeerSwarm, Profile, RelayLimits, Stream, SwarmConfig,
};
use peerup_types::{Keypair, Multiaddr, PathId, PeerId};
use peerup_wire::{
    protocol,
    vouch::{Request, VouchError},
};
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    addresses,
    admissions::Admissions,
    counters::Counters,
    error::RelayError,
    files::{KeyFile, load_config, load_or_create_identity},
    vouch::{self, Refusal},
    watch::FileWatch,
};

/// Vouching streams whose request is being read. An inviter needs one for a moment.
const MAX_VOUCH_STREAMS: usize = 16;
/// Streams above that are told so, and dropped when even telling piles up.
const MAX_VOUCH_TASKS: usize = 2 * MAX_VOUCH_STREAMS;
/// A mesh of 64 nodes, each with two circuits to everybody: one at work and one that replaces it.
const MAX_CIRCUITS_PER_PEER: usize = 128;
const REPORT_EVERY: Duration = Duration::from_secs(15 * 60);
/// Expiry is a date, and the date may be corrected while nobody looks.
const LOOK_AT_DATE_EVERY: Duration = Duration::from_secs(60);
/// Binding local ports takes no time; this only bounds a wait for what never happens.
const BIND_DEADLINE: Duration = Duration::from_secs(5);
const BIND_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// For telling the peers that the relay goes.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// What the process wants of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Read the authorized keys again.
    Reload,
    Stop,
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
    connections: BTreeMap<PathId, PeerId>,
    listening: Vec<Multiaddr>,
    /// Listeners that a rebuilt swarm could not bind yet.
    unbound: Vec<Multiaddr>,
    bind_again: Option<std::time::Instant>,
    report: ServeReport,
    counters: Counters,
    vouching: JoinSet<Option<Asked>>,
    watch: FileWatch,
    _lock: FileLock,
}

/// A vouching request, and the stream that waits for the answer.
struct Asked {
    inviter: PeerId,
    request: Result<Request, VouchError>,
    stream: Stream,
}

enum Wake {
    Command(Option<Command>),
    Swarm(Event),
    Vouching(Result<Option<Asked>, JoinError>),
    KeysChanged,
    Timeout,
    Report,
    Watchdog,
}

impl Relay {
    /// Reads the files, binds every listener and finds out where others reach them. `io` runs the connections.
    pub async fn start(config_file: &Path, version: &str, io: Handle) -> Result<Self, RelayError> {
        let config_file = std::path::absolute(config_file).unwrap_or_else(|_| config_file.to_owned());
        let config = load_config(&config_file)?;
        let lock = FileLock::acquire(&RelayStatePaths::beside(&config_file, None).lock)?;
        let keypair = load_or_create_identity(&config.identity.key_file)?;
        let keys = KeyFile::load_or_create(config.security.authorized_keys_file.clone())?;
        let swarm = PeerSwarm::new(swarm_config(&config, keypair, version, io))?;
        let report = ServeReport { peer_id: swarm.local_peer(), addresses: Vec::new() };
        let watch = FileWatch::new(keys.path());
        let mut relay = Self {
            config,
            swarm,
            keys,
            admissions: Admissions::default(),
            admission: Admission::default(),
            connections: BTreeMap::new(),
            listening: Vec::new(),
            unbound: Vec::new(),
            bind_again: None,
            report,
            counters: Counters::default(),
            vouching: JoinSet::new(),
            watch,
            _lock: lock,
        };
        relay.warn_about_config();
        relay.apply_admission();
        relay.listen().await?;
        Ok(relay)
    }

    pub fn report(&self) -> &ServeReport {
        &self.report
    }

    /// Serves until it is told to stop or nobody is left to tell it.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut report = every(REPORT_EVERY);
        let mut watchdog = watchdog_interval().map(every);
        loop {
            match self.next_wake(&mut commands, &mut report, &mut watchdog).await {
                Wake::Command(Some(Command::Reload)) | Wake::KeysChanged => self.reload(),
                Wake::Command(Some(Command::Stop) | None) => break,
                Wake::Swarm(event) => self.handle_event(event),
                Wake::Vouching(finished) => self.handle_vouching(finished),
                Wake::Timeout => self.handle_timeout(),
                Wake::Report => self.log_counters(),
                Wake::Watchdog => notify::watchdog(),
            }
        }
        self.stop().await;
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
            () = optional_sleep(until_timeout) => Wake::Timeout,
            Some(finished) = self.vouching.join_next() => Wake::Vouching(finished),
            _ = report.tick() => Wake::Report,
            event = self.swarm.next_event() => Wake::Swarm(event),
        }
    }

    fn until_timeout(&self) -> Option<Duration> {
        let (now, unix_now) = (peerup_clock::now(), peerup_clock::unix());
        let timers = self.admissions.poll_timeout().into_iter().chain(self.bind_again).min();
        let timer = timers.map(|at| at.saturating_duration_since(now));
        let expiry = self.keys.next_expiry(unix_now).map(|at| Duration::from_secs(at - unix_now));
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
    }

    fn reload(&mut self) {
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
        let authorized = self.keys.authorized(unix_now);
        let guests = self.admissions.handle_authorized(|inviter| authorized.contains(inviter));
        let admission = Admission {
            authorized,
            infrastructure: BTreeSet::new(),
            guests: self.admissions.is_any_open(now),
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
                self.connections.insert(path.path, path.peer);
            }
            Event::PathClosed { path, .. } => {
                self.connections.remove(&path);
            }
            Event::Inbound(stream) => self.handle_stream(stream),
            Event::Listening(address) => self.handle_listening(address),
            Event::ListenExpired(address) => self.listening.retain(|listening| *listening != address),
            Event::ListenFailed(error) => self.handle_listen_failed(error),
            Event::ReservationGranted { peer, renewed } => {
                tracing::debug!(%peer, renewed, "reservation");
                self.counters.reservations += u64::from(!renewed);
            }
            Event::RelayRefused { peer } => {
                tracing::debug!(%peer, "reservation or circuit refused");
                self.counters.refused += 1;
            }
            Event::CircuitOpened { source, destination } => self.handle_circuit_opened(source, destination),
            Event::CircuitClosed { source, destination } => {
                self.counters.circuits_closed += 1;
                self.admissions.handle_circuit_closed(&source, &destination);
            }
            Event::Restarted { panic } => self.handle_restart(&panic),
            Event::Identified { peer, agent, .. } => tracing::debug!(%peer, agent, "identified"),
            // A relay dials nobody and reserves nowhere.
            Event::DialFailed { .. }
            | Event::Reserved { .. }
            | Event::ReservationLost { .. }
            | Event::Discovered { .. }
            | Event::HolePunch { .. } => {}
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
        self.connections.clear();
        self.admissions.handle_restart();
    }

    async fn stop(mut self) {
        notify::stopping();
        self.log_counters();
        let peers: BTreeSet<PeerId> = self.connections.values().copied().collect();
        for peer in peers {
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

/// Listeners and the addresses that others use.
impl Relay {
    async fn listen(&mut self) -> Result<(), RelayError> {
        self.config.network.listen_addresses.retain(|listener| {
            let lacks_family = addresses::lacks_family(listener);
            if lacks_family {
                tracing::warn!(%listener, "this host has no IPv6: not listened on");
            }
            !lacks_family
        });
        let listeners = self.config.network.listen_addresses.clone();
        for address in &listeners {
            addresses::check_free(address)
                .map_err(|source| RelayError::Bind { address: address.clone(), source })?;
        }
        for address in listeners {
            self.swarm.listen(address)?;
        }
        self.bind().await?;
        self.announce();
        if self.report.addresses.is_empty() {
            tracing::warn!("no address to announce, so no node can reserve; set network.external_addresses");
        }
        Ok(())
    }

    /// Waits until every port is known.
    async fn bind(&mut self) -> Result<(), RelayError> {
        let until = Instant::now() + BIND_DEADLINE;
        while let Some(address) = self.unbound_port() {
            let event = tokio::time::timeout_at(until, self.swarm.next_event()).await;
            self.handle_event(event.map_err(|_| RelayError::NoPort { address })?);
        }
        Ok(())
    }

    fn unbound_port(&self) -> Option<Multiaddr> {
        let listeners = &self.config.network.listen_addresses;
        listeners.iter().find(|listener| addresses::bound(listener, &self.listening).is_none()).cloned()
    }

    fn handle_listening(&mut self, address: Multiaddr) {
        tracing::debug!(%address, "listening");
        if !self.listening.contains(&address) {
            self.listening.push(address);
        }
        // An interface that comes up later brings addresses of its own.
        if self.unbound_port().is_none() {
            self.announce();
        }
    }

    fn handle_listen_failed(&mut self, error: ListenError) {
        tracing::error!(error = &error as &dyn std::error::Error, "will try again");
        self.unbound.push(error.address);
        self.bind_again = Some(peerup_clock::now() + BIND_AGAIN_AFTER);
    }

    fn bind_again(&mut self) {
        self.bind_again = None;
        for address in std::mem::take(&mut self.unbound) {
            if let Err(error) = self.swarm.listen(address) {
                self.handle_listen_failed(error);
            }
        }
    }

    fn announce(&mut self) {
        for address in self.external_addresses() {
            if !self.report.addresses.contains(&address) {
                tracing::info!(%address, "reachable");
                self.swarm.add_external_address(address.clone());
                self.report.addresses.push(address);
            }
        }
    }

    fn external_addresses(&self) -> Vec<Multiaddr> {
        let network = &self.config.network;
        if !network.external_addresses.is_empty() {
            return network.external_addresses.clone();
        }
        let interfaces: Vec<IpAddr> = interface_addresses()
            .inspect_err(|error| tracing::warn!(%error, "cannot list the addresses of this host"))
            .unwrap_or_default()
            .into_iter()
            .map(|(_, ip)| ip)
            .collect();
        let listeners: Vec<Multiaddr> = network
            .listen_addresses
            .iter()
            .filter_map(|listener| addresses::bound(listener, &self.listening))
            .collect();
        addresses::announced(&listeners, &interfaces)
    }

    fn warn_about_config(&self) {
        if !self.config.security.enable_connection_gating {
            tracing::warn!(
                "CONNECTION GATING IS OFF: everybody who finds this relay can use it and its bandwidth; \
                 set security.enable_connection_gating to true"
            );
        } else if self.admission_would_be_empty() {
            tracing::warn!(
                file = %self.keys.path().display(),
                "nobody is authorized yet; `peerup relay authorize PEER_ID` adds a machine"
            );
        }
        if self.config.health.enabled {
            tracing::warn!("health.enabled: this release does not serve /healthz");
        }
        if self.config.telemetry.metrics.enabled {
            tracing::warn!("telemetry.metrics.enabled: this release does not serve metrics");
        }
    }

    fn admission_would_be_empty(&self) -> bool {
        self.keys.authorized(peerup_clock::unix()).is_empty()
    }
}

/// Vouching: requests are read and answered by tasks, and judged here.
impl Relay {
    fn handle_stream(&mut self, InboundStream { peer, mut stream, .. }: InboundStream) {
        match self.vouching.len() {
            0..MAX_VOUCH_STREAMS => {
                self.vouching.spawn(async move {
                    let request = vouch::read(&mut stream).await.ok()?;
                    Some(Asked { inviter: peer, request, stream })
                });
            }
            MAX_VOUCH_STREAMS..MAX_VOUCH_TASKS => self.answer(peer, stream, Err(Refusal::Busy)),
            MAX_VOUCH_TASKS.. => tracing::debug!(%peer, "vouching stream dropped"),
        }
    }

    fn handle_vouching(&mut self, finished: Result<Option<Asked>, JoinError>) {
        match finished {
            Ok(Some(Asked { inviter, request, stream })) => {
                let outcome = request.map_err(Refusal::from).and_then(|request| self.vouch(inviter, request));
                self.answer(inviter, stream, outcome);
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "a vouching task failed"),
        }
    }

    fn answer(&mut self, inviter: PeerId, stream: Stream, outcome: Result<(), Refusal>) {
        if let Err(refusal) = &outcome {
            tracing::info!(%inviter, refusal = refusal as &dyn std::error::Error, "vouching refused");
            self.counters.refused += 1;
        }
        let response = vouch::response(&outcome);
        self.vouching.spawn(async move {
            if let Err(error) = vouch::answer(stream, &response).await {
                tracing::debug!(%inviter, %error, "vouching answer not delivered");
            }
            None
        });
    }

    fn vouch(&mut self, inviter: PeerId, request: Request) -> Result<(), Refusal> {
        if !self.config.relay.vouching {
            return Err(Refusal::Off);
        }
        // The key may have been removed since the stream was opened.
        if !self.keys.is_authorized(&inviter, peerup_clock::unix()) {
            return Err(Refusal::NotAuthorized);
        }
        match request {
            Request::OpenAdmission { ttl_s } => self.open_admission(inviter, ttl_s)?,
            Request::Authorize { peer, name } => self.authorize(inviter, peer, &name)?,
            Request::CloseAdmission => self.close_admission(&inviter),
        }
        self.apply_admission();
        Ok(())
    }

    fn open_admission(&mut self, inviter: PeerId, ttl_s: u32) -> Result<(), Refusal> {
        self.admissions.open(inviter, Duration::from_secs(ttl_s.into()), peerup_clock::now())?;
        tracing::info!(%inviter, ttl_s, "admission open");
        Ok(())
    }

    /// Uses the inviter's admission up, once the newcomer's key is safely in the file.
    fn authorize(&mut self, inviter: PeerId, peer: PeerId, name: &str) -> Result<(), Refusal> {
        if !self.admissions.is_open(&inviter, peerup_clock::now()) {
            return Err(Refusal::NoAdmission);
        }
        if peer == self.report.peer_id {
            return Err(Refusal::RelayItself);
        }
        if !self.keys.is_authorized(&peer, peerup_clock::unix()) {
            self.keys.append(peer, &vouch::comment(name, &inviter)).map_err(Refusal::of_append)?;
            tracing::info!(%inviter, %peer, "authorized on the word of its inviter");
            self.counters.vouched += 1;
        }
        self.close_admission(&inviter);
        Ok(())
    }

    fn close_admission(&mut self, inviter: &PeerId) {
        let guests = self.admissions.close(inviter);
        self.cut_off(guests);
    }
}

fn swarm_config(config: &RelayConfig, keypair: Keypair, version: &str, io: Handle) -> SwarmConfig {
    SwarmConfig {
        keypair,
        agent: format!("relay-server/{version}"),
        dht_protocol: protocol::kad_protocol(config.discovery.network.as_ref()),
        overlay: Vec::new(),
        profile: Profile::Relay(limits(&config.resources)),
        authorized_protocols: vec![protocol::VOUCH],
        guest_protocols: Vec::new(),
        io,
    }
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
