//! Asking STUN servers, with one socket for all of them.
//!
//! Each server is asked for a plain Binding. A server that names a second address (RFC 5780) is asked further: at its
//! second address with the first port, then with the second port (mapping, §4.3), and to answer from elsewhere
//! (filtering, §4.4). Filtering is told only by a server that answers plainly, since silence there has no other reason.
//!
//! The order matters: what is sent to a server's second address opens the filter for it, so the filtering tests of
//! a server come before its mapping tests.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    nat::{Filtering, Sighting},
    stun::{self, Change, Outcome, TransactionId},
};

/// Servers asked; two suffice, a few more make up for those that do not answer.
pub const MAX_SERVERS: usize = 8;
/// RFC 8489 §6.2.1 begins at 500 ms and doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// 0.5 + 1 + 2 s: a server that has not answered by then is no help while somebody waits.
const ATTEMPTS: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Test {
    Plain,
    /// Answer from the other address and port.
    FromElsewhere,
    /// Answer from the other port.
    FromOtherPort,
    /// To the other address, first port.
    OtherAddress,
    /// To the other address, other port.
    OtherPort,
}

#[derive(Debug)]
struct Pending {
    server: usize,
    test: Test,
    to: SocketAddr,
    change: Option<Change>,
    sent: u32,
    due: Instant,
    first_sent: Option<Instant>,
}

#[derive(Debug, Default)]
struct Server {
    address: Option<SocketAddr>,
    other: Option<SocketAddr>,
    answered: bool,
    rtt: Option<Duration>,
    elsewhere: Option<bool>,
    other_port: Option<bool>,
}

/// What the servers said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StunFindings {
    pub asked: usize,
    pub answered: usize,
    pub sightings: Vec<Sighting>,
    pub filtering: Filtering,
    /// The shortest round trip.
    pub rtt: Option<Duration>,
}

