//! The machine: frames of peers on one side, flows on the other.

mod connections;
mod datagrams;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use peerup_packet::{
    IpPacket,
    gso::{self, Segmentation, VirtioNetHeader},
    protocol,
};
use peerup_types::OverlayAddrs;

use crate::{
    echo,
    fragment::Reassembly,
    frame::HEADER,
    limits::EXTRA_BUFFERS,
    nat::{Nat, SessionId},
    ports::Ports,
    tcp::{Shared, Tcp},
    udp::{self, UdpId},
};

/// Between two looks for idle conversations.
const SWEEP: Duration = Duration::from_secs(5);
/// The largest frame that [`Stack::poll_frame`] writes.
const LONGEST: usize = HEADER + u16::MAX as usize;

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
    Pending {
        syn: Vec<u8>,
        until: Instant,
    },
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
            self.udp.expire(now);
            self.tell_ended();
            self.give_up_pending(now);
        }
    }

    fn give_up_pending(&mut self, now: Instant) {
        let is_late =
            |flow: &Flow| matches!(flow.connection, Connection::Pending { until, .. } if until <= now);
        let late: Vec<_> = self.flows.iter().filter(|(_, flow)| is_late(flow)).map(|(id, _)| *id).collect();
        late.into_iter().for_each(|id| self.remove(id));
    }
}

fn is_icmp(packet: &IpPacket<'_>) -> bool {
    matches!(packet.protocol(), protocol::ICMP | protocol::ICMPV6)
}
