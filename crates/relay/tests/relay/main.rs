//! A running relay and real nodes over loopback: who gets what, and what changes while it runs.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod pairing;

use std::{fs, net::TcpListener, path::PathBuf, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt};
use peerup_relay::{Command, End, Relay, RelayError};
use peerup_service::files::write_private_atomic;
use peerup_swarm::{Admission, Event, OpenError, PathHandle, PeerSwarm, Profile, Stream, SwarmConfig};
use peerup_types::{Keypair, Multiaddr, PathClass, PeerId, Protocol};
use peerup_wire::{
    protocol,
    vouch::{RESPONSE_HEADER, Request, Response, Status},
};
use tempfile::TempDir;
use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle, time::timeout};

const ECHO: &str = "/test/echo/1.0.0";
const DEADLINE: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);
const OPEN: Request = Request::OpenAdmission { ttl_s: 600 };

#[tokio::test]
async fn authorized_nodes_meet_through_the_relay() {
    let (mut a, b) = (node(), node());
    let relay = serve("", &[a.local_peer(), b.local_peer()]).await;
    let b = reserved(b, &relay).await;
    assert_eq!(reach(&mut a, b.id, &relay).await.unwrap(), "hello");
}

#[tokio::test]
async fn an_unknown_peer_gets_nothing() {
    let relay = serve("", &[]).await;
    assert!(!reserve(&mut node(), &relay).await);
}

#[tokio::test]
async fn a_key_that_is_added_while_the_relay_runs_counts_at_once() {
    let mut a = node();
    let relay = serve("", &[]).await;
    assert!(!reserve(&mut a, &relay).await);
    relay.authorize(&[a.local_peer()]);
    eventually_reserve(&mut a, &relay).await;
}

#[tokio::test]
async fn a_reload_does_not_wait_for_the_file_to_settle() {
    let mut a = node();
    let relay = serve("", &[]).await;
    relay.authorize(&[a.local_peer()]);
    relay.commands.send(Command::Reload).await.unwrap();
    assert!(reserve(&mut a, &relay).await);
}

#[tokio::test]
async fn a_removed_peer_is_disconnected_within_a_second() {
    let (mut a, b) = (node(), node());
    let relay = serve("", &[a.local_peer(), b.local_peer()]).await;
    assert!(reserve(&mut a, &relay).await);
    relay.authorize(&[b.local_peer()]);
    timeout(SECOND, closed(&mut a)).await.expect("disconnected within a second");
    assert!(!reserve(&mut a, &relay).await);
}

