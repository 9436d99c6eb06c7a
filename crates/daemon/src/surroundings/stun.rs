//! The socket that asks STUN servers: one for all of them, as long as a round takes.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use peerup_config::HostPort;
use peerup_reach::{StunFindings, StunProbe, probe::MAX_SERVERS, stun::MAX_MESSAGE};
use rand::RngExt;
use tokio::{
    net::{UdpSocket, lookup_host},
    time::timeout,
};

/// For names; a resolver that takes longer has failed.
const RESOLVE: Duration = Duration::from_secs(3);
/// The sum of all waits of a round, with room.
const ROUND: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum StunError {
    #[error("none of the STUN servers has an address")]
    NoAddress,
    #[error("no socket to ask STUN servers with")]
    Socket(#[source] io::Error),
}

/// One round: the local port of the socket, and what the servers said. IPv4 where any server has it, since that is
/// where the NATs are.
pub async fn ask(servers: &[HostPort]) -> Result<(u16, StunFindings), StunError> {
    let mut resolved = Vec::new();
    for server in servers.iter().take(MAX_SERVERS) {
        let found = timeout(RESOLVE, lookup_host((server.host.as_str(), server.port))).await;
        if let Ok(Ok(addresses)) = found {
            let all: Vec<SocketAddr> = addresses.collect();
            resolved.extend(all.iter().find(|at| at.is_ipv4()).or(all.first()));
        }
    }
    let v4 = resolved.iter().any(SocketAddr::is_ipv4);
    resolved.retain(|at| at.is_ipv4() == v4);
    if resolved.is_empty() {
        return Err(StunError::NoAddress);
    }
    let any: SocketAddr =
        if v4 { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await.map_err(StunError::Socket)?;
    let local_port = socket.local_addr().map_err(StunError::Socket)?.port();
    Ok((local_port, round(&socket, &resolved).await))
}

async fn round(socket: &UdpSocket, servers: &[SocketAddr]) -> StunFindings {
    let start = peerup_clock::now();
    let ids: Vec<[u8; 12]> = (0..StunProbe::IDS).map(|_| rand::rng().random()).collect();
    let mut probe = StunProbe::new(servers, ids, start);
    let mut buffer = [0; MAX_MESSAGE + 1];
    while !probe.is_done() && peerup_clock::now() < start + ROUND {
        while let Some((to, request)) = probe.poll_transmit() {
            if let Err(error) = socket.send_to(&request, to).await {
                tracing::debug!(%error, "a STUN request was not sent");
            }
        }
        let due: Instant = probe.poll_timeout().unwrap_or(start + ROUND);
        tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok((len, from)) => probe.handle_datagram(from, &buffer[..len], peerup_clock::now()),
                // An ICMP answer to an earlier datagram; the others may still get through.
                Err(error) => tracing::debug!(%error, "STUN socket"),
            },
            () = tokio::time::sleep_until(due.into()) => probe.handle_timeout(peerup_clock::now()),
        }
    }
    probe.findings()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers Binding requests with XOR-MAPPED-ADDRESS, as RFC 8489 has it.
    async fn server() -> HostPort {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut buffer = [0; 100];
            loop {
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                assert_eq!((len, &buffer[..4]), (20, &[0, 1, 0, 0][..]));
                let SocketAddr::V4(v4) = from else { panic!() };
                let mut answer = vec![1, 1, 0, 12];
                answer.extend(&buffer[4..20]);
                answer.extend([0, 0x20, 0, 8, 0, 1]);
                answer.extend((v4.port() ^ 0x2112).to_be_bytes());
                answer.extend((v4.ip().to_bits() ^ 0x2112_a442).to_be_bytes());
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        HostPort { host: "127.0.0.1".into(), port }
    }

    #[tokio::test]
    async fn all_servers_see_one_socket() {
        let servers = [server().await, server().await];
        let (port, findings) = ask(&servers).await.unwrap();
        assert_eq!((findings.asked, findings.answered), (2, 2));
        assert!(findings.sightings.iter().all(|seen| seen.mapped.port() == port), "{findings:?}");
        assert!(findings.rtt.is_some());
    }

    #[tokio::test]
    async fn names_that_do_not_exist_are_no_servers() {
        let nobody = HostPort { host: "nobody.invalid".into(), port: 3478 };
        assert!(matches!(ask(&[nobody]).await, Err(StunError::NoAddress)));
    }
}
