//! A lane over two paths that are switched, slowed and cut in any order: every frame arrives once, in order, and none is
//! lost.

#![expect(clippy::unwrap_used, reason = "helpers of tests; a panic names the line")]

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use peerup_lane::{Arrival, Far, Form, Inbound, Lane, inbound, retained};
use peerup_packet::FlowKey;
use peerup_types::PathId;
use peerup_wire::frame::{Ack, Announce, Deframer, FrameKind, FrameWriter};
use proptest::prelude::*;

const FAR: Far = Far { supers: true, acks: true, mtu: 1380 };

/// A stream: batches in order, all or, after a cut, nothing.
struct Path {
    id: PathId,
    stream: VecDeque<Vec<u8>>,
    deframer: Deframer,
    announced: bool,
    cut: bool,
}

impl Path {
    fn new(id: u64) -> Self {
        let (stream, deframer) = (VecDeque::new(), Deframer::default());
        Self { id: PathId(id), stream, deframer, announced: false, cut: false }
    }
}

struct World {
    now: Instant,
    lane: Lane,
    inbound: Inbound,
    paths: Vec<Path>,
    active: usize,
    next_path: u64,
    acks: VecDeque<Ack>,
    /// Numbers of the frames that were sent and of those that arrived, in order.
    sent: u32,
    arrived: Vec<u32>,
    /// Frames that could not be kept, since too much was on the way.
    overflowed: bool,
    /// The queue in front of the paths was full or stood for too long: what was oldest in it gave way.
    full: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Send {
        frames: u8,
        len: u16,
    },
    /// The outlet of the path in use writes.
    Write,
    /// Batches arrive.
    Carry {
        path: usize,
        batches: u8,
    },
    Acknowledge,
    LoseAcks,
    Switch,
    /// A path dies with all that is on it; another one takes its place. Noticed at once or much later.
    Cut {
        path: usize,
    },
    Notice {
        path: usize,
    },
    Wait {
        ms: u16,
    },
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "a test needs some first instant")]
    fn new() -> Self {
        let (mut lane, now) = (Lane::new(7), Instant::now());
        lane.switch(Some(PathId(0)), now);
        Self {
            now,
            lane,
            inbound: Inbound::default(),
            paths: vec![Path::new(0), Path::new(1)],
            active: 0,
            next_path: 2,
            acks: VecDeque::new(),
            sent: 0,
            arrived: Vec::new(),
            overflowed: false,
            full: false,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Send { frames, len } => {
                for _ in 0..frames {
                    let mut body = vec![0; usize::from(len).max(4)];
                    body[..4].copy_from_slice(&self.sent.to_be_bytes());
                    self.full |= self.lane.push(FlowKey::default(), Form::Plain, &body, self.now) > 0;
                    self.sent += 1;
                }
            }
            Step::Write => self.write(),
            Step::Carry { path, batches } => (0..batches).for_each(|_| self.carry(path)),
            Step::Acknowledge => {
                self.acks.extend(self.inbound.take_ack(self.now));
                while let Some(ack) = self.acks.pop_front() {
                    self.lane.acknowledge(ack, self.now);
                }
            }
            Step::LoseAcks => {
                self.inbound.take_ack(self.now);
                self.acks.clear();
            }
            Step::Switch => self.switch(1 - self.active),
            Step::Cut { path } => {
                let path = &mut self.paths[path];
                (path.cut, path.stream) = (true, VecDeque::new());
            }
            Step::Notice { path } => self.notice(path),
            Step::Wait { ms } => {
                self.now += Duration::from_millis(ms.into());
                self.release();
            }
        }
    }

    fn write(&mut self) {
        let before = self.lane.unacknowledged();
        let mut writer = FrameWriter::new();
        let stale = self.lane.drain_into(&mut writer, FAR, self.now).dropped();
        // Packets that the queue drops, for their age or their number, are another matter.
        self.full |= stale > 0;
        self.overflowed |= before + writer.as_bytes().len() > retained::MAX_BYTES;
        let path = &mut self.paths[self.active];
        if !writer.is_empty() && !path.cut {
            path.stream.push_back(writer.as_bytes().to_vec());
        }
    }

    fn carry(&mut self, path: usize) {
        let Some(batch) = self.paths[path].stream.pop_front() else { return };
        let path = &mut self.paths[path];
        path.deframer.space()[..batch.len()].copy_from_slice(&batch);
        path.deframer.filled(batch.len());
        while let Some(frame) = path.deframer.next_frame().unwrap() {
            match frame.kind {
                FrameKind::Announce => {
                    self.inbound.announced(Announce::parse(frame.body).unwrap(), self.now);
                    path.announced = true;
                }
                FrameKind::Packet => {
                    assert!(path.announced, "a frame came before the announcement");
                    if self.inbound.receive(frame.seq, frame.kind, frame.body, self.now) == Arrival::Deliver {
                        self.arrived.push(number(frame.body));
                    }
                }
                other => panic!("{other}"),
            }
            while let Some(held) = self.inbound.pop_ready(self.now) {
                self.arrived.push(number(&held.body));
                self.inbound.give_back(held);
            }
        }
    }

    fn release(&mut self) {
        while let Some(held) = self.inbound.pop_ready(self.now) {
            self.arrived.push(number(&held.body));
        }
    }

    fn switch(&mut self, to: usize) {
        self.active = to;
        self.lane.switch(Some(self.paths[to].id), self.now);
    }

    /// The sender learns that a cut path is gone, and gets a new one.
    fn notice(&mut self, path: usize) {
        if !self.paths[path].cut {
            return;
        }
        self.lane.path_gone(self.paths[path].id);
        self.paths[path] = Path::new(self.next_path);
        self.next_path += 1;
        if self.active == path {
            self.switch(1 - path);
        }
    }

    /// Everything heals and everything in flight arrives.
    fn settle(&mut self) {
        (0..2).for_each(|path| self.notice(path));
        for _ in 0..400 {
            self.write();
            (0..2).for_each(|path| self.carry(path));
            self.step(&Step::Acknowledge);
            self.step(&Step::Wait { ms: 20 });
        }
    }

    fn lost(&self) -> Vec<u32> {
        let mut arrived = self.arrived.clone();
        arrived.sort_unstable();
        (0..self.sent).filter(|number| arrived.binary_search(number).is_err()).collect()
    }
}

