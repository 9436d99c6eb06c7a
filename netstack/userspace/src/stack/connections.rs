//! Connections: from a SYN, of a peer or of ours, to the end.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use peerup_packet::{IpPacket, checksum, protocol};
use smoltcp::socket::tcp::{RecvError, State};

use super::{ConnectError, Connection, Event, Flow, FlowId, Key, Read, Stack, Write};
use crate::{
    datagram,
    limits::{
        MAX_BUFFER, MAX_FLOWS, MAX_FLOWS_PER_PEER, MAX_PENDING, MAX_TIME_WAIT, MIN_BUFFER, PENDING_FOR,
    },
    tcp::{Due, Tcp},
};

/// A connection that says it wants to send and then has nothing is asked again after this.
const AGAIN: Duration = Duration::from_millis(10);
/// Room for an answer without payload: the longest headers are 100 bytes.
const ANSWER: usize = 256;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const FIN: u8 = 0x01;

impl Stack {
    pub(super) fn tcp(&mut self, packet: &IpPacket<'_>, now: Instant) {
        let Some(ports) = packet.ports() else { return };
        let key = Key {
            local: SocketAddr::new(packet.destination(), ports.destination),
            remote: SocketAddr::new(packet.source(), ports.source),
        };
        let Some(&flags) = packet.payload().get(13) else { return };
        let is_syn = flags & (SYN | ACK | RST) == SYN;
        match self.by_key.get(&key).copied() {
            Some(id) if is_syn && self.is_spent(id) => {
                self.remove(id);
                self.knock(key, packet, now);
            }
            Some(id) => self.ingest(id, packet, now),
            None if is_syn => self.knock(key, packet, now),
            None => self.reply_packet(reset(packet)),
        }
    }

    /// In TIME-WAIT and of no use to anybody: its addresses may be used again (RFC 6191).
    fn is_spent(&self, id: FlowId) -> bool {
        let state =
            |flow: &Flow| matches!(&flow.connection, Connection::Open(tcp) if tcp.state() == State::TimeWait);
        self.flows.get(&id).is_some_and(|flow| flow.released && state(flow))
    }

    /// A SYN for a connection that is not known.
    fn knock(&mut self, key: Key, packet: &IpPacket<'_>, now: Instant) {
        let of_peer = self.per_peer.get(&key.remote.ip()).copied().unwrap_or(0);
        if self.flows.len() >= MAX_FLOWS || of_peer >= MAX_FLOWS_PER_PEER || self.pending >= MAX_PENDING {
            return self.reply_packet(reset(packet));
        }
        let syn = packet.as_bytes().to_vec();
        let flow = self.insert(key, Connection::Pending { syn, until: now + PENDING_FOR }, 0);
        self.pending += 1;
        self.events.push_back(Event::Accept { flow, peer: key.remote, local: key.local });
    }