#[tokio::test]
async fn a_damaged_list_of_keys_disconnects_nobody() {
    let (mut a, b) = (node(), node());
    let relay = serve("", &[a.local_peer(), b.local_peer()]).await;
    write_private_atomic(&relay.keys(), b"not a peer ID\n").unwrap();
    relay.commands.send(Command::Reload).await.unwrap();
    let b = reserved(b, &relay).await;
    assert_eq!(reach(&mut a, b.id, &relay).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_key_that_expires_disconnects_its_peer_however_busy_the_relay_is() {
    let (mut a, b) = (node(), node());
    let relay = serve("", &[b.local_peer()]).await;
    let expires = peerup_clock::rfc3339(peerup_clock::unix() + 3);
    let keys = format!("{} expires={expires}\n{}\n", a.local_peer(), b.local_peer());
    write_private_atomic(&relay.keys(), keys.as_bytes()).unwrap();
    eventually_reserve(&mut a, &relay).await;
    let b = reserved(b, &relay).await;
    let busy = async {
        loop {
            raw(&b.relay, &[0, 1, 9]).await.unwrap();
        }
    };
    let disconnected = async {
        tokio::select! { () = closed(&mut a) => {}, () = busy => {} }
    };
    timeout(5 * SECOND, disconnected).await.expect("disconnected when the key expires");
}

#[tokio::test]
async fn one_address_gets_no_more_reservations_than_the_config_says() {
    let (mut a, mut b) = (node(), node());
    let relay = serve("resources: {max_reservations_per_ip: 1}", &[a.local_peer(), b.local_peer()]).await;
    assert!(reserve(&mut a, &relay).await);
    b.reserve(relay.id, relay.address.clone()).unwrap();
    timeout(SECOND, closed(&mut b)).await.expect("disconnected");
}

#[tokio::test]
async fn an_open_relay_takes_everybody_but_nobody_can_vouch_there() {
    let relay = serve("security: {enable_connection_gating: false}", &[]).await;
    let (mut a, b) = (node(), node());
    let b = reserved(b, &relay).await;
    assert_eq!(reach(&mut a, b.id, &relay).await.unwrap(), "hello");
    assert!(matches!(ask(&b.relay, &OPEN).await, Err(Unanswered)));
}

#[tokio::test]
async fn a_guest_reaches_the_inviter_and_nobody_else() {
    let (inviter, other) = (node(), node());
    let relay = serve("", &[inviter.local_peer(), other.local_peer()]).await;
    let (inviter, other) = (reserved(inviter, &relay).await, reserved(other, &relay).await);
    reach(&mut node(), inviter.id, &relay).await.unwrap_err();
    assert_eq!(ask(&inviter.relay, &OPEN).await.unwrap().status, Status::Ok);
    assert_eq!(reach(&mut node(), inviter.id, &relay).await.unwrap(), "hello");
    reach(&mut node(), other.id, &relay).await.unwrap_err();
}

#[tokio::test]
async fn a_guest_gets_no_reservation() {
    let inviter = node();
    let relay = serve("", &[inviter.local_peer()]).await;
    let inviter = reserved(inviter, &relay).await;
    assert_eq!(ask(&inviter.relay, &OPEN).await.unwrap().status, Status::Ok);
    assert!(!reserve(&mut node(), &relay).await);
}

#[tokio::test]
async fn a_vouched_newcomer_is_in_the_file_and_can_reserve_at_once() {
    let inviter = node();
    let relay = serve("", &[inviter.local_peer()]).await;
    let inviter = reserved(inviter, &relay).await;
    let before = fs::read_to_string(relay.keys()).unwrap();
    let mut joiner = node();
    ask(&inviter.relay, &OPEN).await.unwrap();
    assert_eq!(reach(&mut joiner, inviter.id, &relay).await.unwrap(), "hello");
    let authorize = Request::Authorize { peer: joiner.local_peer(), name: "nas".into() };
    assert_eq!(ask(&inviter.relay, &authorize).await.unwrap().status, Status::Ok);
    let text = inviter.id.to_string();
    let line = format!("{}  # nas, vouched for by …{}\n", joiner.local_peer(), &text[text.len() - 8..]);
    assert_eq!(fs::read_to_string(relay.keys()).unwrap(), before + &line);
    assert!(reserve(&mut joiner, &relay).await);

    let second = Request::Authorize { peer: PeerId::random(), name: String::new() };
    assert_eq!(
        ask(&inviter.relay, &second).await.unwrap().status,
        Status::Refused,
        "an admission serves once"
    );
}

#[tokio::test]
async fn a_closed_admission_cuts_its_guests_off() {
    let inviter = node();
    let relay = serve("", &[inviter.local_peer()]).await;
    let inviter = reserved(inviter, &relay).await;
    let mut guest = node();
    ask(&inviter.relay, &OPEN).await.unwrap();
    assert_eq!(reach(&mut guest, inviter.id, &relay).await.unwrap(), "hello");
    assert_eq!(ask(&inviter.relay, &Request::CloseAdmission).await.unwrap().status, Status::Ok);
    timeout(SECOND, closed(&mut guest)).await.expect("cut off within a second");
    reach(&mut node(), inviter.id, &relay).await.unwrap_err();
}

#[tokio::test]
async fn an_admission_expires() {
    let inviter = node();
    let relay = serve("", &[inviter.local_peer()]).await;
    let inviter = reserved(inviter, &relay).await;
    let mut guest = node();
    ask(&inviter.relay, &Request::OpenAdmission { ttl_s: 2 }).await.unwrap();
    assert_eq!(reach(&mut guest, inviter.id, &relay).await.unwrap(), "hello");
    timeout(3 * SECOND, closed(&mut guest)).await.expect("cut off when the admission expires");
    let late = Request::Authorize { peer: guest.local_peer(), name: String::new() };
    assert_eq!(ask(&inviter.relay, &late).await.unwrap().status, Status::Refused);
}

#[tokio::test]
async fn a_relay_that_takes_no_vouching_says_so() {
    let inviter = node();
    let relay = serve("relay: {vouching: false}", &[inviter.local_peer()]).await;
    let inviter = reserved(inviter, &relay).await;
    assert_eq!(ask(&inviter.relay, &OPEN).await.unwrap().status, Status::VouchingOff);
    reach(&mut node(), inviter.id, &relay).await.unwrap_err();
}

#[tokio::test]
async fn requests_that_make_no_sense_are_answered_and_silent_ones_bounded() {
    let inviter = node();
    let relay = serve("", &[inviter.local_peer()]).await;
    let inviter = reserved(inviter, &relay).await;
    let raw = async |bytes: &[u8]| raw(&inviter.relay, bytes).await.unwrap().status;
    assert_eq!(raw(&[0, 1, 9]).await, Status::BadRequest);
    assert_eq!(raw(&[0xff, 0xff]).await, Status::BadRequest);
    assert_eq!(raw(&Request::OpenAdmission { ttl_s: 0 }.encode().unwrap()).await, Status::BadRequest);
    ask(&inviter.relay, &OPEN).await.unwrap();
    let itself = Request::Authorize { peer: relay.id, name: String::new() };
    assert_eq!(ask(&inviter.relay, &itself).await.unwrap().status, Status::BadRequest);

    let mut silent = Vec::new();
    let busy = async {
        loop {
            silent.push(begin(&inviter.relay, &[0]).await.unwrap());
            if ask(&inviter.relay, &OPEN).await.unwrap().status == Status::Busy {
                return silent.len();
            }
        }
    };
    assert_eq!(timeout(DEADLINE, busy).await.unwrap(), 16);
}

#[tokio::test]
async fn stopping_tells_the_peers() {
    let mut a = node();
    let relay = serve_on("/ip4/127.0.0.1/udp/0/quic-v1", "", &[a.local_peer()]).await;
    assert!(reserve(&mut a, &relay).await);
    relay.commands.send(Command::Stop).await.unwrap();
    timeout(SECOND, closed(&mut a)).await.expect("told, not timed out");
    timeout(DEADLINE, relay.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_conflict_that_names_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    let dir = directory(&address, "", &[]);
    let error = start(&dir).await.err().unwrap();
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
    assert!(matches!(error, RelayError::Bind { .. }));
    assert_eq!(error.exit_code(), 5);
    assert!(error.hint().unwrap().contains("ss -tulpn"));
}

#[tokio::test]
async fn two_relays_do_not_share_a_directory_or_a_port() {
    let relay = serve("", &[]).await;
    assert!(matches!(start(&relay.dir).await, Err(RelayError::Locked(_))));
    let other = directory(&relay.address.to_string(), "", &[]);
    assert!(matches!(start(&other).await, Err(RelayError::Bind { .. })));
}

#[tokio::test]
async fn a_first_start_makes_identity_and_list_of_keys_and_keeps_them() {
    let dir = directory("/ip4/127.0.0.1/tcp/0", "", &[]);
    fs::remove_file(dir.path().join("relay_authorized_keys")).unwrap();
    let first = start(&dir).await.unwrap().report().clone();
    assert!(
        fs::read_to_string(dir.path().join("relay_authorized_keys")).unwrap().starts_with("# Who may use")
    );
    assert_eq!(start(&dir).await.unwrap().report().peer_id, first.peer_id);
}

#[tokio::test]
async fn configured_external_addresses_are_the_announced_ones() {
    let listen = "/ip4/127.0.0.1/tcp/0";
    let text = format!(
        "version: 1\nnetwork:\n  listen_addresses: [{listen}]\n  external_addresses: [/ip4/198.51.100.7/tcp/7777]\n"
    );
    let dir = directory(listen, "", &[]);
    write_private_atomic(&dir.path().join("relay-server.yaml"), text.as_bytes()).unwrap();
    let relay = start(&dir).await.unwrap();
    assert_eq!(relay.report().addresses, ["/ip4/198.51.100.7/tcp/7777".parse().unwrap()]);
}

#[tokio::test]
async fn a_config_that_others_can_read_or_that_is_wrong_is_refused_with_a_hint() {
    use std::os::unix::fs::PermissionsExt;
    let dir = directory("/ip4/127.0.0.1/tcp/0", "vouching: true", &[]);
    let error = start(&dir).await.err().unwrap();
    assert!(matches!(&error, RelayError::Config { .. }), "{error}");
    let dir = directory("/ip4/127.0.0.1/tcp/0", "", &[]);
    let config = dir.path().join("relay-server.yaml");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(start(&dir).await.err().unwrap().hint().unwrap(), format!("chmod 600 {}", config.display()));
}

/// A relay at work, and how to reach it.
struct Served {
    id: PeerId,
    address: Multiaddr,
    dir: TempDir,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<End>,
}

impl Served {
    fn keys(&self) -> PathBuf {
        self.dir.path().join("relay_authorized_keys")
    }

    fn authorize(&self, peers: &[PeerId]) {
        write_keys(&self.dir, peers);
    }
}

async fn serve(config: &str, authorized: &[PeerId]) -> Served {
    serve_on("/ip4/127.0.0.1/tcp/0", config, authorized).await
}

async fn serve_on(listen: &str, config: &str, authorized: &[PeerId]) -> Served {
    let dir = directory(listen, config, authorized);
    let relay = start(&dir).await.unwrap();
    let report = relay.report().clone();
    let (commands, mut receiver) = mpsc::channel(4);
    let task = tokio::spawn(async move { relay.run(&mut receiver).await });
    Served { id: report.peer_id, address: report.addresses[0].clone(), dir, commands, task }
}

async fn start(dir: &TempDir) -> Result<Relay, RelayError> {
    Relay::start(&dir.path().join("relay-server.yaml"), "test", Handle::current()).await
}

fn directory(listen: &str, config: &str, authorized: &[PeerId]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("version: 1\nnetwork: {{listen_addresses: [{listen}]}}\n{config}\n");
    write_private_atomic(&dir.path().join("relay-server.yaml"), text.as_bytes()).unwrap();
    write_keys(&dir, authorized);
    dir
}

fn write_keys(dir: &TempDir, peers: &[PeerId]) {
    let lines: String = peers.iter().map(|peer| format!("{peer}\n")).collect();
    write_private_atomic(&dir.path().join("relay_authorized_keys"), format!("# keys\n{lines}").as_bytes())
        .unwrap();
}

/// A node that takes circuits from anybody, so that it is the relay that refuses.
fn node() -> PeerSwarm {
    node_of(Keypair::generate_ed25519())
}

fn node_of(keypair: Keypair) -> PeerSwarm {
    let mut node = PeerSwarm::new(SwarmConfig {
        keypair,
        agent: "peerup/test".into(),
        dht_protocol: protocol::kad_protocol(None),
        overlay: Vec::new(),
        profile: Profile::Node { mdns: false, relaying: None, punches_over: None },
        authorized_protocols: Vec::new(),
        infrastructure_protocols: vec![protocol::PEER_NOTIFY],
        guest_protocols: vec![ECHO],
        services: None,
        io: Handle::current(),
    })
    .unwrap();
    node.set_admission(Admission { guests: true, ..Admission::default() });
    node
}

/// A node with a reservation, driven in the background. It answers what it is sent.
struct Reserved {
    id: PeerId,
    relay: PathHandle,
}

async fn reserved(mut node: PeerSwarm, relay: &Served) -> Reserved {
    let id = node.local_peer();
    node.reserve(relay.id, relay.address.clone()).unwrap();
    let mut path = None;
    until(&mut node, |event| match event {
        Event::PathOpened(handle) => {
            path = Some(handle.clone());
            None
        }
        Event::Reserved { .. } => Some(()),
        _ => None,
    })
    .await;
    tokio::spawn(async move {
        loop {
            if let Event::Inbound(inbound) = node.next_event().await {
                tokio::spawn(echo(inbound.stream));
            }
        }
    });
    Reserved { id, relay: path.unwrap() }
}

async fn echo(mut stream: Stream) {
    let mut word = [0; 5];
    if stream.read_exact(&mut word).await.is_ok() {
        let _ = stream.write_all(&word).await;
        let _ = stream.close().await;
    }
}

/// Whether the relay grants a reservation.
async fn reserve(node: &mut PeerSwarm, relay: &Served) -> bool {
    node.reserve(relay.id, relay.address.clone()).unwrap();
    until(node, |event| match event {
        Event::Reserved { .. } => Some(true),
        Event::ReservationLost { .. } => Some(false),
        _ => None,
    })
    .await
}

async fn eventually_reserve(node: &mut PeerSwarm, relay: &Served) {
    let granted = async { while !reserve(node, relay).await {} };
    timeout(2 * SECOND, granted).await.expect("a reservation once the key is known");
}

#[derive(Debug)]
struct Unreached;

/// Sends a word to `target` by circuit and waits for it to come back.
async fn reach(node: &mut PeerSwarm, target: PeerId, relay: &Served) -> Result<String, Unreached> {
    let circuit = relay
        .address
        .clone()
        .with(Protocol::P2p(relay.id))
        .with(Protocol::P2pCircuit)
        .with(Protocol::P2p(target));
    node.dial(target, vec![circuit]).unwrap();
    let path = until(node, |event| match event {
        Event::PathOpened(path) if path.kind.class == PathClass::Relay => Some(Ok(path.clone())),
        Event::DialFailed { peer, .. } if *peer == Some(target) => Some(Err(Unreached)),
        _ => None,
    })
    .await?;
    let word = say_hello(path);
    let alive = async {
        loop {
            node.next_event().await;
        }
    };
    timeout(DEADLINE, async {
        tokio::select! { word = word => word, () = alive => unreachable!() }
    })
    .await
    .expect("an answer or an error in time")
}

async fn say_hello(path: PathHandle) -> Result<String, Unreached> {
    let mut stream = path.open(ECHO).await.map_err(|_| Unreached)?;
    let mut word = String::new();
    stream.write_all(b"hello").await.map_err(|_| Unreached)?;
    stream.close().await.map_err(|_| Unreached)?;
    stream.read_to_string(&mut word).await.map_err(|_| Unreached)?;
    Ok(word)
}

#[derive(Debug)]
struct Unanswered;

impl<E: Into<std::io::Error>> From<E> for Unanswered {
    fn from(_: E) -> Self {
        Self
    }
}

async fn ask(relay: &PathHandle, request: &Request) -> Result<Response, Unanswered> {
    raw(relay, &request.encode().unwrap()).await
}

async fn raw(relay: &PathHandle, request: &[u8]) -> Result<Response, Unanswered> {
    let answered = async {
        let mut stream = begin(relay, request).await.map_err(|_| Unanswered)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        assert!(answer.len() >= RESPONSE_HEADER, "an answer has a header");
        Ok(Response::parse(&answer).unwrap())
    };
    timeout(DEADLINE, answered).await.expect("an answer or an error in time")
}

async fn begin(relay: &PathHandle, bytes: &[u8]) -> Result<Stream, OpenError> {
    let mut stream = relay.open(protocol::VOUCH).await?;
    stream.write_all(bytes).await.map_err(OpenError::Io)?;
    stream.flush().await.map_err(OpenError::Io)?;
    Ok(stream)
}

async fn closed(node: &mut PeerSwarm) {
    until(node, |event| matches!(event, Event::PathClosed { .. }).then_some(())).await;
}

async fn until<T>(node: &mut PeerSwarm, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = wanted(&node.next_event().await) {
                return found;
            }
        }
    };
    timeout(DEADLINE, search).await.expect("the awaited event in time")
}
