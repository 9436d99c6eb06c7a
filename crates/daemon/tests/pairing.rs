//! Two hosts without daemons pair through a relay on loopback.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt};
use peerup_control::{
    ErrorKind, Runtime,
    api::{InviteEvent, InviteRequest, JoinRequest},
};
use peerup_daemon::{Options, temporary};
use peerup_service::files::{FileLock, LockError};
use peerup_swarm::{Admission, Event, InboundStream, PeerSwarm, Profile, RelayLimits, Stream, SwarmConfig};
use peerup_types::{Keypair, PeerId};
use peerup_wire::{
    protocol,
    vouch::{LENGTH_PREFIX, Request, Response, Status, decode_length},
};
use tokio::{
    sync::mpsc::{self, Receiver},
    task::JoinHandle,
    time::{sleep, timeout},
};

const DEADLINE: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_pairs_two_hosts_and_gives_both_their_addresses() {
    let relay = start_relay().await;
    let (home, laptop) = (Host::new("home", &relay), Host::new("laptop", &relay));
    let inviter = home.start().await;
    let mut events = inviter.invite(InviteRequest { name: None, ttl_s: 60 }).await.unwrap();
    let code = code(&mut events).await;
    let joiner = laptop.start().await;
    let report = join(&joiner, &code).await.unwrap();
    assert_eq!(report.inviter_name.as_deref(), Some("home"));
    assert_eq!(report.address, Some([10, 64, 0, 2].into()));
    assert_eq!(report.inviter_address, Some([10, 64, 0, 1].into()));
    let InviteEvent::Joined { peer_id, name, address } = next(&mut events).await else {
        panic!("not joined")
    };
    assert_eq!((name.as_str(), address), ("laptop", report.address));
    let keys = |host: &Host| fs::read_to_string(host.dir.path().join("authorized_keys")).unwrap();
    assert!(keys(&home).contains(&format!("{peer_id}  # laptop")), "{}", keys(&home));
    assert!(keys(&laptop).contains(&format!("{}  # home", report.inviter)), "{}", keys(&laptop));
    assert!(home.config().contains(&format!("laptop: {peer_id}")), "{}", home.config());
    assert!(laptop.config().contains(&format!("home: {}", report.inviter)), "{}", laptop.config());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_code_and_a_wrong_code_are_refused_and_five_wrong_ones_burn_the_code() {
    let relay = start_relay().await;
    let (home, laptop) = (Host::new("home", &relay), Host::new("laptop", &relay));
    let inviter = home.start().await;
    let mut events = inviter.invite(InviteRequest { name: None, ttl_s: 60 }).await.unwrap();
    let right = code(&mut events).await;
    let joiner = laptop.start().await;
    let wrong = other_token(&right);
    for left in (0..5).rev() {
        let error = join(&joiner, &wrong).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotAuthorised, "{error}");
        let InviteEvent::Attempt { left: counted, .. } = next(&mut events).await else {
            panic!("not counted")
        };
        assert_eq!(counted, left);
    }
    assert_eq!(next(&mut events).await, InviteEvent::Burned);
    assert!(join(&joiner, &right).await.is_err(), "a burned code still works");
    assert!(!home.dir.path().join("authorized_keys").exists(), "somebody was authorized");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_for_another_network_or_of_this_machine_is_refused_before_anything_is_sent() {
    let relay = start_relay().await;
    let home = Host::new("home", &relay);
    let inviter = home.start().await;
    let mut events = inviter.invite(InviteRequest { name: None, ttl_s: 60 }).await.unwrap();
    let code = code(&mut events).await;
    let own = join(&inviter, &code).await.unwrap_err();
    assert!(own.message.contains("made on this machine"), "{own}");
    let elsewhere = Host::with(&format!("{}discovery:\n  network: crew\n", settings("x", &relay)));
    let error = join(&elsewhere.start().await, &code).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(join(&inviter, "not a code").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inviter_that_cannot_keep_the_joiner_says_so_and_ends_with_nothing_half_done() {
    let relay = start_relay().await;
    for spoil in [Host::open_keys_to_others, Host::damage_config] {
        let (home, laptop) = (Host::new("home", &relay), Host::new("laptop", &relay));
        let inviter = home.start().await;
        let mut events = inviter.invite(InviteRequest { name: None, ttl_s: 60 }).await.unwrap();
        let code = code(&mut events).await;
        spoil(&home);
        let before = home.config();
        let error = join(&laptop.start().await, &code).await.unwrap_err();
        assert!(error.message.contains("could not add this machine"), "{error}");
        assert!(matches!(next(&mut events).await, InviteEvent::Failed(_)));
        assert_eq!(home.config(), before);
        assert_eq!((home.members(), laptop.members()), (0, 0));
        inviter.invite(InviteRequest { name: None, ttl_s: 60 }).await.expect("the failed one is closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_refuses_to_admit_the_joiner_is_a_warning_with_the_next_command() {
    let home = Host::with_key();
    let mut relay = Relay::vouching(&home).await;
    home.uses(&relay);
    let laptop = Host::new("laptop", &relay);
    let inviter = home.start().await;
    let mut events = inviter.invite(InviteRequest { name: None, ttl_s: 60 }).await.unwrap();
    relay.asked().await.answer(Status::VouchingOff).await;
    code(&mut events).await;
    let InviteEvent::Warning { hint, .. } = next_any(&mut events).await else { panic!("no warning") };
    assert!(hint.unwrap().contains("relay authorize"));
    drop(events);

    let mut events = inviter.invite(InviteRequest { name: None, ttl_s: 60 }).await.unwrap();
    relay.asked_to_open().await.answer(Status::Ok).await;
    let code = code(&mut events).await;
    let joiner = laptop.start().await;
    let (report, ()) = tokio::join!(join(&joiner, &code), async {
        relay.asked().await.answer(Status::Busy).await;
    });
    report.unwrap();
    let InviteEvent::Warning { hint, .. } = next_any(&mut events).await else { panic!("no warning") };
    let InviteEvent::Joined { peer_id, .. } = next_any(&mut events).await else { panic!("not joined") };
    assert!(hint.unwrap().contains(&format!("peerup relay authorize {peer_id}")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_does_not_answer_holds_up_nothing_but_the_joiner() {
    let home = Host::with_key();
    let mut relay = Relay::vouching(&home).await;
    home.uses(&relay);
    let laptop = Host::new("laptop", &relay);
    let inviter = home.start().await;
    let mut events = inviter.invite(InviteRequest { name: None, ttl_s: 60 }).await.unwrap();
    relay.asked().await.answer(Status::Ok).await;
    let code = code(&mut events).await;
    let joiner = laptop.start().await;
    let joining = tokio::spawn(async move { join(&joiner, &code).await });
    let silent = relay.asked().await;
    assert!(matches!(silent.request, Request::Authorize { .. }));
    timeout(Duration::from_secs(2), inviter.overview()).await.expect("an answer at once").unwrap();
    silent.answer(Status::Ok).await;
    joining.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joiner_whose_answer_got_lost_may_try_again() {
    let home = Host::with_key();
    let mut relay = Relay::vouching(&home).await;
    home.uses(&relay);
    let laptop = Host::new("laptop", &relay);
    let inviter = home.start().await;
    let mut events = inviter.invite(InviteRequest { name: None, ttl_s: 60 }).await.unwrap();
    relay.asked().await.answer(Status::Ok).await;
    let right = code(&mut events).await;
    let joiner = laptop.start().await;
    let joining = tokio::spawn({
        let right = right.clone();
        async move { join(&joiner, &right).await }
    });
    let asked = relay.asked().await;
    // The joiner dies between its proof and its answer.
    joining.abort();
    laptop.stopped().await;
    relay.lost(laptop.id()).await;
    asked.answer(Status::Ok).await;
    assert_eq!(timeout(Duration::from_secs(3), events.recv()).await.ok(), None, "joined, or failed");

    join(&laptop.start().await, &right).await.unwrap();
    assert!(matches!(next(&mut events).await, InviteEvent::Joined { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invite_that_is_given_up_is_withdrawn_from_the_relay_before_the_host_ends() {
    let home = Host::with_key();
    let mut relay = Relay::vouching(&home).await;
    home.uses(&relay);
    let inviter = home.start().await;
    let mut events = inviter.invite(InviteRequest { name: None, ttl_s: 60 }).await.unwrap();
    relay.asked().await.answer(Status::Ok).await;
    code(&mut events).await;
    drop((events, inviter));
    let asked = relay.asked().await;
    assert_eq!(asked.request, Request::CloseAdmission);
    assert!(home.is_running(), "it waits for the relay");
    asked.answer(Status::Ok).await;
    home.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_restarts_is_asked_again_for_the_rest_of_the_codes_time() {
    let home = Host::with_key();
    let mut relay = Relay::vouching(&home).await;
    home.uses(&relay);
    let inviter = home.start().await;
    let mut events = inviter.invite(InviteRequest { name: None, ttl_s: 600 }).await.unwrap();
    let asked = relay.asked().await;
    let Request::OpenAdmission { ttl_s: first } = asked.request else { panic!("{:?}", asked.request) };
    asked.answer(Status::Ok).await;
    code(&mut events).await;
    let mut relay = relay.restarted().await;
    let asked = relay.asked_to_open().await;
    let Request::OpenAdmission { ttl_s } = asked.request else { panic!("{:?}", asked.request) };
    assert!(ttl_s < first, "{ttl_s} s of {first} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_fails_leaves_trust_and_configuration_as_they_were() {
    let relay = start_relay().await;
    let home = Host::new("home", &relay);
    let inviter = home.start().await;
    let mut events = inviter.invite(InviteRequest { name: None, ttl_s: 60 }).await.unwrap();
    let right = code(&mut events).await;

    let unpaired = Host::with("version: 1\n");
    let error = join(&unpaired.start().await, &other_token(&right)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotAuthorised, "{error}");
    assert_eq!((unpaired.config().as_str(), unpaired.members()), ("version: 1\n", 0));

    let elsewhere = Host::with("version: 1\nvpn:\n  cidr: 10.99.0.0/16\n");
    let before = elsewhere.config();
    let error = join(&elsewhere.start().await, &right).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict, "{error}");
    assert!(error.hint.unwrap().contains("10.64.0.0/16"));
    assert_eq!((elsewhere.config(), elsewhere.members()), (before, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_without_a_relay_of_its_own_keeps_that_of_the_code() {
    let relay = start_relay().await;
    let (home, laptop) = (Host::new("home", &relay), Host::with("version: 1\n"));
    let inviter = home.start().await;
    let mut events = inviter.invite(InviteRequest { name: None, ttl_s: 60 }).await.unwrap();
    let code = code(&mut events).await;
    join(&laptop.start().await, &code).await.unwrap();
    assert!(laptop.config().contains(&format!("{}/p2p/{}", relay.address, relay.id)), "{}", laptop.config());
    assert_eq!(laptop.members(), 1);
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused() {
    let host = Host::with("version: 1\n");
    let key = host.dir.path().join("identity.key");
    fs::write(&key, [0; 68]).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = temporary(host.options()).await.err().expect("refused");
    assert!(error.hint().unwrap_or_default().contains("chmod 600"), "{error}");
}

/// A relay whose answers to vouching the test gives.
struct Relay {
    id: PeerId,
    address: String,
    keypair: Keypair,
    friend: Option<PeerId>,
    asked: Receiver<Asked>,
    lost: Receiver<PeerId>,
    task: JoinHandle<()>,
}

struct Asked {
    request: Request,
    stream: Stream,
}

impl Asked {
    async fn answer(mut self, status: Status) {
        let bytes = Response { status, message: String::new() }.encode();
        self.stream.write_all(&bytes).await.unwrap();
        self.stream.close().await.unwrap();
    }
}

async fn start_relay() -> Relay {
    Relay::start(Keypair::generate_ed25519(), "/ip4/127.0.0.1/tcp/0", None).await
}

impl Relay {
    /// One that `friend` may vouch at.
    async fn vouching(friend: &Host) -> Self {
        Self::start(Keypair::generate_ed25519(), "/ip4/127.0.0.1/tcp/0", Some(friend.id())).await
    }

    async fn start(keypair: Keypair, listen: &str, friend: Option<PeerId>) -> Self {
        let mut swarm = relay_swarm(keypair.clone());
        let id = swarm.local_peer();
        swarm.set_admission(Admission {
            open: true,
            authorized: friend.into_iter().collect(),
            ..Admission::default()
        });
        swarm.listen(listen.parse().unwrap()).unwrap();
        let address = loop {
            if let Event::Listening(address) = swarm.next_event().await {
                break address;
            }
        };
        swarm.add_external_address(address.clone());
        let (ask, asked) = mpsc::channel(16);
        let (lose, lost) = mpsc::channel(16);
        let task = tokio::spawn(async move {
            loop {
                match swarm.next_event().await {
                    Event::Inbound(InboundStream { stream, .. }) => {
                        drop(tokio::spawn(read(stream, ask.clone())))
                    }
                    Event::PathClosed { peer, .. } => drop(lose.try_send(peer)),
                    _ => {}
                }
            }
        });
        Self { id, address: address.to_string(), keypair, friend, asked, lost, task }
    }

    async fn restarted(self) -> Self {
        let Self { address, keypair, friend, task, .. } = self;
        task.abort();
        let _ = task.await;
        Self::start(keypair, &address, friend).await
    }

    async fn asked(&mut self) -> Asked {
        timeout(DEADLINE, self.asked.recv()).await.expect("asked in time").unwrap()
    }

    /// Passes over what an earlier invite has left to say.
    async fn asked_to_open(&mut self) -> Asked {
        loop {
            match self.asked().await {
                asked @ Asked { request: Request::OpenAdmission { .. }, .. } => return asked,
                other => other.answer(Status::Ok).await,
            }
        }
    }

    async fn lost(&mut self, peer: PeerId) {
        while timeout(DEADLINE, self.lost.recv()).await.expect("lost in time") != Some(peer) {}
    }
}

async fn read(mut stream: Stream, ask: mpsc::Sender<Asked>) {
    let mut length = [0; LENGTH_PREFIX];
    stream.read_exact(&mut length).await.unwrap();
    let mut body = vec![0; decode_length(length).unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    let _ = ask.send(Asked { request: Request::parse(&body).unwrap(), stream }).await;
}

fn relay_swarm(keypair: Keypair) -> PeerSwarm {
    PeerSwarm::new(SwarmConfig {
        keypair,
        agent: "relay-server/test".into(),
        dht_protocol: "/peerup/kad/1.0.0".into(),
        overlay: vec![],
        profile: Profile::Relay(RelayLimits {
            max_reservations: 16,
            max_circuits: 16,
            max_circuits_per_peer: 8,
            reservation_ttl: Duration::from_secs(3600),
            circuit_duration: Duration::from_secs(3600),
            circuit_bytes: 0,
        }),
        authorized_protocols: vec![protocol::VOUCH],
        infrastructure_protocols: vec![],
        guest_protocols: vec![],
        services: None,
        io: tokio::runtime::Handle::current(),
    })
    .unwrap()
}

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new(name: &str, relay: &Relay) -> Self {
        Self::with(&settings(name, relay))
    }

    fn with(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        private(&dir.path().join("config.yaml"), config.as_bytes());
        Self { dir }
    }

    /// One whose key is known before its relay is.
    fn with_key() -> Self {
        let host = Self::with("version: 1\n");
        let key = peerup_trust::identity::encode(&Keypair::generate_ed25519()).unwrap();
        private(&host.file("identity.key"), &key);
        host
    }

    fn id(&self) -> PeerId {
        let key = fs::read(self.file("identity.key")).unwrap();
        peerup_trust::identity::decode(&key).unwrap().public().to_peer_id()
    }

    fn uses(&self, relay: &Relay) {
        fs::write(self.file("config.yaml"), settings("home", relay)).unwrap();
    }

    fn is_running(&self) -> bool {
        matches!(FileLock::acquire(&self.file(".peerup.lock")), Err(LockError::Held { .. }))
    }

    async fn stopped(&self) {
        let stopped = async {
            while self.is_running() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, stopped).await.expect("stopped in time");
    }

    fn options(&self) -> Options {
        let config_file: PathBuf = self.dir.path().join("config.yaml");
        Options { config_file, started_by_up: false, userspace: false, version: "test" }
    }

    async fn start(&self) -> Arc<dyn Runtime> {
        temporary(self.options()).await.unwrap()
    }

    fn config(&self) -> String {
        fs::read_to_string(self.file("config.yaml")).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn members(&self) -> usize {
        let keys = fs::read_to_string(self.file("authorized_keys")).unwrap_or_default();
        keys.lines().filter(|line| line.starts_with("12D3")).count()
    }

    fn open_keys_to_others(&self) {
        let keys = self.file("authorized_keys");
        fs::write(&keys, "").unwrap();
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn damage_config(&self) {
        fs::write(self.file("config.yaml"), format!("{}damage: true\n", self.config())).unwrap();
    }
}

fn settings(name: &str, relay: &Relay) -> String {
    let Relay { id, address, .. } = relay;
    format!("version: 1\nnode:\n  name: {name}\nrelay:\n  addresses:\n    - {address}/p2p/{id}\n")
}

fn private(path: &Path, content: &[u8]) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(content).unwrap();
}

async fn join(
    runtime: &Arc<dyn Runtime>,
    code: &str,
) -> Result<peerup_control::api::JoinReport, peerup_control::ApiError> {
    let request = JoinRequest { code: code.into(), name: None };
    timeout(DEADLINE, runtime.join(request)).await.expect("an outcome in time")
}

/// The next event but for warnings: most relays here know no vouching.
async fn next(events: &mut Receiver<InviteEvent>) -> InviteEvent {
    loop {
        match next_any(events).await {
            InviteEvent::Warning { .. } => {}
            other => return other,
        }
    }
}

async fn next_any(events: &mut Receiver<InviteEvent>) -> InviteEvent {
    timeout(DEADLINE, events.recv()).await.expect("an event in time").expect("an event")
}

async fn code(events: &mut Receiver<InviteEvent>) -> String {
    match next(events).await {
        InviteEvent::Code { code, .. } => code,
        other => panic!("no code but {other:?}"),
    }
}

/// The same code with another token: the first characters after the version are the token's.
fn other_token(code: &str) -> String {
    let mut letters: Vec<char> = code.chars().collect();
    letters[5] = if letters[5] == 'A' { 'B' } else { 'A' };
    letters.into_iter().collect()
}
