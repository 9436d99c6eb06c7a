//! The machine: frames of peers on one side, flows on the other.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use peerup_packet::{
    IpPacket, Unreachable,
    gso::{self, Segmentation, VirtioNetHeader},
    protocol, unreachable,
};
use peerup_types::OverlayAddrs;
use smoltcp::socket::tcp::State;

use crate::{
    datagram,
    echo::{self, Complaint},
    fragment::{self, Reassembly},
    frame::HEADER,
    limits::*,
    nat::{Nat, SessionId},
    ports::Ports,
    tcp::{Due, Shared, Tcp},
    udp::{self, Kind, Took, UdpId},
};

/// A connection that says it wants to send and then has nothing is asked again after this.
const AGAIN: Duration = Duration::from_millis(10);
/// Between two looks for idle conversations.
const SWEEP: Duration = Duration::from_secs(5);
/// Room for an answer without payload: the longest headers are 100 bytes.
const ANSWER: usize = 256;
/// The largest frame that [`Stack::poll_frame`] writes.
const LONGEST: usize = HEADER + u16::MAX as usize;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const FIN: u8 = 0x01;

/// A TCP connection. Numbers are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(u64);

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub addresses: OverlayAddrs,
    pub mtu: u16,
    /// For ports, identifications and first sequence numbers.
    pub seed: u64,
}

/// What a shell has to know. Flows and conversations are named once until they have been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A peer wants to connect: [`Stack::accept`] or [`Stack::refuse`] it.
    Accept { flow: FlowId, peer: SocketAddr, local: SocketAddr },
    /// Something about the connection has changed: data, room, its end.
    Ready(FlowId),
    /// A peer sends datagrams to a port of ours.
    Opened { conversation: UdpId, peer: SocketAddr, local: SocketAddr },
    /// Datagrams wait, or the conversation is over.
    Datagrams(UdpId),
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// This much was taken of what there was; 0 where the taker had no room.
    Data(usize),
    /// Nothing yet.
    Empty,
    /// The peer has sent everything.
    Finished,
    /// The connection is gone.
    Reset,
}

/// What a write found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// This much was put in; 0 where the giver had none.
    Room(usize),
    /// No room yet.
    Full,
    /// Nothing can be sent any more.
    Closed,
}

/// Why a connection could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    #[error("this node has no address of that family yet")]
    NoAddress,
    #[error("too many connections at once")]
    Full,
    #[error("connection refused")]
    Refused,
    #[error("host unreachable")]
    Unreachable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    local: SocketAddr,
    remote: SocketAddr,
}

enum Connection {
    /// The SYN waits for the local service.
    Pending { syn: Vec<u8>, until: Instant },
    Open(Box<Tcp>),
    /// An attempt of ours that failed.
    Failed(ConnectError),
}

struct Flow {
    key: Key,
    connection: Connection,
    /// Bytes of the budget that it holds.
    extra: usize,
    timer: Option<Instant>,
    /// Whether it stands in line to send.
    queued: bool,
    /// Whether its shell has been told and has not looked yet.
    told: bool,
    /// Whether nobody reads or writes it any more.
    released: bool,
}

/// See the crate's documentation.
pub struct Stack {
    shared: Shared,
    addresses: OverlayAddrs,
    ports: Ports,
    next: u64,
    flows: BTreeMap<FlowId, Flow>,
    by_key: BTreeMap<Key, FlowId>,
    per_peer: BTreeMap<IpAddr, usize>,
    pending: usize,
    extra_left: usize,
    /// Connections with something to send, in turn.
    egress: VecDeque<FlowId>,
    timers: BTreeSet<(Instant, FlowId)>,
    time_wait: VecDeque<FlowId>,
    udp: udp::Table,
    nat: Nat,
    reassembly: Reassembly,
    replies: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    next_sweep: Instant,
}

