//! AutoNAT v2: relays tell their clients whether an address of theirs can be dialed. A hint, and fenced in.
//!
//! libp2p's server dials any address and port that a client names, private ranges included, and never closes the
//! connection. [`DialBacks`] stands around it: it lets through only dials to IP addresses from which the very client
//! is connected at that moment, and closes each connection when its errand is done. [`Authorized`] stands around both
//! sides: a server works for authorized peers, a client asks its relays and nobody else.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, autonat,
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour,
        THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, behaviour::ConnectionEstablished,
    },
};

use crate::{authorized::Authorized, gater::Standing, underlay};

type Inner = autonat::v2::server::Behaviour;

pub type Client = Authorized<GlobalOnly>;
pub type Server = Authorized<DialBacks>;

/// A client that asks relays only: members have no reason to know, and would be one more voice to believe.
pub fn client(standing: impl Fn(&PeerId) -> Standing + Send + Sync + 'static) -> Client {
    let relays_only = move |peer: &PeerId| match standing(peer) {
        Standing::Infrastructure => Standing::Authorized,
        Standing::Authorized | Standing::Anybody | Standing::Guest | Standing::Stranger => Standing::Stranger,
    };
    Authorized::new(GlobalOnly::default(), relays_only)
}

pub fn server(standing: impl Fn(&PeerId) -> Standing + Send + Sync + 'static) -> Server {
    Authorized::new(DialBacks::default(), standing)
}

/// A client that has only internet addresses tested. Before it dials an address that it does not see, a server asks for
/// 30 to 100 kB, as the price of a reflection attack (AutoNAT v2, "Amplification Attack Prevention"): a host behind a NAT
/// would pay it for each of its private addresses, which no relay can reach.
#[derive(Default)]
pub struct GlobalOnly(autonat::v2::client::Behaviour);

fn is_global(address: &Multiaddr) -> bool {
    match underlay::ip_of(address) {
        Some(IpAddr::V4(ip)) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            !(ip.is_private() || shared || ip.is_link_local() || ip.is_loopback())
        }
        Some(IpAddr::V6(ip)) => ip.segments()[0] & 0xe000 == 0x2000,
        None => false,
    }
}

impl NetworkBehaviour for GlobalOnly {
    type ConnectionHandler = THandler<autonat::v2::client::Behaviour>;
    type ToSwarm = autonat::v2::client::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.0.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.0.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::NewExternalAddrCandidate(candidate) if !is_global(candidate.addr) => {}
            other => self.0.on_swarm_event(other),
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.0.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.0.poll(cx)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{peer} is not connected from the address it wants dialed")]
struct NotFromThere {
    peer: PeerId,
}

#[derive(Default)]
pub struct DialBacks {
    inner: Inner,
    /// Direct connections of each client, and where they come from.
    remotes: HashMap<PeerId, HashMap<ConnectionId, IpAddr>>,
    /// Dials that clients asked for, until they are over.
    dials: HashSet<ConnectionId>,
    done: VecDeque<(PeerId, ConnectionId)>,
}

impl DialBacks {
    fn is_from(&self, peer: &PeerId, address: &Multiaddr) -> bool {
        let known = self.remotes.get(peer).into_iter().flat_map(HashMap::values);
        underlay::ip_of(address).is_some_and(|ip| known.into_iter().any(|from| *from == ip))
    }

    fn established(&mut self, event: &ConnectionEstablished<'_>) {
        // The connections that we make on a client's behalf say nothing about where it comes from.
        if event.endpoint.is_relayed() || self.dials.contains(&event.connection_id) {
            return;
        }
        if let Some(ip) = underlay::ip_of(event.endpoint.get_remote_address()) {
            self.remotes.entry(event.peer_id).or_default().insert(event.connection_id, ip);
        }
    }