/// One round of questions.
pub struct StunProbe {
    servers: Vec<Server>,
    pending: BTreeMap<TransactionId, Pending>,
    ids: VecDeque<TransactionId>,
    sightings: Vec<Sighting>,
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl StunProbe {
    /// Transaction IDs that a round may need.
    pub const IDS: usize = MAX_SERVERS * 5;

    /// `ids` are random, [`Self::IDS`] of them; with fewer, questions are left out.
    pub fn new(servers: &[SocketAddr], ids: impl IntoIterator<Item = TransactionId>, now: Instant) -> Self {
        let server = |address: &SocketAddr| Server { address: Some(*address), ..Server::default() };
        let mut probe = Self {
            servers: servers.iter().take(MAX_SERVERS).map(server).collect(),
            pending: BTreeMap::new(),
            ids: ids.into_iter().take(Self::IDS).collect(),
            sightings: Vec::new(),
            outbox: VecDeque::new(),
        };
        for (index, address) in servers.iter().take(MAX_SERVERS).enumerate() {
            probe.ask(index, Test::Plain, *address, None, now);
        }
        probe
    }

    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.outbox.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.due).min()
    }

    pub fn is_done(&self) -> bool {
        self.pending.is_empty() && self.outbox.is_empty()
    }

    /// What arrived on the socket. Whatever is not an answer to an open question from where it may come is ignored.
    pub fn handle_datagram(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) {
        let Ok(answer) = stun::parse(datagram) else { return };
        let Some(pending) = self.pending.get(&answer.transaction) else { return };
        if !self.may_answer(pending, from) {
            return;
        }
        let Some(pending) = self.pending.remove(&answer.transaction) else { return };
        let Outcome::Mapped { mapped, other, .. } = answer.outcome else {
            // A refused change means that the server cannot, not that the NAT filters.
            return;
        };
        let rtt =
            pending.first_sent.filter(|_| pending.sent == 1).map(|at| now.saturating_duration_since(at));
        let server = &mut self.servers[pending.server];
        server.rtt = [server.rtt, rtt].into_iter().flatten().min();
        match pending.test {
            Test::Plain => {
                server.answered = true;
                self.sightings.push(Sighting { observer: pending.to, mapped });
                self.go_on(pending.server, pending.to, other, now);
            }
            Test::FromElsewhere => server.elsewhere = Some(true),
            Test::FromOtherPort => server.other_port = Some(true),
            Test::OtherAddress | Test::OtherPort => {
                self.sightings.push(Sighting { observer: pending.to, mapped });
            }
        }
        self.map_further(pending.server, now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<TransactionId> =
            self.pending.iter().filter(|(_, pending)| pending.due <= now).map(|(id, _)| *id).collect();
        for id in due {
            let Some(pending) = self.pending.get_mut(&id) else { continue };
            if pending.sent < ATTEMPTS {
                pending.due = now + FIRST_WAIT * (1 << pending.sent);
                pending.sent += 1;
                self.outbox.push_back((pending.to, stun::binding_request(&id, pending.change)));
                continue;
            }
            let Some(pending) = self.pending.remove(&id) else { continue };
            let server = &mut self.servers[pending.server];
            match pending.test {
                Test::FromElsewhere => server.elsewhere = Some(false),
                Test::FromOtherPort => server.other_port = Some(false),
                Test::Plain | Test::OtherAddress | Test::OtherPort => {}
            }
            self.map_further(pending.server, now);
        }
    }

    pub fn findings(&self) -> StunFindings {
        StunFindings {
            asked: self.servers.len(),
            answered: self.servers.iter().filter(|server| server.answered).count(),
            sightings: self.sightings.clone(),
            filtering: self.filtering(),
            rtt: self.servers.iter().filter_map(|server| server.rtt).min(),
        }
    }

    /// A packet that came through proves more than one that did not, so the most permissive verdict counts.
    fn filtering(&self) -> Filtering {
        let known = self.servers.iter().map(Server::filtering).filter(|known| *known != Filtering::Unknown);
        known.min().unwrap_or_default()
    }

    /// A plain answer comes from where the question went; one that was asked for from elsewhere may not.
    fn may_answer(&self, pending: &Pending, from: SocketAddr) -> bool {
        let other = self.servers[pending.server].other;
        match pending.change {
            None => from == pending.to,
            Some(Change { ip: true, .. }) => other.is_some_and(|other| other == from),
            Some(Change { ip: false, .. }) => {
                from.ip() == pending.to.ip() && other.is_some_and(|other| other.port() == from.port())
            }
        }
    }

    fn go_on(&mut self, index: usize, to: SocketAddr, other: Option<SocketAddr>, now: Instant) {
        // A second address that is none is a server that has only one.
        let usable = |other: &SocketAddr| {
            other.ip() != to.ip()
                && other.port() != to.port()
                && other.port() != 0
                && other.is_ipv4() == to.is_ipv4()
                && crate::scope(other.ip()) >= crate::scope(to.ip())
        };
        let Some(other) = other.filter(usable) else { return };
        self.servers[index].other = Some(other);
        self.ask(index, Test::FromElsewhere, to, Some(Change { ip: true, port: true }), now);
        self.ask(index, Test::FromOtherPort, to, Some(Change { ip: false, port: true }), now);
    }

    /// Once both filtering tests are over, the second address may be written to.
    fn map_further(&mut self, index: usize, now: Instant) {
        let server = &self.servers[index];
        let (Some(first), Some(other)) = (server.address, server.other) else { return };
        let open =
            |test| self.pending.values().any(|pending| pending.server == index && pending.test == test);
        let asked = |to| {
            let seen = self.sightings.iter().any(|sighting| sighting.observer == to);
            seen || self.pending.values().any(|pending| pending.server == index && pending.to == to)
        };
        let with_first_port = SocketAddr::new(other.ip(), first.port());
        if open(Test::FromElsewhere) || open(Test::FromOtherPort) || asked(with_first_port) || asked(other) {
            return;
        }
        self.ask(index, Test::OtherAddress, with_first_port, None, now);
        self.ask(index, Test::OtherPort, other, None, now);
    }

    fn ask(&mut self, server: usize, test: Test, to: SocketAddr, change: Option<Change>, now: Instant) {
        let Some(id) = self.ids.pop_front() else { return };
        let pending =
            Pending { server, test, to, change, sent: 1, due: now + FIRST_WAIT, first_sent: Some(now) };
        self.outbox.push_back((to, stun::binding_request(&id, change)));
        self.pending.insert(id, pending);
    }
}