impl Stack {
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            shared: Shared { mtu: settings.mtu.into(), epoch: now },
            addresses: settings.addresses,
            ports: Ports::new(settings.seed),
            next: 0,
            flows: BTreeMap::new(),
            by_key: BTreeMap::new(),
            per_peer: BTreeMap::new(),
            pending: 0,
            extra_left: EXTRA_BUFFERS,
            egress: VecDeque::new(),
            timers: BTreeSet::new(),
            time_wait: VecDeque::new(),
            udp: udp::Table::default(),
            nat: Nat::default(),
            reassembly: Reassembly::default(),
            replies: VecDeque::new(),
            events: VecDeque::new(),
            next_sweep: now + SWEEP,
        }
    }

    /// The node's addresses, as after a lost claim. Connections keep the one they have, and end.
    pub fn set_addresses(&mut self, addresses: OverlayAddrs) {
        self.addresses = addresses;
    }

    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// Takes a frame from a peer: a virtio header and a packet that the router let through. What belongs to an
    /// `exec` session comes back.
    pub fn handle_frame(&mut self, frame: &[u8], now: Instant) -> Option<(SessionId, Vec<u8>)> {
        let (header, packet) = frame.split_first_chunk()?;
        let view = gso::validate(VirtioNetHeader::parse(header), packet, usize::MAX).ok()?;
        if view.packet().is_fragment() {
            let whole = self.reassembly.take(view.packet(), now)?;
            return self.handle_frame(&[&[0; HEADER][..], &whole].concat(), now);
        }
        let packet = *view.packet();
        let complaint = is_icmp(&packet).then(|| echo::complaint(&packet)).flatten();
        if let Some(delivery) = self.nat.enter(frame, &packet, complaint, now) {
            return Some(delivery);
        }
        match packet.protocol() {
            protocol::TCP => self.tcp(&packet, now),
            protocol::UDP if view.segmentation() == Segmentation::Udp => {
                let mut segments = view.segments_within(usize::from(u16::MAX)).ok()?;
                let mut scratch = Vec::new();
                while let Some(packet) = segments.next(&mut scratch) {
                    if let Ok(packet) = IpPacket::parse(packet) {
                        self.udp(&packet, now);
                    }
                }
            }
            protocol::UDP => self.udp(&packet, now),
            protocol::ICMP | protocol::ICMPV6 => self.icmp(&packet, complaint),
            _ => {}
        }
        None
    }

    /// Writes the next frame for a peer to `buffer` and says how long it is. `buffer` takes the longest frame.
    pub fn poll_frame(&mut self, buffer: &mut [u8], now: Instant) -> Option<usize> {
        debug_assert!(buffer.len() >= LONGEST);
        if let Some(reply) = self.replies.pop_front() {
            buffer[..reply.len()].copy_from_slice(&reply);
            return Some(reply.len());
        }
        while let Some(id) = self.egress.pop_front() {
            let Some(flow) = self.flows.get_mut(&id) else { continue };
            flow.queued = false;
            let Connection::Open(tcp) = &mut flow.connection else { continue };
            let before = tcp.state();
            let written = tcp.emit(buffer, &self.shared, now);
            if tcp.state() != before {
                self.tell(id);
            }
            self.settle(id, written.is_some(), now);
            if written.is_some() {
                return written;
            }
        }
        None
    }

    /// Whether [`Self::poll_frame`] has work.
    pub fn wants_to_send(&self) -> bool {
        !self.replies.is_empty() || !self.egress.is_empty()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Ready(flow) = event
            && let Some(flow) = self.flows.get_mut(&flow)
        {
            flow.told = false;
        }
        Some(event)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let sweep = (self.udp.len() > 0 || self.pending > 0).then_some(self.next_sweep);
        timer.into_iter().chain(sweep).min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            if let Some(flow) = self.flows.get_mut(&id) {
                flow.timer = None;
                self.enqueue(id);
            }
        }
        if self.next_sweep <= now {
            self.next_sweep = now + SWEEP;
            self.events.extend(self.udp.expire(now).into_iter().map(Event::Datagrams));
            self.give_up_pending(now);
        }
    }

    fn give_up_pending(&mut self, now: Instant) {
        let is_late = |flow: &Flow| matches!(flow.connection, Connection::Pending { until, .. } if until <= now);
        let late: Vec<_> = self.flows.iter().filter(|(_, flow)| is_late(flow)).map(|(id, _)| *id).collect();
        late.into_iter().for_each(|id| self.remove(id));
    }
}

