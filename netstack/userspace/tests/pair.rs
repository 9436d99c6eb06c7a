//! Two stacks back to back over a wire that loses, delays and reorders: what one writes the other reads.
#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as the tests do")]
#![expect(clippy::disallowed_methods, reason = "a test needs some first instant")]

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use peerup_packet::{
    IpPacket,
    gso::{self, VirtioNetHeader},
};
use peerup_types::OverlayAddrs;
use peerup_userspace::{ConnectError, Event, FlowId, Read, Settings, Stack, Write, limits};

const MTU: u16 = 1380;
const DELAY: Duration = Duration::from_millis(5);
const FRAME: usize = 70_000;

struct Pair {
    now: Instant,
    stacks: [Stack; 2],
    /// Towards stack 0 and towards stack 1: when each frame arrives.
    wires: [VecDeque<(Instant, Vec<u8>)>; 2],
    /// One frame in so many is lost; 0 for none.
    loss: u64,
    carried: u64,
    longest: usize,
    /// Whether super-packets are cut on the way, as for a peer that takes none.
    cut: bool,
    requests: Vec<(usize, Event)>,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let stack = |last: u8| {
            let v6 = format!("fd00::{last}").parse().unwrap();
            let addresses = OverlayAddrs { v4: Some(Ipv4Addr::new(10, 64, 0, last)), v6 };
            Stack::new(Settings { addresses, mtu: MTU, seed: last.into() }, now)
        };
        Self {
            now,
            stacks: [stack(1), stack(2)],
            wires: Default::default(),
            loss: 0,
            carried: 0,
            longest: 0,
            cut: false,
            requests: Vec::new(),
        }
    }

    /// Moves frames until nothing moves, then the clock to whatever comes next.
    fn step(&mut self) {
        let mut buffer = vec![0; FRAME];
        for side in 0..2 {
            let mut budget = 64;
            while budget > 0
                && let Some(len) = self.stacks[side].poll_frame(&mut buffer, self.now)
            {
                budget -= 1;
                self.carry(1 - side, &buffer[..len]);
            }
        }
        for side in 0..2 {
            while self.wires[side].front().is_some_and(|(at, _)| *at <= self.now) {
                let (_, frame) = self.wires[side].pop_front().unwrap();
                self.stacks[side].handle_frame(&frame, self.now);
            }
            while let Some(event) = self.stacks[side].poll_event() {
                self.requests.push((side, event));
            }
        }
        if self.stacks.iter().any(Stack::wants_to_send) {
            return;
        }
        let wires = self.wires.iter().filter_map(|wire| wire.front().map(|(at, _)| *at));
        let timers = self.stacks.iter().filter_map(Stack::poll_timeout);
        if let Some(next) = wires.chain(timers).min() {
            self.now = self.now.max(next);
        }
        for stack in &mut self.stacks {
            stack.handle_timeout(self.now);
        }
    }

    fn carry(&mut self, to: usize, frame: &[u8]) {
        let header = VirtioNetHeader::parse(frame.first_chunk().unwrap());
        let view = gso::validate(header, &frame[10..], MTU.into()).expect("what a stack sends is valid");
        self.longest = self.longest.max(frame.len());
        let mut frames = vec![frame.to_vec()];
        if self.cut {
            frames.clear();
            let cut = |packet: &[u8]| frames.push([&[0; 10][..], packet].concat());
            view.split(MTU.into(), &mut Vec::new(), cut).unwrap();
        }
        for frame in frames {
            self.carried += 1;
            if self.loss > 0 && self.carried.is_multiple_of(self.loss) {
                continue;
            }
            self.wires[to].push_back((self.now + DELAY, frame));
        }
    }

    fn run_until(&mut self, what: &str, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.now < end, "{what}: not within {limit:?}");
            self.step();
        }
    }

    fn accept_all(&mut self) -> Vec<FlowId> {
        let mut accepted = Vec::new();
        for (side, event) in std::mem::take(&mut self.requests) {
            if let Event::Accept { flow, .. } = event {
                self.stacks[side].accept(flow, self.now);
                accepted.push(flow);
            }
        }
        accepted
    }

    /// A connection from 0 to 1.
    fn connection(&mut self, port: u16) -> (FlowId, FlowId) {
        let there = self.stacks[0].connect(peer(port), self.now).unwrap();
        let mut here = None;
        self.run_until("a connection", Duration::from_secs(20), |pair| {
            here = here.or(pair.accept_all().pop());
            let now_connected = pair.stacks[0].connected(there) == Some(Ok(()));
            now_connected && here.is_some()
        });
        (there, here.unwrap())
    }

    fn read_all(&mut self, side: usize, flow: FlowId, into: &mut Vec<u8>) -> Read {
        loop {
            let now = self.now;
            let read = self.stacks[side].read(flow, now, |data| {
                into.extend_from_slice(data);
                data.len()
            });
            if !matches!(read, Read::Data(_)) {
                return read;
            }
        }
    }

    fn write_some(&mut self, side: usize, flow: FlowId, data: &[u8]) -> usize {
        let mut written = 0;
        while written < data.len() {
            let now = self.now;
            let write = self.stacks[side].write(flow, now, |room| {
                let len = room.len().min(data.len() - written);
                room[..len].copy_from_slice(&data[written..][..len]);
                len
            });
            match write {
                Write::Room(len) => written += len,
                Write::Full | Write::Closed => break,
            }
        }
        written
    }

    /// Sends `data` from 0 to 1 and says how long it took.
    fn transfer(&mut self, data: &[u8], limit: Duration) -> Duration {
        let (there, here) = self.connection(80);
        let (start, mut written, mut got, mut closed) = (self.now, 0, Vec::new(), false);
        self.run_until("the transfer", limit, |pair| {
            written += pair.write_some(0, there, &data[written..]);
            if written == data.len() && !std::mem::replace(&mut closed, true) {
                let now = pair.now;
                pair.stacks[0].shutdown(there, now);
            }
            pair.read_all(1, here, &mut got) == Read::Finished
        });
        assert!(got == data, "{} of {} bytes, or others", got.len(), data.len());
        self.now - start
    }
}

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 64, 0, 2], port))
}

fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[test]
fn a_file_arrives_whole_in_super_packets() {
    let mut pair = Pair::new();
    let took = pair.transfer(&noise(20_000_000), Duration::from_secs(10));
    assert!(pair.longest > 60_000, "the longest frame was {}", pair.longest);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_file_arrives_whole_where_every_packet_is_cut_to_the_mtu_and_one_in_a_hundred_is_lost() {
    let mut pair = Pair::new();
    (pair.cut, pair.loss) = (true, 100);
    pair.transfer(&noise(3_000_000), Duration::from_secs(300));
}

#[test]
fn super_packets_may_be_lost_too() {
    let mut pair = Pair::new();
    pair.loss = 13;
    pair.transfer(&noise(3_000_000), Duration::from_secs(300));
}

#[test]
fn a_half_closed_connection_carries_the_answer() {
    let mut pair = Pair::new();
    let (there, here) = pair.connection(80);
    pair.write_some(0, there, b"question");
    let now = pair.now;
    pair.stacks[0].shutdown(there, now);
    let mut question = Vec::new();
    pair.run_until("the question", Duration::from_secs(5), |pair| {
        pair.read_all(1, here, &mut question) == Read::Finished
    });
    assert_eq!(question, b"question");
    let answer_bytes = noise(500_000);
    let (mut written, mut answer, mut closed) = (0, Vec::new(), false);
    pair.run_until("the answer", Duration::from_secs(20), |pair| {
        written += pair.write_some(1, here, &answer_bytes[written..]);
        if written == answer_bytes.len() && !std::mem::replace(&mut closed, true) {
            let now = pair.now;
            pair.stacks[1].shutdown(here, now);
        }
        pair.read_all(0, there, &mut answer) == Read::Finished
    });
    assert!(answer == answer_bytes);
    let now = pair.now;
    pair.stacks[0].release(there, now);
    pair.stacks[1].release(here, now);
    pair.run_until("nothing is left", Duration::from_secs(60), |pair| {
        pair.stacks.iter().all(|stack| stack.flows() == 0)
    });
}

#[test]
fn a_reset_reaches_the_other_side_and_a_refusal_the_one_who_asks() {
    let mut pair = Pair::new();
    let (there, here) = pair.connection(80);
    let now = pair.now;
    pair.stacks[1].abort(here, now);
    pair.stacks[1].release(here, now);
    pair.run_until("the reset", Duration::from_secs(5), |pair| {
        pair.read_all(0, there, &mut Vec::new()) == Read::Reset
    });
    let refused = pair.stacks[0].connect(peer(81), pair.now).unwrap();
    pair.run_until("the refusal", Duration::from_secs(5), |pair| {
        for (side, event) in std::mem::take(&mut pair.requests) {
            if let Event::Accept { flow, .. } = event {
                pair.stacks[side].refuse(flow);
            }
        }
        pair.stacks[0].connected(refused) == Some(Err(ConnectError::Refused))
    });
    let now = pair.now;
    pair.stacks[0].release(there, now);
    pair.stacks[0].release(refused, now);
    pair.run_until("nothing is left", Duration::from_secs(60), |pair| {
        pair.stacks.iter().all(|stack| stack.flows() == 0)
    });
}

#[test]
fn a_reader_that_stops_closes_the_window_and_a_lost_update_does_not_stall_it() {
    let mut pair = Pair::new();
    let (there, here) = pair.connection(80);
    let data = noise(8_000_000);
    let mut written = 0;
    let end = pair.now + Duration::from_secs(30);
    while pair.now < end {
        written += pair.write_some(0, there, &data[written..]);
        pair.step();
    }
    assert!(written <= 2 * limits::MAX_BUFFER, "{written} bytes were taken from the writer");
    // Every window update is lost for a while; then probes find out.
    pair.loss = 1;
    let mut got = Vec::new();
    pair.read_all(1, here, &mut got);
    for _ in 0..20 {
        pair.step();
    }
    pair.loss = 0;
    pair.run_until("the rest", Duration::from_secs(200), |pair| {
        written += pair.write_some(0, there, &data[written..]);
        pair.read_all(1, here, &mut got);
        got.len() == data.len()
    });
    assert!(got == data);
}

#[test]
fn thousands_of_connections_fit_and_no_more_than_that() {
    let mut pair = Pair::new();
    let mut opened = Vec::new();
    for n in 0..limits::MAX_FLOWS_PER_PEER {
        opened.push(pair.stacks[0].connect(peer(80), pair.now).unwrap());
        if n % 256 == 0 {
            for _ in 0..8 {
                pair.step();
                pair.accept_all();
            }
        }
    }
    pair.run_until("all connections", Duration::from_secs(60), |pair| {
        pair.accept_all();
        opened.iter().all(|flow| pair.stacks[0].connected(*flow) == Some(Ok(())))
    });
    let one_more = pair.stacks[0].connect(peer(80), pair.now).unwrap();
    pair.run_until("a refusal", Duration::from_secs(10), |pair| {
        pair.stacks[0].connected(one_more) == Some(Err(ConnectError::Refused))
    });
}

#[test]
fn datagrams_cross_in_pieces_and_nobody_there_is_told() {
    let mut pair = Pair::new();
    let from = pair.stacks[0].bind_udp(pair.now).unwrap();
    let large = noise(9_000);
    let now = pair.now;
    pair.stacks[0].send_to(from, peer(53), &large, now);
    let mut served = None;
    pair.run_until("the datagram", Duration::from_secs(5), |pair| {
        let opened = pair.requests.iter().find_map(|(_, event)| match event {
            Event::Opened { conversation, .. } => Some(*conversation),
            Event::Accept { .. } | Event::Ready(_) | Event::Datagrams(_) => None,
        });
        served = opened;
        served.is_some()
    });
    let served = served.unwrap();
    assert_eq!(pair.stacks[1].recv_from(served).unwrap().unwrap().1, large);
    let now = pair.now;
    pair.stacks[1].send_to(served, peer(1), b"answer", now);
    let mut answer = None;
    pair.run_until("the answer", Duration::from_secs(5), |pair| {
        answer = pair.stacks[0].recv_from(from).unwrap();
        answer.is_some()
    });
    assert_eq!(answer.unwrap(), (peer(53), b"answer".to_vec()));
    pair.stacks[1].refuse_udp(served);
    let mut buffer = vec![0; FRAME];
    let len = pair.stacks[1].poll_frame(&mut buffer, pair.now).unwrap();
    let packet = IpPacket::parse(&buffer[10..len]).unwrap();
    assert_eq!(packet.payload()[..2], [3, 3], "port unreachable");
}

#[test]
fn the_reader_of_a_conversation_that_gives_way_is_told() {
    let mut pair = Pair::new();
    let mut opened = Vec::new();
    let mut told = Vec::new();
    for _ in 0..=limits::MAX_UDP_PER_PEER {
        let from = pair.stacks[0].bind_udp(pair.now).unwrap();
        let now = pair.now;
        pair.stacks[0].send_to(from, peer(53), b"x", now);
        let mut buffer = vec![0; FRAME];
        let len = pair.stacks[0].poll_frame(&mut buffer, now).unwrap();
        pair.stacks[1].handle_frame(&buffer[..len], now);
        while let Some(event) = pair.stacks[1].poll_event() {
            match event {
                Event::Opened { conversation, .. } => opened.push(conversation),
                Event::Datagrams(conversation) => told.push(conversation),
                Event::Accept { .. } | Event::Ready(_) => {}
            }
        }
        pair.now += Duration::from_millis(1);
    }
    let over: Vec<_> = opened.iter().copied().filter(|id| pair.stacks[1].recv_from(*id).is_err()).collect();
    assert!(!over.is_empty());
    assert_eq!(told, over);
}

#[test]
fn an_attempt_fails_at_once_when_the_router_says_that_the_peer_is_not_there() {
    let mut pair = Pair::new();
    let attempt = pair.stacks[0].connect(peer(22), pair.now).unwrap();
    let mut buffer = vec![0; FRAME];
    let len = pair.stacks[0].poll_frame(&mut buffer, pair.now).unwrap();
    let syn = IpPacket::parse(&buffer[10..len]).unwrap();
    let answer = peerup_packet::unreachable(&syn, syn.destination(), peerup_packet::Unreachable::Host);
    let frame = [&[0; 10][..], &answer.unwrap()].concat();
    pair.stacks[0].handle_frame(&frame, pair.now);
    assert_eq!(pair.stacks[0].connected(attempt), Some(Err(ConnectError::Unreachable)));
    assert_eq!(pair.stacks[0].poll_event(), Some(Event::Ready(attempt)));
}
