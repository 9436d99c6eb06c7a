//! What is particular to QUIC: sockets, roles, addresses, handles.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod common;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{DEADLINE, Host, Kind::*, connect, exchange, stream_between};
use futures::{
    AsyncWriteExt,
    future::{join, join4},
};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        Endpoint,
        transport::{ListenerId, PortUse, TransportEvent},
    },
    identity::Keypair,
    multiaddr::Protocol,
};
use peerup_transport::quic::{
    Config, Congestion, Connected, Datagrams, PathMtu, Registry, SendError, SocketBuffers,
};
use tokio::{runtime::Runtime, sync::oneshot, task::spawn_blocking, time::timeout};

const V4: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const V6: &str = "/ip6/::1/udp/0/quic-v1";

#[tokio::test]
async fn a_reusing_dial_leaves_from_the_listening_port_of_its_family() {
    for listener in [StockQuic, OurQuic] {
        let (mut dialer, mut listener) = (Host::new(OurQuic), Host::new(listener));
        let (own4, own6) = (dialer.listen(V4).await, dialer.listen(V6).await);
        let (there4, there6) = (listener.listen(V4).await, listener.listen(V6).await);
        let (_, accepted) = connect(&mut dialer, &mut listener, &there4).await;
        assert_eq!(accepted.remote, own4);
        let (_, accepted) = connect(&mut dialer, &mut listener, &there6).await;
        assert_eq!(accepted.remote, own6);
    }
}

#[tokio::test]
async fn a_dial_from_a_wildcard_listener_shows_its_port() {
    let (mut dialer, mut listener) = (Host::new(OurQuic), Host::new(StockQuic));
    let own = dialer.listen("/ip4/0.0.0.0/udp/0/quic-v1").await;
    let there = listener.listen(V4).await;
    let (_, accepted) = connect(&mut dialer, &mut listener, &there).await;
    assert_eq!(port(&accepted.remote), port(&own));
}

#[tokio::test]
async fn a_dial_that_wants_a_new_port_gets_one() {
    let (mut dialer, mut listener) = (Host::new(OurQuic), Host::new(StockQuic));
    let own = dialer.listen(V4).await;
    let there = listener.listen(V4).await;
    let dial = dialer.dial_with(there, PortUse::New, Endpoint::Dialer);
    let (dialed, accepted) = join(dial, listener.accept()).await;
    assert!(dialed.is_ok());
    assert_ne!(accepted.remote, own);
}

#[tokio::test]
async fn dials_without_a_listener_share_a_port() {
    let (mut dialer, mut listener) = (Host::new(OurQuic), Host::new(StockQuic));
    let there = listener.listen(V4).await;
    let (_first, one) = connect(&mut dialer, &mut listener, &there).await;
    let (_second, two) = connect(&mut dialer, &mut listener, &there).await;
    assert_eq!(one.remote, two.remote);
}

#[tokio::test]
async fn both_sides_dialing_at_once_in_either_role_get_a_connection_each() {
    for other in [StockQuic, OurQuic] {
        let (mut a, mut b) = (Host::new(OurQuic), Host::new(other));
        let (at_a, at_b) = (a.listen(V4).await, b.listen(V4).await);
        let dial_b = a.dial_with(named(&at_b, b.peer), PortUse::Reuse, Endpoint::Dialer);
        let dial_a = b.dial_with(named(&at_a, a.peer), PortUse::Reuse, Endpoint::Listener);
        let all = timeout(DEADLINE, join4(dial_b, dial_a, a.accept(), b.accept())).await.unwrap();
        let (to_b, to_a, mut from_b, mut from_a) = (all.0.unwrap(), all.1.unwrap(), all.2, all.3);
        assert_eq!((to_b.0, to_a.0, from_b.peer, from_a.peer), (b.peer, a.peer, b.peer, a.peer));
        assert_eq!((from_b.remote.clone(), from_a.remote.clone()), (at_b, at_a));
        for (near, far) in [(&to_b.1, &mut from_a.link), (&to_a.1, &mut from_b.link)] {
            let (out, inbound) = stream_between(near, far).await;
            exchange(out, inbound, 4).await;
        }
    }
}

