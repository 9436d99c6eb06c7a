//! UDP conversations: queues between packets and whoever reads them.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use crate::limits::{DNS_IDLE, MAX_UDP, MAX_UDP_BYTES, MAX_UDP_PER_PEER, MAX_UDP_QUEUE, UDP_IDLE};

const DNS: u16 = 53;

/// A conversation. Numbers are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UdpId(pub(crate) u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A peer talks to a port of ours.
    Served { local: SocketAddr, remote: SocketAddr },
    /// We talk to anybody from this port.
    Bound { port: u16 },
}

impl Kind {
    fn peer(self) -> Option<IpAddr> {
        match self {
            Self::Served { remote, .. } => Some(remote.ip()),
            Self::Bound { .. } => None,
        }
    }
}

struct Conversation {
    kind: Kind,
    queue: VecDeque<(SocketAddr, Vec<u8>)>,
    used: Instant,
    /// Whether its reader has been told and has not come yet.
    told: bool,
}

impl Conversation {
    fn idle(&self) -> Duration {
        match self.kind {
            Kind::Served { local, .. } if local.port() == DNS => DNS_IDLE,
            Kind::Served { .. } | Kind::Bound { .. } => UDP_IDLE,
        }
    }
}

/// What a datagram did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Took {
    /// The first of a conversation.
    Opened(UdpId),
    /// Its reader has something to read.
    Ready(UdpId),
    /// Its reader knows already, or the queue is full.
    Nothing,
}

#[derive(Default)]
pub(crate) struct Table {
    next: u64,
    bytes: usize,
    all: BTreeMap<UdpId, Conversation>,
    served: BTreeMap<(SocketAddr, SocketAddr), UdpId>,
    bound: BTreeMap<u16, UdpId>,
    /// Conversations that ended without their readers' doing: each reader has to be told.
    ended: Vec<UdpId>,
}

impl Table {
    pub fn take(&mut self, local: SocketAddr, remote: SocketAddr, data: &[u8], now: Instant) -> Took {
        let known = self.served.get(&(local, remote)).or_else(|| self.bound.get(&local.port())).copied();
        let (id, fresh) = match known {
            Some(id) => (id, false),
            None => (self.insert(Kind::Served { local, remote }, now), true),
        };
        let Some(conversation) = self.all.get_mut(&id) else { return Took::Nothing };
        conversation.used = now;
        let full = conversation.queue.len() >= MAX_UDP_QUEUE || self.bytes + data.len() > MAX_UDP_BYTES;
        if !full {
            self.bytes += data.len();
            conversation.queue.push_back((remote, data.to_vec()));
        }
        match (fresh, std::mem::replace(&mut conversation.told, true)) {
            (true, _) => Took::Opened(id),
            (false, false) => Took::Ready(id),
            (false, true) => Took::Nothing,
        }
    }

    pub fn bind(&mut self, port: u16, now: Instant) -> UdpId {
        self.insert(Kind::Bound { port }, now)
    }

    pub fn is_bound(&self, port: u16) -> bool {
        self.bound.contains_key(&port)
    }

    fn insert(&mut self, kind: Kind, now: Instant) -> UdpId {
        if let Some(oldest) = self.one_too_many(kind) {
            self.close(oldest);
            self.ended.push(oldest);
        }
        self.next += 1;
        let id = UdpId(self.next);
        match kind {
            Kind::Served { local, remote } => drop(self.served.insert((local, remote), id)),
            Kind::Bound { port } => drop(self.bound.insert(port, id)),
        }
        self.all.insert(id, Conversation { kind, queue: VecDeque::new(), used: now, told: false });
        id
    }

    /// What gives way to a newcomer: the idlest of all, or of the peer's own where one peer has nearly all.
    fn one_too_many(&self, newcomer: Kind) -> Option<UdpId> {
        if self.all.len() < MAX_UDP_PER_PEER {
            return None;
        }
        let peer = newcomer.peer();
        let of_peer = || self.all.iter().filter(|(_, known)| peer.is_some() && known.kind.peer() == peer);
        let idlest = match of_peer().count() >= MAX_UDP_PER_PEER {
            true => of_peer().min_by_key(|(_, known)| known.used),
            false if self.all.len() >= MAX_UDP => self.all.iter().min_by_key(|(_, known)| known.used),
            false => None,
        };
        idlest.map(|(id, _)| *id)
    }