/// Connections.
impl Stack {
    fn tcp(&mut self, packet: &IpPacket<'_>, now: Instant) {
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
        let state = |flow: &Flow| matches!(&flow.connection, Connection::Open(tcp) if tcp.state() == State::TimeWait);
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
                (Err(smoltcp::socket::tcp::RecvError::Finished), _) => Read::Finished,
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

    fn open(&mut self, id: FlowId) -> Option<&mut Tcp> {
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
        let flow =
            Flow { key, connection, extra, timer: None, queued: false, told: false, released: false };
        self.flows.insert(id, flow);
        self.by_key.insert(key, id);
        *self.per_peer.entry(key.remote.ip()).or_default() += 1;
        id
    }

    fn remove(&mut self, id: FlowId) {
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
    fn settle(&mut self, id: FlowId, progressed: bool, now: Instant) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let Connection::Open(tcp) = &mut flow.connection else {
            let over = flow.released;
            return if over { self.remove(id) };
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

    fn set_timer(&mut self, id: FlowId, at: Option<Instant>) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        if flow.timer == at {
            return;
        }
        if let Some(old) = std::mem::replace(&mut flow.timer, at) {
            self.timers.remove(&(old, id));
        }
        self.timers.extend(at.map(|at| (at, id)));
    }

    fn enqueue(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(&id)
            && !std::mem::replace(&mut flow.queued, true)
        {
            self.egress.push_back(id);
        }
    }

    fn tell(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.get_mut(&id)
            && !flow.released
            && !std::mem::replace(&mut flow.told, true)
        {
            self.events.push_back(Event::Ready(id));
        }
    }
}

/// Datagrams and errors.
impl Stack {
    fn udp(&mut self, packet: &IpPacket<'_>, now: Instant) {
        let (Some(ports), Some(data)) = (packet.ports(), packet.payload().get(8..)) else { return };
        let local = SocketAddr::new(packet.destination(), ports.destination);
        let peer = SocketAddr::new(packet.source(), ports.source);
        match self.udp.take(local, peer, data, now) {
            Took::Opened(conversation) => self.events.push_back(Event::Opened { conversation, peer, local }),
            Took::Ready(id) => self.events.push_back(Event::Datagrams(id)),
            Took::Nothing => {}
        }
    }

    /// Opens a port from which datagrams go to anybody.
    pub fn bind_udp(&mut self, now: Instant) -> Option<UdpId> {
        let udp = &self.udp;
        let port = self.ports.pick(|port| udp.is_bound(port))?;
        Some(self.udp.bind(port, now))
    }

    /// The next datagram and who sent it; an error once the conversation is over.
    pub fn recv_from(&mut self, id: UdpId) -> Result<Option<(SocketAddr, Vec<u8>)>, udp::Over> {
        self.udp.recv(id)
    }

    /// Sends a datagram; to the peer whose conversation it is, or, from a port of our own, to `to`.
    pub fn send_to(&mut self, id: UdpId, to: SocketAddr, data: &[u8], now: Instant) {
        let (from, to) = match self.udp.sending(id, now) {
            Some(Kind::Served { local, remote }) => (local, remote),
            Some(Kind::Bound { port }) => match self.own(to.ip()) {
                Some(ip) => (SocketAddr::new(ip, port), to),
                None => return,
            },
            None => return,
        };
        let packet = datagram::udp(from, to, data);
        self.reply_packet(packet);
    }

    /// Nobody listens on the port that a peer talks to.
    pub fn refuse_udp(&mut self, id: UdpId) {
        if let Some(Kind::Served { local, remote }) = self.udp.kind(id)
            && let Some(original) = datagram::udp(remote, local, &[])
            && let Ok(original) = IpPacket::parse(&original)
        {
            self.reply_packet(unreachable(&original, local.ip(), Unreachable::Port));
        }
        self.udp.close(id);
    }

    pub fn close_udp(&mut self, id: UdpId) {
        self.udp.close(id);
    }

    fn icmp(&mut self, packet: &IpPacket<'_>, complaint: Option<Complaint>) {
        match complaint {
            Some(complaint) if complaint.protocol == protocol::TCP => self.connection_failed(complaint),
            Some(_) => {}
            None => self.reply_packet(echo::answer(packet)),
        }
    }

    /// Only an attempt fails by it; an established connection outlives a moment without a path (RFC 1122 §4.2.3.9).
    fn connection_failed(&mut self, complaint: Complaint) {
        let key = Key { local: complaint.local, remote: complaint.remote };
        let Some(id) = self.by_key.get(&key).copied() else { return };
        let is_attempt = |tcp: &mut Tcp| tcp.state() == State::SynSent;
        if !self.open(id).is_some_and(is_attempt) {
            return;
        }
        let error = if complaint.refused { ConnectError::Refused } else { ConnectError::Unreachable };
        self.set_timer(id, None);
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.connection = Connection::Failed(error);
        }
        self.tell(id);
    }

    /// Our address of the family of `remote`.
    fn own(&self, remote: IpAddr) -> Option<IpAddr> {
        match remote {
            IpAddr::V4(_) => self.addresses.v4.map(Into::into),
            IpAddr::V6(_) => Some(self.addresses.v6.into()),
        }
    }

    fn reply_packet(&mut self, packet: Option<Vec<u8>>) {
        let Some(packet) = packet else { return };
        let (mtu, id) = (self.shared.mtu, self.ports.id());
        let mut frames = Vec::new();
        fragment::cut(&packet, mtu, id, |frame| frames.push(frame));
        frames.into_iter().for_each(|frame| self.reply(frame));
    }

    fn reply(&mut self, frame: Vec<u8>) {
        if self.replies.len() < MAX_REPLIES {
            self.replies.push_back(frame);
        }
    }
}

/// `exec` sessions.
impl Stack {
    pub fn open_session(&mut self) -> SessionId {
        self.nat.open()
    }

    pub fn close_session(&mut self, session: SessionId) {
        self.nat.close(session);
    }

    /// Makes a session's frame one of this node's. `false`: it has to be dropped.
    pub fn leave(&mut self, session: SessionId, frame: &mut [u8], now: Instant) -> bool {
        let Self { nat, ports, by_key, udp, addresses, .. } = self;
        let taken = |protocol: u8, port: u16, remote: SocketAddr| match protocol {
            protocol::TCP => addresses
                .iter()
                .any(|ip| by_key.contains_key(&Key { local: SocketAddr::new(ip, port), remote })),
            protocol::UDP => udp.is_bound(port),
            _ => false,
        };
        nat.leave(session, frame, |is_taken| ports.pick(is_taken), taken, now)
    }
}

fn is_icmp(packet: &IpPacket<'_>) -> bool {
    matches!(packet.protocol(), protocol::ICMP | protocol::ICMPV6)
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
    let pseudo = peerup_packet::checksum::pseudo_header(from, to, protocol::TCP, answer.len());
    let sum = peerup_packet::checksum::internet(&[&pseudo.to_be_bytes(), &answer]);
    answer[16..18].copy_from_slice(&sum.to_be_bytes());
    datagram::ip(from, to, protocol::TCP, &answer)
}