    /// The local service is there: shake hands.
    pub fn accept(&mut self, id: FlowId, now: Instant) {
        let Some(flow) = self.flows.get(&id) else { return };
        let Connection::Pending { syn, .. } = &flow.connection else { return };
        let (syn, local) = (syn.clone(), flow.key.local);
        let extra = self.grant();
        let opened = Tcp::listen(local, MIN_BUFFER + extra / 2, self.ports.seed(), &self.shared, now);
        let Ok(mut tcp) = opened else { return self.refuse(id) };
        let mut answer = [0; ANSWER];
        if let Ok(syn) = IpPacket::parse(&syn) {
            tcp.ingest(&syn, &mut answer, &self.shared, now);
        }
        self.extra_left -= extra;
        self.pending -= 1;
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.connection = Connection::Open(Box::new(tcp));
            flow.extra = extra;
        }
        self.settle(id, true, now);
    }

    /// The local service is not there: RST, as its kernel would have it.
    pub fn refuse(&mut self, id: FlowId) {
        if let Some(Flow { connection: Connection::Pending { syn, .. }, .. }) = self.flows.get(&id)
            && let Ok(packet) = IpPacket::parse(syn)
        {
            let answer = reset(&packet);
            self.reply_packet(answer);
        }
        self.remove(id);
    }

    /// Opens a connection to a peer; [`Self::connected`] says what became of it.
    pub fn connect(&mut self, remote: SocketAddr, now: Instant) -> Result<FlowId, ConnectError> {
        if self.flows.len() >= MAX_FLOWS {
            return Err(ConnectError::Full);
        }
        let ip = self.own(remote.ip()).ok_or(ConnectError::NoAddress)?;
        let (by_key, nat) = (&self.by_key, &self.nat);
        let is_taken = |port: u16| {
            let key = Key { local: SocketAddr::new(ip, port), remote };
            by_key.contains_key(&key) || nat.is_taken(protocol::TCP, port, remote)
        };
        let port = self.ports.pick(is_taken).ok_or(ConnectError::Full)?;
        let local = SocketAddr::new(ip, port);
        let extra = self.grant();
        let (buffer, seed) = (MIN_BUFFER + extra / 2, self.ports.seed());
        let tcp = Tcp::connect(local, remote, buffer, seed, &self.shared, now)
            .map_err(|_| ConnectError::Unreachable)?;
        self.extra_left -= extra;
        let id = self.insert(Key { local, remote }, Connection::Open(Box::new(tcp)), extra);
        self.settle(id, true, now);
        Ok(id)
    }

    /// `None` while the handshake is on.
    pub fn connected(&mut self, id: FlowId) -> Option<Result<(), ConnectError>> {
        match &self.flows.get(&id).map(|flow| &flow.connection) {
            None => Some(Err(ConnectError::Refused)),
            Some(Connection::Failed(error)) => Some(Err(*error)),
            Some(Connection::Pending { .. }) => None,
            Some(Connection::Open(tcp)) => match tcp.state() {
                State::SynSent | State::SynReceived | State::Listen => None,
                State::Closed => Some(Err(ConnectError::Refused)),
                _ => Some(Ok(())),
            },
        }
    }

    /// Offers what has arrived to `take`, which says how much of it it took.
    pub fn read(&mut self, id: FlowId, now: Instant, take: impl FnOnce(&[u8]) -> usize) -> Read {
        let Some(tcp) = self.open(id) else { return self.unopened(id) };
        let socket = tcp.socket();
        if !socket.can_recv() {
            return match (socket.recv(|_| (0, ())), socket.state()) {
                (Err(RecvError::Finished), _) => Read::Finished,
                (_, State::Closed) => Read::Reset,
                (_, _) => Read::Empty,
            };
        }
        let taken = socket.recv(|data| {
            let taken = take(data);
            (taken, taken)
        });
        self.settle(id, true, now);
        taken.map_or(Read::Reset, Read::Data)
    }

    /// Offers room to `give`, which says how much of it it filled.
    pub fn write(&mut self, id: FlowId, now: Instant, give: impl FnOnce(&mut [u8]) -> usize) -> Write {
        let Some(tcp) = self.open(id) else {
            return if self.unopened(id) == Read::Empty { Write::Full } else { Write::Closed };
        };
        let socket = tcp.socket();
        if !socket.may_send() {
            let handshake = matches!(socket.state(), State::SynSent | State::SynReceived | State::Listen);
            return if handshake { Write::Full } else { Write::Closed };
        }
        if !socket.can_send() {
            return Write::Full;
        }
        let given = socket.send(|room| {
            let given = give(room);
            (given, given)
        });
        self.settle(id, true, now);
        given.map_or(Write::Closed, Write::Room)
    }

    /// Everything has been written: FIN, behind what is still to be sent.
    pub fn shutdown(&mut self, id: FlowId, now: Instant) {
        if let Some(tcp) = self.open(id) {
            tcp.socket().close();
            self.settle(id, true, now);
        }
    }

    /// RST, and what was not sent is lost.
    pub fn abort(&mut self, id: FlowId, now: Instant) {
        if let Some(tcp) = self.open(id) {
            tcp.socket().abort();
            self.settle(id, true, now);
        }
    }

    /// Nobody reads or writes the connection any more. One that both sides have finished ends by itself, any other
    /// is reset.
    pub fn release(&mut self, id: FlowId, now: Instant) {
        if matches!(self.flows.get(&id).map(|flow| &flow.connection), Some(Connection::Pending { .. })) {
            return self.refuse(id);
        }
        if let Some(tcp) = self.open(id)
            && !matches!(tcp.state(), State::Closing | State::LastAck | State::TimeWait | State::Closed)
        {
            tcp.socket().abort();
        }
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.released = true;
        }
        self.settle(id, true, now);
    }

    fn ingest(&mut self, id: FlowId, packet: &IpPacket<'_>, now: Instant) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let Connection::Open(tcp) = &mut flow.connection else { return };
        let mut answer = [0; ANSWER];
        if let Some(len) = tcp.ingest(packet, &mut answer, &self.shared, now) {
            self.reply(answer[..len].to_vec());
        }
        self.tell(id);
        self.settle(id, true, now);
    }

    pub(super) fn open(&mut self, id: FlowId) -> Option<&mut Tcp> {
        match &mut self.flows.get_mut(&id)?.connection {
            Connection::Open(tcp) => Some(tcp),
            Connection::Pending { .. } | Connection::Failed(_) => None,
        }
    }

    fn unopened(&self, id: FlowId) -> Read {
        match self.flows.get(&id).map(|flow| &flow.connection) {
            Some(Connection::Pending { .. }) => Read::Empty,
            Some(Connection::Open(_) | Connection::Failed(_)) | None => Read::Reset,
        }
    }

    /// A share of what is left of the budget, for both buffers of a newcomer.
    fn grant(&self) -> usize {
        (self.extra_left / 16).min(2 * (MAX_BUFFER - MIN_BUFFER)) & !1
    }

    fn insert(&mut self, key: Key, connection: Connection, extra: usize) -> FlowId {
        self.next += 1;
        let id = FlowId(self.next);
        let flow = Flow { key, connection, extra, timer: None, queued: false, told: false, released: false };
        self.flows.insert(id, flow);
        self.by_key.insert(key, id);
        *self.per_peer.entry(key.remote.ip()).or_default() += 1;
        id
    }

    pub(super) fn remove(&mut self, id: FlowId) {
        let Some(flow) = self.flows.remove(&id) else { return };
        self.by_key.remove(&flow.key);
        if let Some(at) = flow.timer {
            self.timers.remove(&(at, id));
        }
        if matches!(flow.connection, Connection::Pending { .. }) {
            self.pending -= 1;
        }
        self.extra_left += flow.extra;
        let peer = flow.key.remote.ip();
        if let Some(count) = self.per_peer.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.per_peer.remove(&peer);
            }
        }
    }

    /// After anything happened to a connection: when is it to be polled again, and is it over?
    pub(super) fn settle(&mut self, id: FlowId, progressed: bool, now: Instant) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let Connection::Open(tcp) = &mut flow.connection else {
            let over = flow.released;
            return if over {
                self.remove(id)
            };
        };
        let due = tcp.due(&self.shared, now);
        let (state, released) = (tcp.state(), flow.released);
        match due {
            Due::Now if progressed => self.enqueue(id),
            Due::Now => self.set_timer(id, Some(now + AGAIN)),
            Due::At(at) => self.set_timer(id, Some(at)),
            Due::Never => self.set_timer(id, None),
        }
        match (state, due) {
            (State::Closed, Due::Never) if released => self.remove(id),
            (State::TimeWait, _) if released => self.wait_for_the_end(id),
            (_, _) => {}
        }
    }

    fn wait_for_the_end(&mut self, id: FlowId) {
        if !self.time_wait.contains(&id) {
            self.time_wait.push_back(id);
        }
        while self.time_wait.len() > MAX_TIME_WAIT {
            if let Some(oldest) = self.time_wait.pop_front() {
                self.remove(oldest);
            }
        }
    }

    pub(super) fn set_timer(&mut self, id: FlowId, at: Option<Instant>) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        if flow.timer == at {
            return;
        }
        if let Some(old) = std::mem::replace(&mut flow.timer, at) {
            self.timers.remove(&(old, id));
        }
        self.timers.extend(at.map(|at| (at, id)));
    }

    pub(super) fn enqueue(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(&id)
            && !std::mem::replace(&mut flow.queued, true)
        {
            self.egress.push_back(id);
        }
    }

    pub(super) fn tell(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(&id)
            && !flow.released
            && !std::mem::replace(&mut flow.told, true)
        {
            self.events.push_back(Event::Ready(id));
        }
    }
}

