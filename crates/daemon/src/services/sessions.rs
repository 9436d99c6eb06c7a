//! Whole sessions: a client's TCP connection, a proxy, two swarms over loopback, a serving node, a server.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use peerup_config::{PingPong, PortRange, Service};
use peerup_services::{Offers, Wanted};
use peerup_swarm::{self as swarm, Admission, Event, PathHandle, PeerSwarm, Profile, SwarmConfig};
use peerup_types::{Keypair, PathId, PeerId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{Plan, open::open, proxy, queue, serve, side::reset};
use crate::{
    api::{NodeHandle, NotReached, Request},
    controller::ServiceRequest,
};

const DEADLINE: Duration = Duration::from_secs(20);
const CARRIERS: [&str; 2] = ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"];

#[tokio::test]
async fn a_service_gets_the_bytes_of_the_connection_and_nothing_else() {
    for carrier in CARRIERS {
        let pair = Pair::new(carrier).await;
        let mut stream = pair.path.open_named("/peerup/app/1.0.0").await.unwrap();
        stream.write_all(b"\x00\xffGET / HTTP/1.1\r\n").await.unwrap();
        stream.flush().await.unwrap();
        let mut server = pair.accept().await;
        let mut got = [0; 18];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"\x00\xffGET / HTTP/1.1\r\n", "{carrier}");
        server.write_all(b"\x01answer").await.unwrap();
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"\x01answer", "{carrier}");
    }
}

#[tokio::test]
async fn a_port_is_two_bytes_and_then_the_connection() {
    let pair = Pair::new(CARRIERS[1]).await;
    let mut stream = pair.path.open_named("/peerup/port/1.0.0").await.unwrap();
    stream.write_all(&pair.server_port().to_be_bytes()).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.flush().await.unwrap();
    let mut got = [0; 5];
    pair.accept().await.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
}

#[tokio::test]
async fn a_ping_of_the_go_original_is_answered() {
    for carrier in CARRIERS {
        let pair = Pair::new(carrier).await;
        for (line, expected) in [("ping\n", "pong\n"), ("hello\n", "unknown\n")] {
            let mut stream = pair.path.open_named("/pingpong/1.0.0").await.unwrap();
            stream.write_all(line.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let mut answer = String::new();
            timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
            assert_eq!(answer, expected, "{carrier}");
        }
    }
}

#[tokio::test]
async fn the_client_may_end_first() {
    for carrier in CARRIERS {
        let pair = Pair::new(carrier).await;
        let mut client = pair.client("app").await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut server = pair.accept().await;
        assert_eq!(read_all(&mut server).await.unwrap(), b"question", "{carrier}");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        assert_eq!(read_all(&mut client).await.unwrap(), b"answer", "{carrier}");
    }
}

#[tokio::test]
async fn the_server_may_end_first() {
    for carrier in CARRIERS {
        let pair = Pair::new(carrier).await;
        let mut client = pair.client("app").await;
        client.write_all(b"hello").await.unwrap();
        let mut server = pair.accept().await;
        server.write_all(b"banner").await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await.unwrap(), b"banner", "{carrier}");
        client.write_all(b" again").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut server).await.unwrap(), b"hello again", "{carrier}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    for carrier in CARRIERS {
        let pair = Pair::new(carrier).await;
        let mut client = pair.client("app").await;
        pair.accept().await.write_all(b"SSH-2.0").await.unwrap();
        let mut banner = [0; 7];
        timeout(DEADLINE, client.read_exact(&mut banner)).await.unwrap().unwrap();
        assert_eq!(&banner, b"SSH-2.0", "{carrier}");
    }
}

