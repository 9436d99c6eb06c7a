//! The life of the paths to one peer, told as events on a clock that the test owns.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test needs some first instant")]

mod carrier;
mod further;
mod journal;
mod liveness;
mod properties;
mod punch;
mod reach;
mod select;
mod twins;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use peerup_path::{Action, Event, Opened, PeerPaths};
use peerup_types::{CarrierKind, Family, Multiaddr, PathClass, PathId, PathKind, PeerId};

const RELAYED: PathKind =
    PathKind { class: PathClass::Relay, family: Family::Ipv4, carrier: CarrierKind::RelayStream };
const PEER_RELAYED: PathKind =
    PathKind { class: PathClass::PeerRelay, family: Family::Ipv4, carrier: CarrierKind::RelayStream };
const DIRECT_V4: PathKind =
    PathKind { class: PathClass::Direct, family: Family::Ipv4, carrier: CarrierKind::QuicStream };
const DIRECT_TCP: PathKind =
    PathKind { class: PathClass::Direct, family: Family::Ipv4, carrier: CarrierKind::TcpStream };
const TCP_V6: PathKind =
    PathKind { class: PathClass::Direct, family: Family::Ipv6, carrier: CarrierKind::TcpStream };
const DIRECT_V6: PathKind =
    PathKind { class: PathClass::Direct, family: Family::Ipv6, carrier: CarrierKind::QuicStream };

struct Story {
    peer: PeerPaths,
    id: PeerId,
    start: Instant,
    now: Instant,
    /// Every change of path with its time.
    changes: Vec<(Instant, Event)>,
    /// How many of them have been counted.
    counted: usize,
    /// Answers on their way, by arrival: path and round trip.
    answers: BTreeMap<(Instant, u64), (u64, Duration)>,
    serial: u64,
    /// Since when packets on a path go unanswered.
    silence: Option<(u64, Instant)>,
    closed: BTreeMap<u64, Instant>,
    /// Which connections packets were told to take, and when.
    used: Vec<(Instant, Option<u64>, Option<u64>)>,
}

impl Story {
    fn new() -> Self {
        let (small, large) = ordered_peers();
        Self::between(small, large)
    }

    fn between(own: PeerId, id: PeerId) -> Self {
        let now = Instant::now();
        Self {
            peer: PeerPaths::new(own, id, 42, now),
            id,
            start: now,
            now,
            changes: Vec::new(),
            counted: 0,
            answers: BTreeMap::new(),
            serial: 0,
            silence: None,
            closed: BTreeMap::new(),
            used: Vec::new(),
        }
    }

    /// Two peers with these paths, which have been measured; the wire answers after this many milliseconds.
    fn settled<const N: usize>(paths: [(u64, PathKind, u64); N]) -> Self {
        let mut story = Self::with_ready(paths.map(|(path, kind, _)| (path, kind)));
        story.run(Duration::from_secs(70), |path, _| {
            paths.iter().find(|(of, ..)| *of == path).map(|(.., rtt)| *rtt)
        });
        story.switches();
        story
    }

    fn with_ready<const N: usize>(paths: [(u64, PathKind); N]) -> Self {
        let mut story = Self::new();
        for (path, kind) in paths {
            story.open(path, kind);
            story.peer.handle_ready(PathId(path), story.now);
        }
        story.drain();
        story
    }

    fn open(&mut self, path: u64, kind: PathKind) {
        self.open_as(path, kind, true);
    }

    fn open_as(&mut self, path: u64, kind: PathKind, outbound: bool) {
        let remote = "/ip4/198.51.100.1/udp/4001/quic-v1".parse().unwrap();
        self.peer.handle_opened(Opened { path: PathId(path), kind, remote, relay: None, outbound }, self.now);
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.peer.handle_timeout(self.now);
    }

    fn run_timeout(&mut self) -> Vec<Action> {
        self.peer.handle_timeout(self.now);
        self.drain()
    }