/// The RST that answers a segment nobody expects (RFC 9293 §3.10.7.1); none answers a RST.
fn reset(packet: &IpPacket<'_>) -> Option<Vec<u8>> {
    let segment = packet.payload();
    let header: &[u8; 20] = segment.first_chunk()?;
    let flags = header[13];
    if flags & RST != 0 {
        return None;
    }
    let sequence = u32::from_be_bytes(*header[4..].first_chunk()?);
    let data_at = usize::from(header[12] >> 4) * 4;
    let data = segment.len().checked_sub(data_at)?;
    let controls = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    let mut answer = [0; 20];
    answer[..2].copy_from_slice(&header[2..4]);
    answer[2..4].copy_from_slice(&header[..2]);
    answer[12] = 5 << 4;
    if flags & ACK != 0 {
        answer[4..8].copy_from_slice(&header[8..12]);
        answer[13] = RST;
    } else {
        let acknowledged = sequence.wrapping_add(data as u32).wrapping_add(controls);
        answer[8..12].copy_from_slice(&acknowledged.to_be_bytes());
        answer[13] = RST | ACK;
    }
    let (from, to) = (packet.destination(), packet.source());
    let pseudo = checksum::pseudo_header(from, to, protocol::TCP, answer.len());
    let sum = checksum::internet(&[&pseudo.to_be_bytes(), &answer]);
    answer[16..18].copy_from_slice(&sum.to_be_bytes());
    datagram::ip(from, to, protocol::TCP, &answer)
}