#[tokio::test]
async fn a_reset_on_either_side_is_a_reset_on_the_other() {
    for carrier in CARRIERS {
        let pair = Pair::new(carrier).await;
        let mut client = pair.client("app").await;
        client.write_all(b"x").await.unwrap();
        let mut server = pair.accept().await;
        server.write_all(b"part").await.unwrap();
        server.read_u8().await.unwrap();
        let mut part = [0; 4];
        client.read_exact(&mut part).await.unwrap();
        reset(&server);
        drop(server);
        is_reset(&mut client, carrier).await;

        let mut client = pair.client("app").await;
        client.write_all(b"x").await.unwrap();
        let mut server = pair.accept().await;
        server.read_u8().await.unwrap();
        reset(&client);
        drop(client);
        is_reset(&mut server, carrier).await;
    }
}

#[tokio::test]
async fn over_quic_a_break_after_the_clients_end_is_told_too() {
    let pair = Pair::new(CARRIERS[0]).await;
    let mut client = pair.client("app").await;
    client.write_all(b"x").await.unwrap();
    client.shutdown().await.unwrap();
    let mut server = pair.accept().await;
    assert_eq!(read_all(&mut server).await.unwrap(), b"x");
    reset(&server);
    drop(server);
    is_reset(&mut client, CARRIERS[0]).await;
}

#[tokio::test]
async fn who_is_not_allowed_is_reset_and_nothing_is_dialed() {
    for carrier in CARRIERS {
        let pair = Pair::new(carrier).await;
        // Another peer's service, one that nobody has, and a port that is not open.
        for (service, told) in
            [("others", "does not let"), ("nobody", "offers no service"), ("1", "does not open")]
        {
            let mut client = pair.client(service).await;
            is_reset(&mut client, carrier).await;
            let failure = pair.failure(service).await;
            assert!(failure.contains(told), "{carrier}: {failure}");
        }
        let accepted = timeout(Duration::from_millis(200), pair.server.accept()).await;
        assert!(accepted.is_err(), "{carrier}: a refused stream reached the server");
    }
}

#[tokio::test]
async fn a_key_that_was_removed_a_moment_ago_opens_nothing() {
    let pair = Pair::new(CARRIERS[1]).await;
    let mut offers = Offers::clone(&pair.offers.load());
    offers.set_members(BTreeSet::new());
    pair.offers.store(Arc::new(offers));
    let mut client = pair.client("app").await;
    is_reset(&mut client, CARRIERS[1]).await;
}

#[tokio::test]
async fn a_service_that_does_not_listen_resets_the_client() {
    for carrier in CARRIERS {
        let pair = Pair::new(carrier).await;
        let mut client = pair.client("dead").await;
        is_reset(&mut client, carrier).await;
    }
}

#[tokio::test]
async fn a_connection_that_closes_resets_its_clients() {
    for carrier in CARRIERS {
        let pair = Pair::new(carrier).await;
        let (mut open, mut ended) = (pair.client("app").await, pair.client("app").await);
        for client in [&mut open, &mut ended] {
            client.write_all(b"x").await.unwrap();
            let mut server = pair.accept().await;
            server.read_u8().await.unwrap();
            tokio::spawn(async move { read_all(&mut server).await });
        }
        ended.shutdown().await.unwrap();
        assert_eq!(pair.path.usage.sessions(), 2);
        pair.cut();
        is_reset(&mut open, carrier).await;
        is_reset(&mut ended, carrier).await;
        assert_eq!(pair.path.usage.sessions(), 0, "{carrier}");
    }
}

#[tokio::test]
async fn a_path_that_this_side_gives_up_resets_its_clients() {
    for carrier in CARRIERS {
        let pair = Pair::new(carrier).await;
        let mut reading = pair.client("app").await;
        reading.write_all(b"x").await.unwrap();
        let mut server = pair.accept().await;
        server.read_u8().await.unwrap();
        // The other end is not there to say goodbye to.
        pair.serving.abort();
        pair.give_up.send(pair.path.path).await.unwrap();
        is_reset(&mut reading, carrier).await;
        assert_eq!(pair.path.usage.sessions(), 0, "{carrier}");
    }
}