    fn closed(&mut self, event: &ConnectionClosed<'_>) {
        self.dials.remove(&event.connection_id);
        if let Some(remotes) = self.remotes.get_mut(&event.peer_id) {
            remotes.remove(&event.connection_id);
            if remotes.is_empty() {
                self.remotes.remove(&event.peer_id);
            }
        }
    }
}

impl NetworkBehaviour for DialBacks {
    type ConnectionHandler = THandler<Inner>;
    type ToSwarm = <Inner as NetworkBehaviour>::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.dials.contains(&connection)
            && let Some(peer) = peer
            && !addresses.iter().all(|address| self.is_from(&peer, address))
        {
            return Err(ConnectionDenied::new(NotFromThere { peer }));
        }
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::ConnectionEstablished(established) => self.established(established),
            FromSwarm::ConnectionClosed(closed) => self.closed(closed),
            FromSwarm::DialFailure(failure) => {
                self.dials.remove(&failure.connection_id);
            }
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        // The one thing that the handler of such a connection reports is that it has said its nonce or failed to.
        if self.dials.contains(&connection) {
            self.done.push_back((peer, connection));
        }
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection)) = self.done.pop_front() {
            let connection = CloseConnection::One(connection);
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection });
        }
        let event = self.inner.poll(cx);
        if let Poll::Ready(ToSwarm::Dial { opts }) = &event {
            self.dials.insert(opts.connection_id());
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::ConnectedPoint;

    use super::*;

    #[test]
    fn only_internet_addresses_are_worth_a_test() {
        for (address, global) in [
            ("/ip4/203.0.113.7/udp/1/quic-v1", true),
            ("/ip6/2001:db8::7/tcp/1", true),
            ("/ip4/192.168.1.2/udp/1/quic-v1", false),
            ("/ip4/100.64.0.2/tcp/1", false),
            ("/ip6/fd00::1/tcp/1", false),
            ("/dns4/example.org/tcp/1", false),
        ] {
            assert_eq!(is_global(&address.parse().unwrap()), global, "{address}");
        }
    }

    fn connect(server: &mut DialBacks, peer: PeerId, id: usize, from: &str) {
        let from: Multiaddr = from.parse().unwrap();
        let endpoint = ConnectedPoint::Listener {
            local_addr: "/ip4/203.0.113.3/udp/7777/quic-v1".parse().unwrap(),
            send_back_addr: from,
        };
        server.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: peer,
            connection_id: ConnectionId::new_unchecked(id),
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established: 0,
        }));
    }

    fn may_dial(server: &mut DialBacks, peer: PeerId, to: &str) -> bool {
        let id = ConnectionId::new_unchecked(999);
        server.dials.insert(id);
        let addresses = [to.parse().unwrap()];
        server.handle_pending_outbound_connection(id, Some(peer), &addresses, Endpoint::Dialer).is_ok()
    }

    #[test]
    fn only_the_host_that_asks_is_dialed_back_on_any_of_its_ports() {
        let (mut server, peer, other) = (DialBacks::default(), PeerId::random(), PeerId::random());
        connect(&mut server, peer, 1, "/ip4/198.51.100.7/udp/14001/quic-v1");
        connect(&mut server, other, 2, "/ip4/198.51.100.8/tcp/14001");
        assert!(may_dial(&mut server, peer, "/ip4/198.51.100.7/udp/25000/quic-v1"));
        for elsewhere in [
            "/ip4/198.51.100.8/tcp/22",
            "/ip4/127.0.0.1/tcp/22",
            "/ip4/10.0.0.1/tcp/80",
            "/ip6/2001:db8::7/tcp/22",
            "/dns4/intranet.example/tcp/80",
        ] {
            assert!(!may_dial(&mut server, peer, elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn a_host_that_is_gone_is_not_dialed() {
        let (mut server, peer) = (DialBacks::default(), PeerId::random());
        connect(&mut server, peer, 1, "/ip4/198.51.100.7/tcp/14001");
        let endpoint = ConnectedPoint::Listener {
            local_addr: "/ip4/203.0.113.3/tcp/7777".parse().unwrap(),
            send_back_addr: "/ip4/198.51.100.7/tcp/14001".parse().unwrap(),
        };
        server.closed(&ConnectionClosed {
            peer_id: peer,
            connection_id: ConnectionId::new_unchecked(1),
            endpoint: &endpoint,
            cause: None,
            remaining_established: 0,
        });
        assert!(server.remotes.is_empty());
        assert!(!may_dial(&mut server, peer, "/ip4/198.51.100.7/tcp/25000"));
    }

    #[test]
    fn dials_of_others_are_none_of_its_business() {
        let mut server = DialBacks::default();
        let id = ConnectionId::new_unchecked(5);
        let anywhere = ["/ip4/192.0.2.1/tcp/1".parse().unwrap()];
        let peer = Some(PeerId::random());
        assert!(server.handle_pending_outbound_connection(id, peer, &anywhere, Endpoint::Dialer).is_ok());
    }
}
