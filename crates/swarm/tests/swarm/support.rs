//! Swarms for tests, and waiting for what they report.

use std::{collections::BTreeSet, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt};
use peerup_swarm::{
    Admission, Event, InboundStream, PathHandle, PeerSwarm, Profile, RelayLimits, SwarmConfig,
};
use peerup_types::{Keypair, Multiaddr, PathClass, PeerId};
use tokio::time::timeout;

pub const ECHO: &str = "/test/echo/1.0.0";
pub const DEADLINE: Duration = Duration::from_secs(20);

pub fn node() -> PeerSwarm {
    swarm(Profile::Node { mdns: false, relaying: None, punches_over: None })
}

pub fn relay() -> PeerSwarm {
    swarm(Profile::Relay(RelayLimits {
        max_reservations: 16,
        max_circuits: 16,
        max_circuits_per_peer: 8,
        reservation_ttl: Duration::from_secs(3600),
        circuit_duration: Duration::from_secs(3600),
        circuit_bytes: 0,
    }))
}

pub fn swarm(profile: Profile) -> PeerSwarm {
    PeerSwarm::new(SwarmConfig {
        keypair: Keypair::generate_ed25519(),
        agent: "peerup/test".into(),
        dht_protocol: "/peerup/kad/1.0.0".into(),
        overlay: vec!["10.64.0.0/16".parse().unwrap()],
        profile,
        authorized_protocols: vec![ECHO],
        infrastructure_protocols: vec![],
        guest_protocols: vec![],
        services: None,
        io: tokio::runtime::Handle::current(),
    })
    .unwrap()
}

pub fn admit<const N: usize>(peers: [PeerId; N]) -> Admission {
    Admission { authorized: BTreeSet::from(peers), ..Admission::default() }
}

pub fn trust(a: &mut PeerSwarm, b: &mut PeerSwarm) {
    a.set_admission(admit([b.local_peer()]));
    b.set_admission(admit([a.local_peer()]));
}

pub async fn listen(swarm: &mut PeerSwarm, address: &str) -> Multiaddr {
    swarm.listen(address.parse().unwrap()).unwrap();
    until(swarm, |event| match event {
        Event::Listening(address) => Some(address.clone()),
        _ => None,
    })
    .await
}

/// Runs `swarm` for what it does by itself.
pub async fn drive(swarm: &mut PeerSwarm) {
    loop {
        swarm.next_event().await;
    }
}

/// Reserves at a relay and waits for the grant.
pub async fn reserved(swarm: &mut PeerSwarm, relay: PeerId, address: Multiaddr) {
    swarm.reserve(relay, address).unwrap();
    until(swarm, |event| matches!(event, Event::Reserved { relay: at } if *at == relay).then_some(())).await;
}

pub async fn next(swarm: &mut PeerSwarm) -> Event {
    timeout(DEADLINE, swarm.next_event()).await.expect("an event in time")
}

pub async fn until<T>(swarm: &mut PeerSwarm, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = wanted(&swarm.next_event().await) {
                return found;
            }
        }
    };
    timeout(DEADLINE, search).await.expect("the awaited event in time")
}

pub async fn opened(swarm: &mut PeerSwarm) -> PathHandle {
    until(swarm, |event| match event {
        Event::PathOpened(handle) => Some(handle.clone()),
        _ => None,
    })
    .await
}

pub async fn relayed(swarm: &mut PeerSwarm) -> PathHandle {
    until(swarm, |event| match event {
        Event::PathOpened(handle) if handle.kind.class == PathClass::Relay => Some(handle.clone()),
        _ => None,
    })
    .await
}

pub async fn closed(swarm: &mut PeerSwarm) {
    until(swarm, |event| matches!(event, Event::PathClosed { .. }).then_some(())).await;
}

/// Drives both swarms until both have what they wait for.
pub async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    futures::join!(a, b)
}

/// Sends a word over `path` and returns what the other side echoes.
pub async fn echo(from: &mut PeerSwarm, to: &mut PeerSwarm, path: &PathHandle) -> String {
    let client = async {
        let mut stream = path.open(ECHO).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.close().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let server = async {
        loop {
            if let Event::Inbound(InboundStream { mut stream, peer, .. }) = to.next_event().await {
                assert_eq!(peer, from.local_peer());
                tokio::spawn(async move {
                    let mut word = [0; 5];
                    stream.read_exact(&mut word).await.unwrap();
                    stream.write_all(&word).await.unwrap();
                    stream.close().await.unwrap();
                });
            }
        }
    };
    let answered = async {
        tokio::select! { answer = client => answer, () = server => unreachable!() }
    };
    timeout(DEADLINE, answered).await.expect("an echo in time")
}
