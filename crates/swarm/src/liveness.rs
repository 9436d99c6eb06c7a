//! Notices that a connection is dead although nobody said so.
//!
//! Suspend, roaming and a forgotten NAT mapping end a TCP connection without FIN or RST, and the kernel's keep-alive takes
//! minutes. QUIC gives up by itself when it is idle; a reservation over TCP would look alive until the kernel
//! stops retransmitting. libp2p's ping only reports, so the shell closes what ping reports as failed.
//!
//! libp2p keeps the first failure in a row to itself and pings again after the interval, so a silent connection is
//! closed after between one interval and two timeouts (a ping was just sent) and two of both (one was just
//! answered): 25 to 40 seconds for a connection to a relay. What must be noticed sooner is probed on its own
//! streams.

use std::{
    error::Error,
    io,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, multiaddr::Protocol, transport::PortUse, upgrade::NegotiationError},
    ping,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};

use crate::gater::Standing;

/// A round trip over a congested relay takes a second or two; two timeouts in a row are needed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Who is only answered. One ping at the start shows whether the other end knows the protocol.
const NEVER: Duration = Duration::from_secs(7 * 24 * 3600);

/// How often TCP connections are pinged. An exchange is up to eight packets.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    /// To a relay of ours.
    pub to_relays: Duration,
    pub dialed: Duration,
    pub accepted: Duration,
}

impl Rhythm {
    /// A node has to notice soon that its relay is gone. To a peer TCP is mostly the spare of a QUIC connection, and
    /// packets that have to go there are probed, and the kernel asks whether the peer is there; an idle node with ten peers
    /// stays below 60 packets a minute.
    pub const NODE: Self =
        Self { to_relays: Duration::from_secs(15), dialed: Duration::from_secs(3600), accepted: NEVER };
    /// A stale connection with a reservation on it would attract circuits to a host that has moved.
    pub const RELAY: Self = {
        let every = Duration::from_secs(10);
        Self { to_relays: every, dialed: every, accepted: every }
    };
}

type AskStanding = Box<dyn Fn(&PeerId) -> Standing + Send + Sync>;

/// libp2p's ping with a rhythm that depends on the connection. QUIC has keep-alives of its own, and the end of a
/// circuit is told by the relay, which watches its two legs.
pub struct Behaviour {
    standing: AskStanding,
    to_relays: ping::Behaviour,
    dialed: ping::Behaviour,
    accepted: ping::Behaviour,
    answering: ping::Behaviour,
}

impl Behaviour {
    pub fn new(rhythm: Rhythm, standing: impl Fn(&PeerId) -> Standing + Send + Sync + 'static) -> Self {
        let every = |interval| {
            ping::Behaviour::new(ping::Config::new().with_interval(interval).with_timeout(TIMEOUT))
        };
        Self {
            standing: Box::new(standing),
            to_relays: every(rhythm.to_relays),
            dialed: every(rhythm.dialed),
            accepted: every(rhythm.accepted),
            answering: every(NEVER),
        }
    }
}

/// TCP to the other end itself, not to a relay.
fn is_plain_tcp(remote: &Multiaddr) -> bool {
    let tcp = remote.iter().any(|part| matches!(part, Protocol::Tcp(_)));
    tcp && !remote.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = THandler<ping::Behaviour>;
    type ToSwarm = ping::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // The remote address of a circuit is bare; the local one tells.
        let ping = if is_plain_tcp(local) { &mut self.accepted } else { &mut self.answering };
        ping.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let to_relay = (self.standing)(&peer) == Standing::Infrastructure;
        let ping = match (is_plain_tcp(address), to_relay) {
            (true, true) => &mut self.to_relays,
            (true, false) => &mut self.dialed,
            (false, _) => &mut self.answering,
        };
        ping.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    /// They differ in the interval of their handlers only, so one of them reports for all.
    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.answering.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.answering.poll(cx)
    }
}

/// Whether a failed ping means that the connection is of no use. A peer without ping is no such thing.
pub fn is_dead(failure: &ping::Failure) -> bool {
    match failure {
        ping::Failure::Timeout => true,
        ping::Failure::Unsupported => false,
        ping::Failure::Other { error } => !is_refused(error.as_ref()),
    }
}

/// Protocols are negotiated lazily, so the refusal of one arrives as an error of the first read.
fn is_refused(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let cause = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    matches!(cause.and_then(|cause| cause.downcast_ref()), Some(NegotiationError::Failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(error: io::Error) -> ping::Failure {
        ping::Failure::Other { error: Box::new(error) }
    }

    #[test]
    fn only_tcp_to_the_other_end_itself_is_pinged() {
        let circuit =
            "/ip4/192.0.2.1/tcp/7777/p2p/12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx/p2p-circuit";
        for (address, pinged) in
            [("/ip4/192.0.2.1/tcp/4001", true), ("/ip4/192.0.2.1/udp/4001/quic-v1", false), (circuit, false)]
        {
            assert_eq!(is_plain_tcp(&address.parse().unwrap()), pinged, "{address}");
        }
    }

    #[test]
    fn silence_and_errors_are_death_and_a_peer_without_ping_is_not() {
        assert!(is_dead(&ping::Failure::Timeout));
        assert!(is_dead(&other(io::ErrorKind::ConnectionReset.into())));
        assert!(!is_dead(&ping::Failure::Unsupported));
        assert!(!is_dead(&other(NegotiationError::Failed.into())));
    }
}