fn number(body: &[u8]) -> u32 {
    u32::from_be_bytes(*body.first_chunk().unwrap())
}

fn steps(cuts: bool, longest_wait: u16) -> impl Strategy<Value = Vec<Step>> {
    let path = 0..2usize;
    let cut = if cuts { 1 } else { 0 };
    let step = prop_oneof![
        6 => (1..40u8, 4..1380u16).prop_map(|(frames, len)| Step::Send { frames, len }),
        8 => Just(Step::Write),
        8 => (path.clone(), 1..4u8).prop_map(|(path, batches)| Step::Carry { path, batches }),
        4 => Just(Step::Acknowledge),
        1 => Just(Step::LoseAcks),
        2 => Just(Step::Switch),
        cut => path.clone().prop_map(|path| Step::Cut { path }),
        cut => path.prop_map(|path| Step::Notice { path }),
        3 => (0..=longest_wait).prop_map(|ms| Step::Wait { ms }),
    ];
    proptest::collection::vec(step, 1..200)
}

fn assert_once(world: &World) -> Result<(), TestCaseError> {
    let mut seen = world.arrived.clone();
    seen.sort_unstable();
    seen.dedup();
    prop_assert_eq!(seen.len(), world.arrived.len(), "a frame was delivered twice");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_cut_and_when_each_frame_arrives_once_and_none_is_lost(steps in steps(true, 400)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
        assert_once(&world)?;
        if !world.overflowed && !world.full {
            prop_assert_eq!(world.lost(), Vec::<u32>::new());
        }
        if world.inbound.given_up() == 0 {
            prop_assert!(world.arrived.is_sorted(), "reordered: {:?}", world.arrived);
        }
        // An acknowledgement that was lost is made good by the next one.
        world.step(&Step::Send { frames: 1, len: 4 });
        world.settle();
        prop_assert_eq!(world.lane.unacknowledged(), 0);
    }

    #[test]
    fn a_planned_switch_keeps_the_order_however_far_the_paths_are_apart(steps in steps(false, 0)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        prop_assert!(world.arrived.is_sorted(), "reordered: {:?}", world.arrived);
        prop_assert_eq!(world.inbound.given_up(), 0);
        world.settle();
        assert_once(&world)?;
        if !world.full {
            prop_assert_eq!(world.lost(), Vec::<u32>::new());
        }
    }

    #[test]
    fn what_overtakes_is_held_for_a_bounded_time_and_in_bounded_memory(
        seqs in proptest::collection::vec(any::<u32>(), 1..300), len in 0..60_000usize
    ) {
        let mut world = World::new();
        world.inbound.announced(Announce { lane: 0, instance: 1, seq: 0 }, world.now);
        let body = vec![0; len];
        let mut held = 0;
        for seq in seqs {
            let arrival = world.inbound.receive(seq, FrameKind::Packet, &body, world.now);
            held += if arrival == Arrival::Hold { len } else { 0 };
            while let Some(freed) = world.inbound.pop_ready(world.now) {
                held -= freed.body.len();
            }
            prop_assert!(held <= inbound::MAX_HELD_BYTES, "{held}");
        }
        while let Some(at) = world.inbound.poll_timeout() {
            prop_assert!(at <= world.now + inbound::SILENCE);
            world.now = at;
            prop_assert!(world.inbound.pop_ready(world.now).is_some());
        }
        prop_assert!(!world.inbound.is_holding());
    }
}

