//! Datagrams, echoes, errors, and the sessions that share the node's addresses.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use peerup_packet::{IpPacket, Unreachable, protocol, unreachable};
use smoltcp::socket::tcp::State;

use super::{ConnectError, Connection, Event, Key, Stack};
use crate::{
    datagram,
    echo::{self, Complaint},
    fragment,
    limits::MAX_REPLIES,
    nat::SessionId,
    tcp::Tcp,
    udp::{Kind, Over, Took, UdpId},
};

impl Stack {
    pub(super) fn udp(&mut self, packet: &IpPacket<'_>, now: Instant) {
        let (Some(ports), Some(data)) = (packet.ports(), packet.payload().get(8..)) else { return };
        let local = SocketAddr::new(packet.destination(), ports.destination);
        let peer = SocketAddr::new(packet.source(), ports.source);
        match self.udp.take(local, peer, data, now) {
            Took::Opened(conversation) => self.events.push_back(Event::Opened { conversation, peer, local }),
            Took::Ready(id) => self.events.push_back(Event::Datagrams(id)),
            Took::Nothing => {}
        }
        self.tell_ended();
    }

    /// Wakes the readers of conversations that gave way, so that nobody waits for a datagram that cannot come.
    pub(super) fn tell_ended(&mut self) {
        while let Some(id) = self.udp.poll_ended() {
            self.events.push_back(Event::Datagrams(id));
        }
    }

    /// Opens a port from which datagrams go to anybody.
    pub fn bind_udp(&mut self, now: Instant) -> Option<UdpId> {
        let udp = &self.udp;
        let port = self.ports.pick(|port| udp.is_bound(port))?;
        let id = self.udp.bind(port, now);
        self.tell_ended();
        Some(id)
    }

    /// The next datagram and who sent it; an error once the conversation is over.
    pub fn recv_from(&mut self, id: UdpId) -> Result<Option<(SocketAddr, Vec<u8>)>, Over> {
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

    pub(super) fn icmp(&mut self, packet: &IpPacket<'_>, complaint: Option<Complaint>) {
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
    pub(super) fn own(&self, remote: IpAddr) -> Option<IpAddr> {
        match remote {
            IpAddr::V4(_) => self.addresses.v4.map(Into::into),
            IpAddr::V6(_) => Some(self.addresses.v6.into()),
        }
    }

    pub(super) fn reply_packet(&mut self, packet: Option<Vec<u8>>) {
        let Some(packet) = packet else { return };
        let (mtu, id) = (self.shared.mtu, self.ports.id());
        let mut frames = Vec::new();
        fragment::cut(&packet, mtu, id, |frame| frames.push(frame));
        frames.into_iter().for_each(|frame| self.reply(frame));
    }

    pub(super) fn reply(&mut self, frame: Vec<u8>) {
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