impl Server {
    /// RFC 5780 §4.4. Silence counts only where the other test proves that the server does answer from elsewhere, or
    /// where both were silent and the server said that it can.
    fn filtering(&self) -> Filtering {
        match (self.elsewhere, self.other_port) {
            (Some(true), _) => Filtering::EndpointIndependent,
            (Some(false), Some(true)) => Filtering::AddressDependent,
            (Some(false), Some(false)) => Filtering::AddressAndPortDependent,
            (None, _) | (_, None) => Filtering::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use peerup_types::NatMapping;

    use super::*;
    use crate::{Mapping, now_for_tests};

    const HOST: &str = "192.168.1.5";
    const PORT: u16 = 25000;

    #[derive(Clone, Copy, PartialEq)]
    enum Behaviour {
        Independent,
        Address,
        Port,
    }

    /// A NAT in front of one socket, and the STUN servers behind it.
    struct World {
        mapping: Behaviour,
        filtering: Behaviour,
        keeps_port: bool,
        contacted: Vec<SocketAddr>,
        mapped: Vec<(SocketAddr, SocketAddr)>,
        servers: Vec<(SocketAddr, Option<SocketAddr>)>,
    }

    impl World {
        fn new(mapping: Behaviour, filtering: Behaviour) -> Self {
            Self { mapping, filtering, keeps_port: false, contacted: vec![], mapped: vec![], servers: vec![] }
        }

        fn map(&mut self, to: SocketAddr) -> SocketAddr {
            let key = match self.mapping {
                Behaviour::Independent => "0.0.0.0:0".parse().unwrap(),
                Behaviour::Address => SocketAddr::new(to.ip(), 0),
                Behaviour::Port => to,
            };
            let next = if self.keeps_port { PORT } else { 14001 + self.mapped.len() as u16 };
            if let Some((_, mapped)) = self.mapped.iter().find(|(known, _)| *known == key) {
                return *mapped;
            }
            let mapped = SocketAddr::new("203.0.113.9".parse::<IpAddr>().unwrap(), next);
            self.mapped.push((key, mapped));
            mapped
        }

        fn lets_in(&self, from: SocketAddr) -> bool {
            match self.filtering {
                Behaviour::Independent => true,
                Behaviour::Address => self.contacted.iter().any(|to| to.ip() == from.ip()),
                Behaviour::Port => self.contacted.contains(&from),
            }
        }

        /// The answer to a datagram and where it comes from, if it gets through.
        fn deliver(&mut self, to: SocketAddr, request: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
            self.contacted.push(to);
            let mapped = self.map(to);
            let all: Vec<SocketAddr> =
                self.servers.iter().flat_map(|(a, b)| [Some(*a), *b]).flatten().collect();
            let (first, other) = self.servers.iter().find_map(|(first, other)| {
                let of_it = [Some(*first), *other].into_iter().flatten();
                of_it.into_iter().any(|address| address.ip() == to.ip()).then_some((*first, *other))
            })?;
            assert!(all.iter().any(|known| known.ip() == to.ip()));
            let flags = request.get(27).copied().unwrap_or(0);
            let elsewhere = |ip: bool, port: bool| {
                let (a, b) = (to, other.unwrap_or(first));
                SocketAddr::new(if ip { b.ip() } else { a.ip() }, if port { b.port() } else { a.port() })
            };
            let from = elsewhere(flags & 4 != 0, flags & 2 != 0);
            self.lets_in(from).then(|| (from, answer(request, mapped, other)))
        }
    }

    fn answer(request: &[u8], mapped: SocketAddr, other: Option<SocketAddr>) -> Vec<u8> {
        let mut body = attribute(0x0001, mapped);
        body.extend(other.into_iter().flat_map(|other| attribute(0x802c, other)));
        let mut message = vec![1, 1, 0, body.len() as u8];
        message.extend(&request[4..20]);
        message.extend(body);
        message
    }

    fn attribute(kind: u16, address: SocketAddr) -> Vec<u8> {
        let IpAddr::V4(ip) = address.ip() else { panic!() };
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend([0, 8, 0, 1]);
        bytes.extend(address.port().to_be_bytes());
        bytes.extend(ip.octets());
        bytes
    }

    fn run(world: &mut World) -> (StunFindings, Duration) {
        let start = now_for_tests();
        let mut now = start;
        let servers: Vec<SocketAddr> = world.servers.iter().map(|(address, _)| *address).collect();
        let ids = (0..StunProbe::IDS).map(|n| [n as u8; 12]);
        let mut probe = StunProbe::new(&servers, ids, now);
        while !probe.is_done() {
            while let Some((to, request)) = probe.poll_transmit() {
                if let Some((from, answer)) = world.deliver(to, &request) {
                    probe.handle_datagram(from, &answer, now + Duration::from_millis(20));
                }
            }
            if let Some(due) = probe.poll_timeout() {
                now = due;
                probe.handle_timeout(now);
            }
        }
        (probe.findings(), now - start)
    }

    fn verdict(findings: &StunFindings) -> (NatMapping, Filtering) {
        let mapping = Mapping::of(&[HOST.parse().unwrap()], PORT, &findings.sightings);
        (mapping.behaviour, findings.filtering)
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_server_with_two_addresses_tells_every_kind_of_nat_apart() {
        let mappings = [
            (Behaviour::Independent, NatMapping::EndpointIndependent),
            (Behaviour::Address, NatMapping::AddressDependent),
            (Behaviour::Port, NatMapping::AddressAndPortDependent),
        ];
        let filterings = [
            (Behaviour::Independent, Filtering::EndpointIndependent),
            (Behaviour::Address, Filtering::AddressDependent),
            (Behaviour::Port, Filtering::AddressAndPortDependent),
        ];
        for (mapping, mapped) in mappings {
            for (filtering, filtered) in filterings {
                let mut world = World::new(mapping, filtering);
                world.servers = vec![(addr("198.51.100.1:3478"), Some(addr("198.51.100.2:3479")))];
                let (findings, took) = run(&mut world);
                assert_eq!(verdict(&findings), (mapped, filtered));
                assert!(took <= Duration::from_secs(8), "{took:?}");
                assert_eq!((findings.asked, findings.answered), (1, 1));
            }
        }
    }

    #[test]
    fn two_plain_servers_tell_the_mapping_and_nothing_of_the_filtering() {
        for (mapping, mapped) in [
            (Behaviour::Independent, NatMapping::EndpointIndependent),
            (Behaviour::Port, NatMapping::AddressAndPortDependent),
        ] {
            let mut world = World::new(mapping, Behaviour::Port);
            world.servers = vec![(addr("198.51.100.1:3478"), None), (addr("198.51.100.2:3478"), None)];
            let (findings, took) = run(&mut world);
            assert_eq!(verdict(&findings), (mapped, Filtering::Unknown));
            assert_eq!((findings.rtt, took), (Some(Duration::from_millis(20)), Duration::ZERO));
        }
    }

    #[test]
    fn silence_ends_the_round_after_three_questions_each() {
        let start = now_for_tests();
        let servers = [addr("198.51.100.1:3478"), addr("198.51.100.2:3478")];
        let mut probe = StunProbe::new(&servers, (0..StunProbe::IDS).map(|n| [n as u8; 12]), start);
        let (mut sent, mut now) = (0, start);
        while !probe.is_done() {
            sent += std::iter::from_fn(|| probe.poll_transmit()).count();
            now = probe.poll_timeout().unwrap_or(now);
            probe.handle_timeout(now);
        }
        assert_eq!((sent, now - start), (6, Duration::from_millis(3500)));
        assert_eq!((probe.findings().asked, probe.findings().answered), (2, 0));
        assert_eq!(probe.findings().filtering, Filtering::Unknown);
    }

    #[test]
    fn an_answer_from_elsewhere_than_asked_does_not_count() {
        let now = now_for_tests();
        let server = addr("198.51.100.1:3478");
        let mut probe = StunProbe::new(&[server], [[7; 12]], now);
        let (_, request) = probe.poll_transmit().unwrap();
        let forged = answer(&request, addr("203.0.113.66:6"), None);
        probe.handle_datagram(addr("198.51.100.66:3478"), &forged, now);
        assert!(!probe.is_done() && probe.findings().sightings.is_empty());
        probe.handle_datagram(server, &forged, now);
        assert!(probe.is_done());
    }

    #[test]
    fn a_second_address_that_leads_into_our_own_network_is_not_asked() {
        let now = now_for_tests();
        let server = addr("198.51.100.1:3478");
        let mut probe = StunProbe::new(&[server], (0..9).map(|n| [n; 12]), now);
        let (_, request) = probe.poll_transmit().unwrap();
        probe.handle_datagram(
            server,
            &answer(&request, addr("203.0.113.9:1"), Some(addr("192.168.1.1:53"))),
            now,
        );
        assert!(probe.is_done());
    }
}