#[test]
fn frames_of_a_cut_path_are_sent_again_before_new_ones() {
    let mut world = World::new();
    for step in [Step::Send { frames: 10, len: 100 }, Step::Write, Step::Carry { path: 0, batches: 1 }] {
        world.step(&step);
    }
    for step in [Step::Send { frames: 10, len: 100 }, Step::Write, Step::Cut { path: 0 }] {
        world.step(&step);
    }
    world.step(&Step::Send { frames: 10, len: 100 });
    world.step(&Step::Notice { path: 0 });
    world.step(&Step::Write);
    world.carry(1);
    assert_eq!(world.arrived, (0..30).collect::<Vec<_>>());
    assert_eq!(world.inbound.given_up(), 0);
}

#[test]
fn a_path_that_falls_silent_without_closing_is_not_waited_for() {
    let mut world = World::new();
    world.step(&Step::Send { frames: 10, len: 100 });
    world.step(&Step::Write);
    world.step(&Step::Cut { path: 0 });
    world.step(&Step::Wait { ms: 800 });
    // The path machine suspects the path and moves on; the connection is still open.
    world.switch(1);
    world.step(&Step::Send { frames: 1, len: 100 });
    world.step(&Step::Write);
    world.carry(1);
    assert_eq!(world.arrived, (0..11).collect::<Vec<_>>());
}

#[test]
fn more_than_is_kept_may_be_on_the_way_and_the_rest_survives_a_cut() {
    let mut world = World::new();
    for _ in 0..40 {
        world.step(&Step::Send { frames: 40, len: 1380 });
        world.step(&Step::Write);
    }
    assert!(world.lane.unacknowledged() <= retained::MAX_BYTES);
    world.step(&Step::Cut { path: 0 });
    world.step(&Step::Notice { path: 0 });
    let before = world.now;
    for _ in 0..40 {
        world.write();
        world.carry(1);
    }
    // Nothing waits for what cannot come.
    assert_eq!(world.now, before);
    assert!(world.arrived.is_sorted());
    assert_eq!(world.arrived.last(), Some(&(world.sent - 1)));
    assert!(world.arrived.len() * 1380 > retained::MAX_BYTES - 100_000, "{}", world.arrived.len());
}

#[test]
fn a_receiver_that_starts_afresh_takes_up_where_the_sender_is() {
    let mut world = World::new();
    world.step(&Step::Send { frames: 100, len: 100 });
    world.step(&Step::Write);
    world.carry(0);
    world.step(&Step::Acknowledge);
    world.inbound = Inbound::default();
    world.step(&Step::Cut { path: 0 });
    world.step(&Step::Notice { path: 0 });
    world.step(&Step::Send { frames: 5, len: 100 });
    world.step(&Step::Write);
    world.carry(1);
    assert_eq!(world.arrived, (0..105).collect::<Vec<_>>());
}

#[test]
fn a_lane_that_starts_afresh_voids_the_numbers_of_the_older_one() {
    let mut world = World::new();
    world.step(&Step::Send { frames: 100, len: 100 });
    world.step(&Step::Write);
    world.carry(0);
    world.lane = Lane::new(8);
    world.switch(1);
    world.step(&Step::Send { frames: 5, len: 100 });
    world.step(&Step::Write);
    world.carry(1);
    assert_eq!(world.arrived, (0..105).collect::<Vec<_>>());
}

#[test]
fn acknowledgements_of_what_was_never_sent_are_ignored() {
    let mut world = World::new();
    world.step(&Step::Send { frames: 10, len: 100 });
    world.step(&Step::Write);
    let kept = world.lane.unacknowledged();
    for seq in (0..u32::MAX).step_by(0x0123_4567) {
        world.lane.acknowledge(Ack { lane: 0, seq }, world.now);
    }
    world.lane.acknowledge(Ack { lane: 1, seq: 0 }, world.now);
    assert_eq!(world.lane.unacknowledged(), kept);
}

#[test]
fn nothing_is_acknowledged_twice() {
    let mut world = World::new();
    world.step(&Step::Send { frames: 10, len: 100 });
    world.step(&Step::Write);
    world.carry(0);
    assert!(world.inbound.wants_ack(world.now).is_some());
    assert!(world.inbound.take_ack(world.now).is_some());
    assert!(world.inbound.wants_ack(world.now).is_none());
    assert_eq!(world.inbound.take_ack(world.now), None);
}
