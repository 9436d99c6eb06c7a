//! Whether relays answer, over UDP and over TCP, and how fast. Nothing here needs a key or a session.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use futures::future::join_all;
use peerup_control::api::{ProbeCheck, RelayCheck};
use peerup_types::{DnsLabel, Multiaddr, PeerId, Protocol};
use rand::RngExt;
use tokio::{
    net::{TcpStream, UdpSocket, lookup_host},
    time::{sleep, timeout},
};

/// For names.
const RESOLVE: Duration = Duration::from_secs(3);
/// A relay on the other side of the world answers in half a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// UDP may lose a packet.
const REPEAT: Duration = Duration::from_millis(700);
/// Relays and addresses of each that are tried at once.
const MAX_RELAYS: usize = 16;
const MAX_ADDRESSES: usize = 8;
/// RFC 9000 §14.1: servers ignore smaller first packets.
const MIN_INITIAL: usize = 1200;
/// RFC 9000 §15: versions of this form make a server tell which versions it speaks.
const NO_VERSION: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];

pub async fn check(
    relays: &[(PeerId, Vec<Multiaddr>)],
    names: &BTreeMap<DnsLabel, PeerId>,
) -> Vec<RelayCheck> {
    let one = async |(id, addresses): &(PeerId, Vec<Multiaddr>)| {
        let probes = join_all(addresses.iter().take(MAX_ADDRESSES).map(probe)).await;
        let (quic, tcp): (Vec<_>, Vec<_>) = probes.into_iter().flatten().partition(|(quic, _)| *quic);
        let name = names.iter().find(|(_, peer)| *peer == id).map(|(name, _)| name.to_string());
        RelayCheck { id: *id, name, quic: best(quic), tcp: best(tcp) }
    };
    join_all(relays.iter().take(MAX_RELAYS).map(one)).await
}

fn best(probes: Vec<(bool, ProbeCheck)>) -> Option<ProbeCheck> {
    let key = |probe: &ProbeCheck| probe.rtt_ms.unwrap_or(f64::INFINITY);
    probes.into_iter().map(|(_, probe)| probe).min_by(|a, b| key(a).total_cmp(&key(b)))
}

/// Whether it was QUIC, and what came of it. `None` for addresses of other kinds.
async fn probe(address: &Multiaddr) -> Option<(bool, ProbeCheck)> {
    let (quic, host, port) = parts(address)?;
    let at = match host {
        Ok(ip) => Ok(SocketAddr::new(ip, port)),
        Err(name) => resolve(&name, port).await,
    };
    let outcome = match at {
        Ok(at) if quic => timed(quic_answer(at)).await,
        Ok(at) => timed(tcp_answer(at)).await,
        Err(error) => Err(error),
    };
    let (rtt_ms, error) = match outcome {
        Ok(rtt) => (Some(rtt.as_secs_f64() * 1000.0), None),
        Err(error) => (None, Some(error.to_string())),
    };
    Some((quic, ProbeCheck { addr: address.to_string(), rtt_ms, error }))
}

type Host = Result<IpAddr, String>;

fn parts(address: &Multiaddr) -> Option<(bool, Host, u16)> {
    let mut parts = address.iter();
    let host = match parts.next()? {
        Protocol::Ip4(ip) => Ok(ip.into()),
        Protocol::Ip6(ip) => Ok(ip.into()),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => Err(name.into_owned()),
        _ => return None,
    };
    match (parts.next()?, parts.next()) {
        (Protocol::Udp(port), Some(Protocol::QuicV1)) => Some((true, host, port)),
        (Protocol::Tcp(port), None | Some(Protocol::P2p(_))) => Some((false, host, port)),
        _ => None,
    }
}

async fn resolve(name: &str, port: u16) -> io::Result<SocketAddr> {
    let mut found = timeout(RESOLVE, lookup_host((name, port))).await.map_err(|_| no_answer())??;
    found.next().ok_or_else(|| io::Error::other("the name has no address"))
}

async fn timed(answer: impl Future<Output = io::Result<()>>) -> io::Result<Duration> {
    let start = peerup_clock::now();
    timeout(PATIENCE, answer).await.map_err(|_| no_answer())??;
    Ok(peerup_clock::now().saturating_duration_since(start))
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer")
}

async fn tcp_answer(at: SocketAddr) -> io::Result<()> {
    TcpStream::connect(at).await.map(drop)
}

/// A QUIC server answers a first packet of an unknown version with the list of those it speaks (RFC 8999 §6), which
/// takes one round trip and leaves no state behind.
async fn quic_answer(at: SocketAddr) -> io::Result<()> {
    let any: SocketAddr = match at {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(at).await?;
    let ids: [u8; 16] = rand::rng().random();
    let packet = unknown_version(&ids);
    socket.send(&packet).await?;
    let mut buffer = [0; 512];
    loop {
        tokio::select! {
            received = socket.recv(&mut buffer) => {
                if is_version_negotiation(&buffer[..received?], &ids) {
                    return Ok(());
                }
            }
            () = sleep(REPEAT) => drop(socket.send(&packet).await?),
        }
    }
}

/// Long header: form and fixed bit, version, destination and source connection ID, padding.
fn unknown_version(ids: &[u8; 16]) -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend(NO_VERSION);
    for id in ids.chunks(8) {
        packet.push(8);
        packet.extend(id);
    }
    packet.resize(MIN_INITIAL, 0);
    packet
}

/// Version 0, and our connection IDs the other way round.
fn is_version_negotiation(packet: &[u8], ids: &[u8; 16]) -> bool {
    let echoed = [&[8][..], &ids[8..], &[8], &ids[..8]].concat();
    packet.first().is_some_and(|first| first & 0x80 != 0)
        && packet.get(1..5) == Some(&[0; 4])
        && packet.get(5..5 + echoed.len()) == Some(&echoed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_version_zero_and_our_ids_swapped() {
        let ids: [u8; 16] = std::array::from_fn(|n| n as u8);
        let mut answer = vec![0x80, 0, 0, 0, 0, 8];
        answer.extend(8..16);
        answer.push(8);
        answer.extend(0..8);
        answer.extend([0, 0, 0, 1]);
        assert!(is_version_negotiation(&answer, &ids));
        assert!(!is_version_negotiation(&answer[..10], &ids));
        answer[20] ^= 1;
        assert!(!is_version_negotiation(&answer, &ids), "somebody else's");
        assert!(!is_version_negotiation(&unknown_version(&ids), &ids), "an echo of the question");
    }

    #[tokio::test]
    async fn an_open_tcp_port_has_a_round_trip_and_a_closed_one_a_reason() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let of = |port: u16| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        let id = PeerId::random();
        let open = check(&[(id, vec![of(port)])], &BTreeMap::new()).await;
        assert!(open[0].tcp.as_ref().unwrap().rtt_ms.is_some() && open[0].quic.is_none());
        drop(listener);
        let closed = check(&[(id, vec![of(port)])], &BTreeMap::new()).await;
        let probe = closed[0].tcp.as_ref().unwrap();
        assert!(probe.rtt_ms.is_none() && probe.error.is_some(), "{probe:?}");
    }
}