    /// Advances to the next timeout and shows each action to `react`.
    fn step(&mut self, mut react: impl FnMut(&mut PeerPaths, &Action, Instant)) {
        self.now = self.peer.poll_timeout().expect("a timeout").max(self.now);
        for action in self.run_timeout() {
            react(&mut self.peer, &action, self.now);
        }
    }

    /// Lets time pass with traffic. `wire` says after how many milliseconds a probe on a path is answered at a time
    /// since the call, if it is.
    fn run(&mut self, duration: Duration, wire: impl Fn(u64, Duration) -> Option<u64>) {
        let begin = self.now;
        let end = begin + duration;
        let mut next_traffic = begin;
        loop {
            let timeout = self.peer.poll_timeout().map(|at| at.max(self.now));
            let answer = self.answers.first_key_value().map(|((at, _), _)| *at);
            let next = [timeout, answer, Some(next_traffic)].into_iter().flatten().min().unwrap();
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            if answer == Some(next)
                && let Some((_, (path, rtt))) = self.answers.pop_first()
            {
                self.peer.handle_answer(PathId(path), rtt, self.now);
            } else if next_traffic == next {
                next_traffic += Duration::from_millis(100);
                self.peer.handle_traffic(self.now);
                let active = self.active();
                let dead = active.is_some_and(|path| wire(path, self.now - begin).is_none());
                self.silence = self.silence.filter(|(path, _)| dead && Some(*path) == active);
                let silence = active.filter(|_| dead).map(|path| self.silence.unwrap_or((path, self.now)));
                self.silence = silence;
                if let Some((path, since)) = silence
                    && self.now - since >= Duration::from_millis(500)
                {
                    self.peer.handle_unanswered(PathId(path), self.now);
                }
            } else {
                self.peer.handle_timeout(self.now);
            }
            for action in self.drain() {
                if let Action::Close { path: PathId(path) } = action {
                    self.closed.insert(path, self.now);
                }
                if let Action::Probe { path: PathId(path) } = action
                    && let Some(rtt) = wire(path, self.now - begin)
                {
                    self.serial += 1;
                    let rtt = Duration::from_millis(rtt);
                    self.answers.insert((self.now + rtt, self.serial), (path, rtt));
                }
            }
        }
    }

    fn drain(&mut self) -> Vec<Action> {
        while let Some(event) = self.peer.poll_event() {
            self.changes.push((self.now, event));
        }
        let actions: Vec<Action> = std::iter::from_fn(|| self.peer.poll_action()).collect();
        for action in &actions {
            if let Action::Use { path, beside, .. } = action {
                self.used.push((self.now, path.map(|path| path.0), beside.map(|path| path.0)));
            }
        }
        actions
    }

    /// Reliable frames and what stands beside them, as told last.
    fn used(&mut self) -> (Option<u64>, Option<u64>) {
        self.drain();
        self.used.last().map_or((None, None), |(_, path, beside)| (*path, *beside))
    }

    /// How often packets moved to another kind of path since the last call.
    fn switches(&mut self) -> usize {
        self.drain();
        let new = self.changes.iter().skip(std::mem::replace(&mut self.counted, self.changes.len()));
        new.filter(|(_, change)| is_switch(change)).count()
    }

    fn active(&self) -> Option<u64> {
        self.peer.active().map(|(opened, ..)| opened.path.0)
    }

    fn uses(&self, path: Option<u64>) -> Action {
        Action::Use { peer: self.id, path: path.map(PathId), beside: None }
    }
}

fn is_switch(Event::PathChanged { from, to, .. }: &Event) -> bool {
    from.is_some() && to.is_some() && from != to
}

fn ordered_peers() -> (PeerId, PeerId) {
    let (a, b) = (PeerId::random(), PeerId::random());
    if a.to_bytes() < b.to_bytes() { (a, b) } else { (b, a) }
}

fn circuit(relay: u8) -> Multiaddr {
    format!("/ip4/203.0.113.{relay}/tcp/7777/p2p/{}/p2p-circuit", PeerId::random()).parse().unwrap()
}

fn addresses<const N: usize>(texts: [&str; N]) -> Vec<Multiaddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}