#[tokio::test]
async fn the_wrong_peer_is_refused_by_name_and_learns_nothing() {
    for listener in [StockQuic, OurQuic] {
        let (mut dialer, mut listener) = (Host::new(OurQuic), Host::new(listener));
        let there = listener.listen(V4).await;
        let somebody = PeerId::random();
        let dial = dialer.dial(named(&there, somebody));
        let error = tokio::select! {
            result = dial => result.err().unwrap().to_string(),
            _ = listener.accept() => panic!("the listener saw a finished handshake"),
        };
        assert!(
            error.contains(&somebody.to_string()) && error.contains(&listener.peer.to_string()),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_dial_that_names_nobody_yields_whoever_answers() {
    for (dialer, listener) in [(StockQuic, OurQuic), (OurQuic, StockQuic)] {
        let (mut dialer, mut listener) = (Host::new(dialer), Host::new(listener));
        let there = listener.listen(V4).await;
        let (dialed, accepted) = join(dialer.dial(there), listener.accept()).await;
        assert_eq!((dialed.unwrap().0, accepted.peer), (listener.peer, dialer.peer));
    }
}

#[tokio::test]
async fn nobody_there_is_an_error_after_the_handshake_timeout() {
    let key = Keypair::generate_ed25519();
    let mut dialer = Host::quic(&key, |config| config.handshake_timeout(Duration::from_millis(300)));
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let there = format!("/ip4/127.0.0.1/udp/{}/quic-v1", silent.local_addr().unwrap().port());
    let error = timeout(DEADLINE, dialer.dial(there.parse().unwrap())).await.unwrap().err().unwrap();
    assert!(error.to_string().contains("no answer within 300ms"), "{error}");
}

#[tokio::test]
async fn addresses_that_are_not_quic_v1_are_left_to_other_transports() {
    use libp2p::core::transport::{DialOpts, Transport as _, TransportError};
    let credentials = peerup_transport::Credentials::new(&Keypair::generate_ed25519()).unwrap();
    let mut transport =
        peerup_transport::quic::Transport::new(peerup_transport::quic::Config::new(&credentials));
    let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
    for other in ["/ip4/1.2.3.4/tcp/1", "/ip4/0.0.0.0/udp/1/quic-v1", "/ip4/1.2.3.4/udp/0/quic-v1"] {
        let other: Multiaddr = other.parse().unwrap();
        assert!(matches!(transport.dial(other, opts), Err(TransportError::MultiaddrNotSupported(_))));
    }
}

#[tokio::test]
async fn a_wildcard_reports_addresses_of_the_host() {
    let mut host = Host::new(OurQuic);
    let address = host.listen("/ip4/0.0.0.0/udp/0/quic-v1").await;
    assert!(!address.to_string().contains("0.0.0.0"), "{address}");
    assert_ne!(port(&address), 0);
    let mut host = Host::new(OurQuic);
    let address = host.listen("/ip6/::/udp/0/quic-v1").await;
    assert!(address.to_string().starts_with("/ip6/"), "{address}");
}

#[tokio::test]
async fn a_removed_listener_accepts_no_more_but_keeps_its_connections() {
    let impatient = |config: Config| config.handshake_timeout(Duration::from_secs(2));
    let mut dialer = Host::quic(&Keypair::generate_ed25519(), impatient);
    let mut listener = Host::new(OurQuic);
    let id = ListenerId::next();
    let there = listener.listen_as(id, V4).await;
    let (near, mut far) = connect(&mut dialer, &mut listener, &there).await;
    assert!(listener.unlisten(id));
    assert!(matches!(listener.event().await, TransportEvent::ListenerClosed { reason: Ok(()), .. }));
    assert!(!listener.unlisten(id));
    let (out, inbound) = stream_between(&near, &mut far.link).await;
    exchange(out, inbound, 4).await;
    assert!(timeout(DEADLINE, dialer.dial(there)).await.unwrap().is_err());
}

#[tokio::test]
async fn a_restarted_host_resets_the_connections_it_has_forgotten() {
    let key = Keypair::generate_ed25519();
    let (process, same_key) = (Runtime::new().unwrap(), key.clone());
    let (address, listening) = oneshot::channel();
    let before = process.spawn(async move {
        let mut host = Host::with_key(OurQuic, &same_key);
        address.send(host.listen(V4).await).unwrap();
        let accepted = host.accept().await;
        (host, accepted)
    });
    let there = listening.await.unwrap();
    let near = Host::new(OurQuic).dial(there.clone()).await.unwrap().1;
    let before = before.await.unwrap();
    spawn_blocking(move || drop(process)).await.unwrap(); // sends nothing any more
    drop(before);
    let mut after = Host::with_key(OurQuic, &key);
    after.listen(&there.to_string()).await;
    near.open().await.write_all(b"are you there?").await.unwrap();
    let ended = timeout(Duration::from_secs(8), near.ended()).await.expect("sooner than the idle timeout");
    assert!(ended.contains("Reset"), "{ended}");
}

#[derive(Default)]
struct Recorder {
    bound: Mutex<Vec<(SocketAddr, SocketBuffers)>>,
    connected: Mutex<Vec<Connected>>,
}

impl Registry for Recorder {
    fn bound(&self, local: SocketAddr, buffers: SocketBuffers) {
        self.bound.lock().unwrap().push((local, buffers));
    }

    fn connected(&self, connected: Connected) {
        self.connected.lock().unwrap().push(connected);
    }
}

#[tokio::test]
async fn handles_give_rtt_and_datagrams_between_ours_and_none_with_stock() {
    let (recorder, mut a) = recorded();
    let (other, mut b) = recorded();
    let mut stock = Host::new(StockQuic);
    let (at_b, at_stock) = (b.listen(V4).await, stock.listen(V4).await);
    let (near, _far) = connect(&mut a, &mut b, &at_b).await;
    let (_stock_near, _stock_far) = connect(&mut a, &mut stock, &at_stock).await;
    let seen = recorder.connected.lock().unwrap().clone();
    assert_eq!(
        seen.iter().map(|c| (c.peer, c.side)).collect::<Vec<_>>(),
        [(b.peer, Endpoint::Dialer), (stock.peer, Endpoint::Dialer)]
    );
    assert_eq!(seen[0].remote.port(), port(&at_b));
    assert_eq!(Datagrams::new(seen[1].handle.clone(), 0).max_len(), None);
    let far = other.connected.lock().unwrap()[0].clone();
    assert_eq!((far.peer, far.side), (a.peer, Endpoint::Listener));
    let sender = Datagrams::new(seen[0].handle.clone(), 0);
    let longest = sender.max_len().unwrap();
    assert!(longest >= 1100, "{longest}");
    assert_eq!(sender.send(&[&vec![0; longest + 1]]), Err(SendError::TooLong));
    // Another protocol's flow on the same connection, and what is too short to belong to any.
    Datagrams::new(seen[0].handle.clone(), 1).send(&[b"for others"]).unwrap();
    seen[0].handle.send_datagram(Vec::new().into()).unwrap();
    sender.send(&[b"pi", b"ng"]).unwrap();
    let receiver = Datagrams::new(far.handle.clone(), 0);
    let ping = timeout(DEADLINE, receiver.receive()).await.unwrap().unwrap();
    assert_eq!(&ping[..], b"ping");
    assert!(receiver.figures().rtt < Duration::from_secs(1));
    assert!(sender.figures().sent > 0 && sender.figures().lost == 0);
    // A handle that is kept does not keep the connection.
    assert_eq!(near.close().await, Ok(()));
    timeout(DEADLINE, far.handle.closed()).await.unwrap();
    assert!(timeout(DEADLINE, receiver.receive()).await.unwrap().is_err());
    assert_eq!(sender.send(&[b"late"]), Err(SendError::Closed));
}

/// quinn's cubic starts with a window of some ten packets: what a connection may send before the first answer.
#[tokio::test]
async fn a_connection_that_carries_only_datagrams_is_not_held_to_a_window() {
    let (recorder, mut a) = recorded();
    let mut b = Host::new(OurQuic);
    let at_b = b.listen(V4).await;
    let (_near, _far) = connect(&mut a, &mut b, &at_b).await;
    let handle = recorder.connected.lock().unwrap()[0].handle.clone();
    let datagrams = Datagrams::new(handle.clone(), 0);
    let held = handle.stats().path.cwnd;
    datagrams.stand_alone(true);
    assert!(handle.stats().path.cwnd > 10 * held);
    datagrams.stand_alone(false);
    assert_eq!(handle.stats().path.cwnd, held);
}

#[tokio::test]
async fn sockets_report_their_buffers() {
    let (recorder, mut host) = recorded();
    let address = host.listen(V4).await;
    let bound = recorder.bound.lock().unwrap().clone();
    assert_eq!(bound.len(), 1);
    assert_eq!(bound[0].0.port(), port(&address));
    assert!(bound[0].1.receive > 0 && bound[0].1.send > 0 && bound[0].1.requested == 7 << 20);
}

#[tokio::test]
async fn every_congestion_controller_and_a_known_mtu_carry_data() {
    for congestion in [Congestion::Cubic, Congestion::Bbr, Congestion::NewReno] {
        let recorder = Arc::new(Recorder::default());
        let mut dialer = Host::quic(&Keypair::generate_ed25519(), |config| {
            config.congestion(congestion).path_mtu(PathMtu::Known(1400)).registry(recorder.clone())
        });
        let mut listener = Host::new(StockQuic);
        let there = listener.listen(V4).await;
        let (near, mut far) = connect(&mut dialer, &mut listener, &there).await;
        let (out, inbound) = stream_between(&near, &mut far.link).await;
        exchange(out, inbound, 32).await;
        let handle = recorder.connected.lock().unwrap()[0].handle.clone();
        assert_eq!(handle.stats().path.current_mtu, 1400);
    }
}

fn recorded() -> (Arc<Recorder>, Host) {
    let recorder = Arc::new(Recorder::default());
    let host = Host::quic(&Keypair::generate_ed25519(), |config| config.registry(recorder.clone()));
    (recorder, host)
}

fn port(address: &Multiaddr) -> u16 {
    address.iter().find_map(|part| if let Protocol::Udp(port) = part { Some(port) } else { None }).unwrap()
}

fn named(address: &Multiaddr, peer: PeerId) -> Multiaddr {
    address.clone().with_p2p(peer).unwrap()
}
