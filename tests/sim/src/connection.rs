//! Connections: two ends, ordered messages between them, and how each end learns that the other is gone.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use peerup_types::{CarrierKind, Family, Multiaddr, PathClass, PathId, PathKind, PeerId};

use crate::{
    dial::DialId,
    nat::Transport,
    world::{HostId, World},
};

/// Between keep-alives and checks for silence: QUIC's keep-alive, libp2p's ping.
const QUIC_TICK: Duration = Duration::from_secs(5);
const TCP_TICK: Duration = Duration::from_secs(15);
/// After this much silence a QUIC connection is closed.
const QUIC_SILENCE: Duration = Duration::from_secs(10);
/// The kernel gives up unacknowledged data after about this time; libp2p's ping only reports, it does not close.
const TCP_SILENCE: Duration = Duration::from_secs(924);
/// Between attempts to send over a line that is cut, and the price of a lost datagram: a retransmission timeout.
const RETRANSMIT: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndId {
    pub connection: ConnId,
    pub index: usize,
}

impl EndId {
    pub fn other(self) -> Self {
        Self { index: 1 - self.index, ..self }
    }
}

#[derive(Debug)]
pub enum Over {
    Direct(Transport),
    /// Through a relay: the first leg leads from the first end to the relay, the second from the second end.
    Circuit {
        relay: HostId,
        legs: [EndId; 2],
    },
}

#[derive(Debug)]
pub struct Connection {
    pub over: Over,
    pub ends: [End; 2],
}

#[derive(Debug)]
pub struct End {
    pub host: HostId,
    pub path: PathId,
    /// Our socket and the peer's as we see it; circuits have none.
    pub sockets: Option<(SocketAddr, SocketAddr)>,
    pub outbound: bool,
    pub state: State,
    out: VecDeque<Message>,
    stuck: bool,
    last_arrival: Instant,
    pub last_heard: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The handshake is done elsewhere; this end learns of it soon.
    Opening,
    Open,
    Closed,
}

/// What travels on a connection. Greetings and control frames are bytes: the real encoding is part of the story.
#[derive(Debug, Clone)]
pub enum Message {
    KeepAlive,
    Close,
    Hello(Vec<u8>),
    Ack(Vec<u8>),
    Probe(u64),
    Answer(u64),
    Control(Vec<u8>),
    /// From an application; the time since the start of the story.
    Packet {
        sent: Duration,
    },
    /// Between a node and its relay.
    Identify {
        observed: Multiaddr,
    },
    Echo,
    Reserve,
    Reserved,
    Connect {
        dial: DialId,
        peer: PeerId,
    },
    Connected {
        dial: DialId,
        leg: EndId,
    },
    Denied {
        dial: DialId,
    },
    Offer {
        dial: DialId,
        leg: EndId,
    },
    Accept {
        dial: DialId,
        leg: EndId,
    },
    /// The relay lost the other leg of a circuit.
    LegLost {
        circuit: EndId,
    },
}

impl End {
    pub fn new(
        host: HostId,
        outbound: bool,
        sockets: Option<(SocketAddr, SocketAddr)>,
        now: Instant,
    ) -> Self {
        Self {
            host,
            path: PathId(0),
            sockets,
            outbound,
            state: State::Opening,
            out: VecDeque::new(),
            stuck: false,
            last_arrival: now,
            last_heard: now,
        }
    }
}

impl Connection {
    pub fn transport(&self) -> Transport {
        match self.over {
            Over::Direct(transport) => transport,
            Over::Circuit { .. } => Transport::Tcp,
        }
    }

    /// As the swarm of either end classifies it.
    pub fn kind(&self) -> PathKind {
        let v6 = self.ends[0].sockets.is_some_and(|(local, _)| local.is_ipv6());
        let family = if v6 { Family::Ipv6 } else { Family::Ipv4 };
        let (class, carrier) = match self.over {
            Over::Direct(Transport::Udp) => (PathClass::Direct, CarrierKind::QuicStream),
            Over::Direct(Transport::Tcp) => (PathClass::Direct, CarrierKind::TcpStream),
            Over::Circuit { .. } => (PathClass::Relay, CarrierKind::RelayStream),
        };
        PathKind { class, family, carrier }
    }
}

