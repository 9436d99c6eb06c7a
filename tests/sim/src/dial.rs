//! Dialing: handshakes of datagrams through routers, simultaneous opens, circuits.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use peerup_path::Role;
use peerup_types::{Multiaddr, PeerId, Protocol};

use crate::{
    connection::{ConnId, End, EndId, Message, Over},
    host::PORT,
    nat::Transport,
    net::Flight,
    world::{HostId, World},
};

/// When the first datagram of a handshake is sent again (QUIC's probe timeout, TCP's SYN).
const RETRIES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];
const TIMEOUT: Duration = Duration::from_secs(5);
const CIRCUIT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DialId(u64);

/// One dial of the swarm: the first of its addresses that answers wins.
#[derive(Debug)]
pub struct Dial {
    host: HostId,
    /// The process that dialed; a later one does not hear of it.
    boot: u64,
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    role: Role,
    /// TCP connects under way, by remote socket: a SYN from there is a simultaneous open.
    connecting: BTreeMap<SocketAddr, ()>,
    left: usize,
}

impl World {
    pub(crate) fn dial(&mut self, host: HostId, peer: PeerId, addresses: Vec<Multiaddr>, role: Role) {
        self.next_id += 1;
        let id = DialId(self.next_id);
        let boot = self.hosts[host.0].boot;
        let left = addresses.len();
        self.dials.insert(
            id,
            Dial { host, boot, peer, addresses: addresses.clone(), role, connecting: BTreeMap::new(), left },
        );
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        self.note(
            host,
            format_args!("dials {} as {role:?}", texts.join(" ").replace(&peer.to_string(), "it")),
        );
        for address in addresses {
            match (relay_of(&address), socket(&address)) {
                (Some(relay), _) => self.dial_circuit(id, relay),
                (None, Some((transport, remote))) => self.dial_direct(id, transport, remote),
                (None, None) => self.after(Duration::ZERO, move |world| world.attempt_failed(id)),
            }
        }
    }

    // Direct

    fn dial_direct(&mut self, id: DialId, transport: Transport, remote: SocketAddr) {
        let dial = self.dials.get_mut(&id).expect("attempts begin with their dial");
        if transport == Transport::Tcp {
            dial.connecting.insert(remote, ());
        }
        for wait in RETRIES {
            self.after(wait, move |world| world.knock(id, transport, remote));
        }
        self.after(TIMEOUT, move |world| world.attempt_failed(id));
    }

    /// The first datagram of a handshake.
    fn knock(&mut self, id: DialId, transport: Transport, remote: SocketAddr) {
        let Some(dial) = self.live_dial(id) else { return };
        let host = dial.host;
        let Some(local) = self.hosts[host.0].socket_towards(remote) else { return };
        if let Some(flight) = self.leave(host, transport, local, remote) {
            self.after(flight.delay, move |world| world.knocked(id, flight, local));
        }
    }

    fn knocked(&mut self, id: DialId, flight: Flight, dialer: SocketAddr) {
        let Some((target, local)) = self.land(flight) else { return };
        let Some(dial) = self.live_dial(id) else { return };
        let (host, peer, role) = (dial.host, dial.peer, dial.role);
        if self.is_lost(host, target) || !self.hosts[target.0].is_running() || local.port() != PORT {
            return;
        }
        if self.hosts[target.0].peer != peer {
            return self.after(flight.delay, move |world| world.attempt_failed(id));
        }
        let Some(answer) = self.leave(target, flight.transport, local, flight.source) else { return };
        let crossing = self.crossing(target, flight);
        match (crossing, role) {
            (Some(other), role) if self.dials[&other].role != role => {
                self.after(answer.delay * 2, move |world| world.opened_both(id, other, answer, dialer));
            }
            // Two dialers or two listeners at the ends of one TCP connection: security negotiation fails.
            (Some(_), _) => {}
            // A lone listener waits for a handshake that nobody begins.
            (None, Role::Listener) if flight.transport == Transport::Tcp => {}
            (None, Role::Dialer | Role::Listener) => {
                self.after(answer.delay, move |world| world.answered(id, answer, dialer));
            }
        }
    }

    /// A connect of `target` to where this SYN comes from.
    fn crossing(&self, target: HostId, flight: Flight) -> Option<DialId> {
        let connects = |dial: &Dial| dial.host == target && dial.connecting.contains_key(&flight.source);
        let tcp = flight.transport == Transport::Tcp;
        self.dials.iter().find(|(_, dial)| tcp && connects(dial)).map(|(id, _)| *id)
    }

    /// The answer to the dialer's knock arrives, if its own router lets it in.
    fn answered(&mut self, id: DialId, answer: Flight, dialer: SocketAddr) {
        let Some(landed) = self.land(answer) else { return };
        let Some(dial) = self.live_dial(id) else { return };
        if landed != (dial.host, dialer) {
            return;
        }
        // TCP needs another round trip for TLS; then the dialer knows, half a round trip before the listener.
        let security = if answer.transport == Transport::Tcp { answer.delay * 2 } else { Duration::ZERO };
        self.after(security, move |world| {
            world.opened_by(id, answer, dialer, false);
        });
    }

