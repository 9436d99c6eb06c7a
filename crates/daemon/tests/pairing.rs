//! Two hosts without daemons pair through a relay on loopback.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use peerup_control::{
    ErrorKind, Runtime,
    api::{InviteEvent, InviteRequest, JoinRequest},
};
use peerup_daemon::{Options, temporary};
use peerup_swarm::{Admission, Event, PeerSwarm, Profile, RelayLimits, SwarmConfig};
use peerup_types::{Keypair, PeerId};
use tokio::{sync::mpsc::Receiver, time::timeout};

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

#[tokio::test]
async fn a_key_that_others_can_read_is_refused() {
    let host = Host::with("version: 1\n");
    let key = host.dir.path().join("identity.key");
    fs::write(&key, [0; 68]).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = temporary(host.options()).await.err().expect("refused");
    assert!(error.hint().unwrap_or_default().contains("chmod 600"), "{error}");
}

struct Relay {
    id: PeerId,
    address: String,
}

async fn start_relay() -> Relay {
    let mut swarm = PeerSwarm::new(SwarmConfig {
        keypair: Keypair::generate_ed25519(),
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
        authorized_protocols: vec![],
        guest_protocols: vec![],
        io: tokio::runtime::Handle::current(),
    })
    .unwrap();
    let id = swarm.local_peer();
    swarm.set_admission(Admission { open: true, ..Admission::default() });
    swarm.listen("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = loop {
        if let Event::Listening(address) = swarm.next_event().await {
            break address;
        }
    };
    swarm.add_external_address(address.clone());
    tokio::spawn(async move {
        loop {
            swarm.next_event().await;
        }
    });
    Relay { id, address: address.to_string() }
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
        private(&dir.path().join("config.yaml"), config);
        Self { dir }
    }

    fn options(&self) -> Options {
        let config_file: PathBuf = self.dir.path().join("config.yaml");
        Options { config_file, started_by_up: false, version: "test" }
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
    let Relay { id, address } = relay;
    format!("version: 1\nnode:\n  name: {name}\nrelay:\n  addresses:\n    - {address}/p2p/{id}\n")
}

fn private(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

async fn join(
    runtime: &Arc<dyn Runtime>,
    code: &str,
) -> Result<peerup_control::api::JoinReport, peerup_control::ApiError> {
    let request = JoinRequest { code: code.into(), name: None };
    timeout(DEADLINE, runtime.join(request)).await.expect("an outcome in time")
}

async fn next(events: &mut Receiver<InviteEvent>) -> InviteEvent {
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