    /// The next datagram; `Err` once the conversation is over.
    pub fn recv(&mut self, id: UdpId) -> Result<Option<(SocketAddr, Vec<u8>)>, Over> {
        let conversation = self.all.get_mut(&id).ok_or(Over)?;
        let next = conversation.queue.pop_front();
        match &next {
            Some((_, data)) => self.bytes -= data.len(),
            None => conversation.told = false,
        }
        Ok(next)
    }

    /// Who sends, when something is sent; the conversation stays young by it.
    pub fn sending(&mut self, id: UdpId, now: Instant) -> Option<Kind> {
        let conversation = self.all.get_mut(&id)?;
        conversation.used = now;
        Some(conversation.kind)
    }

    pub fn kind(&self, id: UdpId) -> Option<Kind> {
        self.all.get(&id).map(|conversation| conversation.kind)
    }

    pub fn close(&mut self, id: UdpId) {
        let Some(conversation) = self.all.remove(&id) else { return };
        self.bytes -= conversation.queue.iter().map(|(_, data)| data.len()).sum::<usize>();
        match conversation.kind {
            Kind::Served { local, remote } => drop(self.served.remove(&(local, remote))),
            Kind::Bound { port } => drop(self.bound.remove(&port)),
        }
    }

    /// Ends what was idle for too long.
    pub fn expire(&mut self, now: Instant) {
        let is_over = |known: &Conversation| known.used + known.idle() <= now;
        let over: Vec<_> = self.all.iter().filter(|(_, known)| is_over(known)).map(|(id, _)| *id).collect();
        for id in over {
            self.close(id);
            self.ended.push(id);
        }
    }

    /// The next conversation whose reader has to be told that it is over.
    pub fn poll_ended(&mut self) -> Option<UdpId> {
        self.ended.pop()
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }
}

/// The conversation has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 64, 0, 2], port))
    }

    #[test]
    fn a_reader_is_told_once_and_reads_all() {
        let (mut table, now) = (Table::default(), Instant::now());
        let Took::Opened(id) = table.take(addr(80), addr(1), b"a", now) else { panic!("opened") };
        assert_eq!(table.take(addr(80), addr(1), b"b", now), Took::Nothing);
        assert_eq!(table.recv(id).unwrap().unwrap().1, b"a");
        assert_eq!(table.recv(id).unwrap().unwrap().1, b"b");
        assert_eq!(table.recv(id), Ok(None));
        assert_eq!(table.take(addr(80), addr(1), b"c", now), Took::Ready(id));
    }

    #[test]
    fn queues_and_conversations_are_bounded_and_the_idlest_gives_way() {
        let (mut table, now) = (Table::default(), Instant::now());
        let Took::Opened(first) = table.take(addr(80), addr(1), b"x", now) else { panic!("opened") };
        for _ in 0..1000 {
            table.take(addr(80), addr(1), b"x", now);
        }
        assert_eq!(table.bytes, MAX_UDP_QUEUE);
        for port in 2..=MAX_UDP_PER_PEER as u16 + 1 {
            table.take(addr(80), addr(port), b"x", now + Duration::from_secs(1));
        }
        assert_eq!((table.len(), table.recv(first)), (MAX_UDP_PER_PEER, Err(Over)));
        assert_eq!((table.poll_ended(), table.poll_ended()), (Some(first), None));
        // What is left is for others.
        for other in 1..=2 * MAX_UDP as u16 {
            let other = SocketAddr::from(([10, 65, (other >> 8) as u8, other as u8], 1));
            table.take(addr(80), other, b"x", now + Duration::from_secs(2));
        }
        assert_eq!(table.len(), MAX_UDP);
        while table.poll_ended().is_some() {}
        table.expire(now + UDP_IDLE + Duration::from_secs(2));
        assert_eq!(std::iter::from_fn(|| table.poll_ended()).count(), MAX_UDP);
        assert_eq!((table.len(), table.bytes), (0, 0));
    }
}