#[tokio::test]
async fn bytes_are_counted_per_direction_as_they_are_delivered() {
    let pair = Pair::new(CARRIERS[1]).await;
    let mut client = pair.client("app").await;
    client.write_all(&[1; 100_000]).await.unwrap();
    client.shutdown().await.unwrap();
    let mut server = pair.accept().await;
    assert_eq!(read_all(&mut server).await.unwrap().len(), 100_000);
    server.write_all(&[2; 3_000]).await.unwrap();
    drop(server);
    assert_eq!(read_all(&mut client).await.unwrap().len(), 3_000);
    let traffic = pair.proxies.lock().unwrap()["app"].traffic.clone();
    assert_eq!((traffic.sent.get(), traffic.received.get()), (100_000, 3_000));
    assert_eq!((traffic.accepted(), traffic.failed()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_after_half_a_minute_and_there_are_four() {
    let (requests, mut asked) = mpsc::channel(8);
    let node = NodeHandle::new(requests, Handle::current());
    // Nobody answers, and nobody hangs up.
    let silent = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(request) = asked.recv().await {
            kept.push(request);
        }
        kept.len()
    });
    let begun = Instant::now();
    let outcome = open(&node, PeerId::random(), &"app".parse().unwrap()).await;
    assert!(outcome.is_err());
    assert_eq!(begun.elapsed().as_secs(), 4 * 30 + 1 + 2 + 4);
    drop(node);
    assert_eq!(silent.await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_no_member_is_not_tried_again() {
    let (requests, asked) = mpsc::channel(8);
    let node = NodeHandle::new(requests, Handle::current());
    tokio::spawn(answer_paths(asked, Err(NotReached::Unknown)));
    let begun = Instant::now();
    assert!(open(&node, PeerId::random(), &"app".parse().unwrap()).await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(1));
}

/// Reads until an error, which has to be a reset.
async fn is_reset(tcp: &mut TcpStream, carrier: &str) {
    let ended = read_all(tcp).await.expect_err(carrier);
    assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset, "{carrier}");
}

async fn read_all(tcp: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    timeout(DEADLINE, tcp.read_to_end(&mut bytes)).await.expect("an end in time")?;
    Ok(bytes)
}

async fn answer_paths(mut asked: mpsc::Receiver<Request>, path: Result<PathHandle, NotReached>) {
    while let Some(request) = asked.recv().await {
        let Request::Services(ServiceRequest::Path { reply, .. }) = request else { panic!("only paths") };
        let _ = reply.send(path.clone());
    }
}

/// A client node whose proxies lead to a serving node, connected by one path.
struct Pair {
    path: PathHandle,
    peer: PeerId,
    node: NodeHandle,
    offers: Arc<ArcSwap<Offers>>,
    server: TcpListener,
    proxies: std::sync::Mutex<BTreeMap<String, proxy::Proxy>>,
    serving: tokio::task::AbortHandle,
    /// Has the client's side close a path.
    give_up: mpsc::Sender<PathId>,
}

impl Pair {
    async fn new(carrier: &str) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (streams, arriving) = queue();
        let (mut near, mut far) = (swarm(None), swarm(Some(streams)));
        let offers = Arc::new(ArcSwap::from_pointee(offers(server.local_addr().unwrap(), near.local_peer())));
        near.set_admission(admit(far.local_peer()));
        far.set_admission(admit(near.local_peer()));
        far.set_services(offers.load().protocols());
        far.listen(carrier.parse().unwrap()).unwrap();
        near.listen(carrier.parse().unwrap()).unwrap();
        let address = loop {
            if let Event::Listening(address) = far.next_event().await {
                break address;
            }
        };
        near.dial(far.local_peer(), vec![address]).unwrap();
        let peer = far.local_peer();
        let (give_up, given_up) = mpsc::channel(1);
        let (_never, nothing) = mpsc::channel(1);
        let serving = tokio::spawn(drive(far, nothing)).abort_handle();
        let path = timeout(DEADLINE, opened(&mut near)).await.unwrap();
        tokio::spawn(drive(near, given_up));
        tokio::spawn(serve::serve(arriving, offers.clone(), Default::default()));
        let (requests, asked) = mpsc::channel(8);
        tokio::spawn(answer_paths(asked, Ok(path.clone())));
        let node = NodeHandle::new(requests, Handle::current());
        Self { path, peer, node, offers, server, proxies: Default::default(), serving, give_up }
    }

    fn server_port(&self) -> u16 {
        self.server.local_addr().unwrap().port()
    }

    /// A client's connection to a proxy for `service`.
    async fn client(&self, service: &str) -> TcpStream {
        let wanted: Wanted = service.parse().unwrap();
        let plan = Plan { peer: self.peer, wanted };
        let proxy = proxy::start(self.node.clone(), plan, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let listen = proxy.listen;
        let client = TcpStream::connect(listen).await.unwrap();
        if let Some(before) = self.proxies.lock().unwrap().insert(service.to_owned(), proxy) {
            std::mem::forget(before);
        }
        client
    }

    /// What the proxy for `service` says of a session that failed.
    async fn failure(&self, service: &str) -> String {
        let told = async {
            loop {
                let error = self.proxies.lock().unwrap()[service].traffic.last_error();
                match error {
                    Some(error) => return error,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        timeout(DEADLINE, told).await.expect("a failure in time")
    }

    async fn accept(&self) -> TcpStream {
        timeout(DEADLINE, self.server.accept()).await.expect("a connection in time").unwrap().0
    }

    /// Ends the serving node without a word to its sessions.
    fn cut(&self) {
        self.serving.abort();
    }
}

fn offers(server: SocketAddr, member: PeerId) -> Offers {
    let to = |port: u16| Service {
        enabled: true,
        local_address: format!("127.0.0.1:{port}").parse().unwrap(),
        protocol: None,
        allowed_peers: None,
    };
    let others = Service { allowed_peers: Some(vec![PeerId::random()]), ..to(server.port()) };
    // Port 1 is nobody's.
    let services = [("app", to(server.port())), ("others", others), ("dead", to(1))];
    let services = services.into_iter().map(|(name, service)| (name.parse().unwrap(), service)).collect();
    let ports: PortRange = server.port().to_string().parse().unwrap();
    let mut offers = Offers::default();
    offers.set_members(BTreeSet::from([member]));
    let ping_pong = PingPong { enabled: true, id: "/pingpong/1.0.0".parse().unwrap() };
    offers.configure(&services, &[ports], &ping_pong);
    offers
}

fn swarm(services: Option<futures::channel::mpsc::Sender<swarm::InboundStream>>) -> PeerSwarm {
    PeerSwarm::new(SwarmConfig {
        keypair: Keypair::generate_ed25519(),
        agent: "peerup/test".into(),
        dht_protocol: "/peerup/kad/1.0.0".into(),
        overlay: vec![],
        profile: Profile::Node { mdns: false, relaying: None, punches_over: None },
        authorized_protocols: vec![],
        infrastructure_protocols: vec![],
        guest_protocols: vec![],
        services,
        io: Handle::current(),
    })
    .unwrap()
}

fn admit(peer: PeerId) -> Admission {
    Admission { authorized: BTreeSet::from([peer]), ..Admission::default() }
}

async fn opened(swarm: &mut PeerSwarm) -> PathHandle {
    loop {
        if let Event::PathOpened(path) = swarm.next_event().await {
            return path;
        }
    }
}

async fn drive(mut swarm: PeerSwarm, mut given_up: mpsc::Receiver<PathId>) {
    loop {
        tokio::select! {
            _ = swarm.next_event() => {}
            Some(path) = given_up.recv() => swarm.close(path),
        }
    }
}