impl World {
    pub(crate) fn add_connection(&mut self, over: Over, ends: [End; 2]) -> ConnId {
        self.next_id += 1;
        let id = ConnId(self.next_id);
        self.connections.insert(id, Connection { over, ends });
        id
    }

    pub(crate) fn end(&self, end: EndId) -> Option<&End> {
        Some(&self.connections.get(&end.connection)?.ends[end.index])
    }

    pub(crate) fn end_mut(&mut self, end: EndId) -> Option<&mut End> {
        Some(&mut self.connections.get_mut(&end.connection)?.ends[end.index])
    }

    pub(crate) fn is_open(&self, end: EndId) -> bool {
        self.end(end).is_some_and(|end| end.state == State::Open)
    }

    /// The end learns that it is connected, and its host with it.
    pub(crate) fn open_end(&mut self, end: EndId) {
        let now = self.now;
        let Some(found) = self.end(end).filter(|found| found.state == State::Opening) else { return };
        if self.hosts[found.host.0].asleep.is_some() {
            return self.when_awake(found.host, move |world| world.open_end(end));
        }
        let Some(found) = self.end_mut(end) else { return };
        found.state = State::Open;
        found.last_heard = now;
        self.schedule_tick(end);
        self.host_opened(end);
        self.pump(end);
    }

    pub(crate) fn transmit(&mut self, end: EndId, message: Message) {
        let Some(found) = self.end_mut(end).filter(|found| found.state == State::Open) else { return };
        found.out.push_back(message);
        self.pump(end);
    }

    /// Sends what the line takes. On a dead line the rest waits for a retransmission.
    fn pump(&mut self, end: EndId) {
        loop {
            let waiting = |found: &&End| found.state == State::Open && !found.stuck && !found.out.is_empty();
            if self.end(end).filter(waiting).is_none() {
                return;
            }
            let Some(delay) = self.way(end) else { return self.retransmit(end) };
            let delay = delay + self.penalty(end, delay);
            let now = self.now;
            let Some(found) = self.end_mut(end) else { return };
            let Some(message) = found.out.pop_front() else { return };
            found.last_arrival = found.last_arrival.max(now + delay);
            let at = found.last_arrival;
            self.at(at, move |world| world.arrive(end.other(), message));
        }
    }

    fn retransmit(&mut self, end: EndId) {
        let Some(found) = self.end_mut(end) else { return };
        found.stuck = true;
        self.after(RETRANSMIT, move |world| {
            if let Some(found) = world.end_mut(end) {
                found.stuck = false;
                world.pump(end);
            }
        });
    }

    /// What loss and jitter add to the time of a message.
    fn penalty(&mut self, end: EndId, delay: Duration) -> Duration {
        let (from, to) = match (self.end(end), self.end(end.other())) {
            (Some(from), Some(to)) => (from.host, to.host),
            (None, _) | (_, None) => return Duration::ZERO,
        };
        let mut penalty = delay.mul_f64(self.random(0..100) as f64 / 1000.0);
        while self.is_lost(from, to) {
            penalty += RETRANSMIT.max(delay * 2);
        }
        penalty
    }

    /// One way from this end to the other, or `None` while the line is dead.
    pub(crate) fn way(&mut self, end: EndId) -> Option<Duration> {
        let connection = self.connections.get(&end.connection)?;
        let (from, to) = (&connection.ends[end.index], &connection.ends[end.other().index]);
        match connection.over {
            Over::Direct(transport) => {
                let (from, target) = (from.host, to.host);
                let ((local, remote), (back, seen)) = (connection.ends[end.index].sockets?, to.sockets?);
                let flight = self.leave(from, transport, local, remote)?;
                let landed = self.land(flight)?;
                (flight.source == seen && landed == (target, back)).then_some(flight.delay)
            }
            Over::Circuit { legs, .. } => {
                let [first, second] = [legs[end.index], legs[1 - end.index].other()];
                let open = [first, second, first.other(), second.other()];
                if !open.into_iter().all(|leg| self.is_open(leg)) {
                    return None;
                }
                Some(self.way(first)? + self.way(second)?)
            }
        }
    }