    fn opened_both(&mut self, id: DialId, other: DialId, answer: Flight, dialer: SocketAddr) {
        if self.live_dial(other).is_some() && self.opened_by(id, answer, dialer, true) {
            self.dials.remove(&other);
        }
    }

    fn opened_by(&mut self, id: DialId, answer: Flight, dialer: SocketAddr, both: bool) -> bool {
        let Some(dial) = self.live_dial(id) else { return false };
        let (host, peer, now) = (dial.host, dial.peer, self.now);
        let target = self.find(&peer).expect("it answered");
        let Flight { transport, source, destination, delay, .. } = answer;
        let answering = self.hosts[target.0].socket_towards(destination);
        let Some(answering) = answering else { return false };
        self.dials.remove(&id);
        let near = End::new(host, true, Some((dialer, source)), now);
        let far = End::new(target, both, Some((answering, destination)), now);
        let connection = self.add_connection(Over::Direct(transport), [near, far]);
        self.establish(connection, delay);
        true
    }

    fn establish(&mut self, connection: ConnId, delay: Duration) {
        self.open_end(EndId { connection, index: 0 });
        self.after(delay, move |world| world.open_end(EndId { connection, index: 1 }));
    }

    // Circuits

    fn dial_circuit(&mut self, id: DialId, relay: PeerId) {
        let dial = &self.dials[&id];
        let (host, peer) = (dial.host, dial.peer);
        match self.hosts[host.0].connection_to(&relay) {
            Some(leg) => {
                self.transmit(leg, Message::Connect { dial: id, peer });
                self.after(CIRCUIT_TIMEOUT, move |world| world.attempt_failed(id));
            }
            None => self.after(Duration::ZERO, move |world| world.attempt_failed(id)),
        }
    }

    pub(crate) fn circuit_denied(&mut self, id: DialId) {
        self.attempt_failed(id);
    }

    /// The relay joined our `near` leg and the peer's `far` leg.
    pub(crate) fn circuit_connected(&mut self, id: DialId, near: EndId, far: EndId) {
        let Some(dial) = self.live_dial(id) else { return };
        let host = dial.host;
        let ends = [near, near.other(), far, far.other()].map(|end| self.end(end).map(|end| end.host));
        let [Some(_), Some(relay), Some(target), Some(_)] = ends else { return };
        self.dials.remove(&id);
        let ends = [End::new(host, true, None, self.now), End::new(target, false, None, self.now)];
        let connection = self.add_connection(Over::Circuit { relay, legs: [near, far] }, ends);
        // TLS through the circuit: one round trip for the dialer, and half of one more for the listener.
        match self.way(EndId { connection, index: 0 }) {
            Some(delay) => self.after(delay * 2, move |world| world.establish(connection, delay)),
            None => drop(self.connections.remove(&connection)),
        }
    }

    // Both

    fn attempt_failed(&mut self, id: DialId) {
        let Some(dial) = self.dials.get_mut(&id) else { return };
        dial.left = dial.left.saturating_sub(1);
        if dial.left > 0 {
            return;
        }
        let Some(Dial { host, peer, boot, addresses, .. }) = self.dials.remove(&id) else { return };
        self.when_awake(host, move |world| {
            if world.hosts[host.0].boot == boot {
                world.tell(host, |node, now, _| node.handle_dial_failed(&peer, &addresses, "no answer", now));
            }
        });
    }

    fn live_dial(&self, id: DialId) -> Option<&Dial> {
        let dial = self.dials.get(&id)?;
        let host = &self.hosts[dial.host.0];
        (host.boot == dial.boot && host.is_running()).then_some(dial)
    }
}

/// The transport and socket of a plain address.
pub fn socket(address: &Multiaddr) -> Option<(Transport, SocketAddr)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Udp(port) => Some((Transport::Udp, (ip, port).into())),
        Protocol::Tcp(port) => Some((Transport::Tcp, (ip, port).into())),
        _ => None,
    }
}

pub fn multiaddr(transport: Transport, socket: SocketAddr) -> Multiaddr {
    let address = Multiaddr::from(socket.ip());
    match transport {
        Transport::Udp => address.with(Protocol::Udp(socket.port())).with(Protocol::QuicV1),
        Transport::Tcp => address.with(Protocol::Tcp(socket.port())),
    }
}

/// The relay that a circuit address names.
fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let parts: Vec<_> = address.iter().collect();
    let at = parts.iter().position(|part| *part == Protocol::P2pCircuit)?;
    match parts.get(at.checked_sub(1)?)? {
        Protocol::P2p(relay) => Some(*relay),
        _ => None,
    }
}