    /// Whether messages pass in both directions right now.
    pub fn works(&mut self, connection: ConnId) -> bool {
        let ends = [0, 1].map(|index| EndId { connection, index });
        ends.into_iter().all(|end| self.is_open(end) && self.way(end).is_some())
    }

    fn arrive(&mut self, end: EndId, message: Message) {
        let Some(found) = self.end(end) else { return };
        let (host, state) = (found.host, found.state);
        if self.hosts[host.0].asleep.is_some() || state == State::Opening {
            return self.after(RETRANSMIT / 4, move |world| world.arrive(end, message));
        }
        let now = self.now;
        match (state, message) {
            (State::Closed, Message::Close) => {}
            (State::Closed, _) => self.reset(end),
            (_, Message::Close) => self.close_end(end, false),
            (_, message) => {
                if let Some(found) = self.end_mut(end) {
                    found.last_heard = now;
                }
                self.host_received(end, message);
            }
        }
    }

    /// An end that is gone answers what still arrives, if anybody is there to answer.
    fn reset(&mut self, end: EndId) {
        let Some(connection) = self.connections.get(&end.connection) else { return };
        let host = &self.hosts[connection.ends[end.index].host.0];
        let answers = host.is_running() || host.is_powered() && connection.transport() == Transport::Tcp;
        if answers && let Some(delay) = self.way(end) {
            self.after(delay, move |world| world.close_end(end.other(), false));
        }
    }

    fn tick_every(&self, end: EndId) -> Option<(Duration, Duration)> {
        match self.connections.get(&end.connection)?.over {
            Over::Direct(Transport::Udp) => Some((QUIC_TICK, QUIC_SILENCE)),
            Over::Direct(Transport::Tcp) => Some((TCP_TICK, TCP_SILENCE)),
            // A circuit lives as long as its legs.
            Over::Circuit { .. } => None,
        }
    }

    fn schedule_tick(&mut self, end: EndId) {
        if let Some((tick, _)) = self.tick_every(end) {
            self.after(tick, move |world| world.tick(end));
        }
    }

    fn tick(&mut self, end: EndId) {
        let (Some((tick, silence)), now) = (self.tick_every(end), self.now) else { return };
        let Some(host) = self.end(end).filter(|found| found.state == State::Open).map(|found| found.host)
        else {
            return;
        };
        let asleep = self.hosts[host.0].asleep.is_some();
        let Some(found) = self.end_mut(end) else { return };
        if asleep {
            // Timers of the transport stand still with the monotonic clock.
            found.last_heard += tick;
        } else if found.last_heard + silence <= now {
            return self.close_end(end, false);
        } else if found.out.is_empty() {
            self.transmit(end, Message::KeepAlive);
        }
        self.schedule_tick(end);
    }

    /// This end is gone. With `tell` the other end hears of it, after everything that was sent before.
    pub(crate) fn close_end(&mut self, end: EndId, tell: bool) {
        if tell {
            self.transmit(end, Message::Close);
        }
        let Some(found) = self.end_mut(end).filter(|found| found.state != State::Closed) else { return };
        let was_open = found.state == State::Open;
        found.state = State::Closed;
        found.out.clear();
        if was_open {
            self.host_closed(end);
        }
        self.close_circuits(end);
        let closed = |index| self.end(EndId { index, ..end }).is_none_or(|end| end.state == State::Closed);
        if closed(0) && closed(1) {
            self.after(Duration::from_secs(60), move |world| drop(world.connections.remove(&end.connection)));
        }
    }

    /// Circuits over a leg end with it: at once where the leg ended, elsewhere when the relay has said so.
    fn close_circuits(&mut self, leg: EndId) {
        let mut affected = Vec::new();
        for (id, connection) in &self.connections {
            let Over::Circuit { legs, .. } = connection.over else { continue };
            for (index, own) in legs.into_iter().enumerate() {
                let circuit = EndId { connection: *id, index };
                if own == leg {
                    affected.push((circuit, None));
                } else if own == leg.other() {
                    affected.push((circuit.other(), Some(legs[1 - index].other())));
                }
            }
        }
        for (circuit, told_on) in affected {
            match told_on {
                None => self.close_end(circuit, false),
                Some(relay_end) => self.transmit(relay_end, Message::LegLost { circuit }),
            }
        }
    }
}
