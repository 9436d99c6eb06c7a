//! The queue in front of one peer's path: fair between flows, short for all of them (RFC 8290, FQ-CoDel).
//!
//! # The model
//! ```text
//!              ┌─ flow ─┐ new: first packets of flows that were silent
//!  push ─ key ─┼─ flow ─┼────────────────────────────────────────────── pop
//!              └─ flow ─┘ old: flows that had their turn, one quantum each round
//! ```
//! A key picks one of [`BUCKETS`] flows; flows take turns by *bytes* (deficit round robin). The quantum is one packet of the
//! usual MTU, although an item may be a super-packet of 64 KiB: a flow that sends one goes into debt and pays it off
//! round by round, while a flow of small packets has a turn in each of these rounds. So no flow ever waits for more than
//! one super-packet of each other flow, and a flow that was silent for none but those that were silent too. Debt outlives
//! an empty flow as long as others wait: nobody gets rid of it by pausing.
//!
//! Each flow has a [`Codel`] that judges how long its packets waited. Flows that understand it get a mark instead of a
//! loss (RFC 3168). The hard bounds stand behind it: bytes and packets in all, for which the flow with the most bytes pays
//! with its oldest packet, never a newcomer; and an age, for flows that listen to neither.
//!
//! # What super-packets change
//! An item can be as long as everything that CoDel's "less than one MTU is no queue" allows. So the rule counts in items:
//! what is left behind a packet has to be more than the packet itself. For the age the whole queue, or
//! the flow's part of it, has to be longer than two super-packets ([`SHORT`]).
//!
//! # What it never does
//! Change the order inside a flow, drop what it has not counted, or grow: packets live in a slab that is bounded by
//! [`Limits::packets`], and flows in a table bounded by [`BUCKETS`].

mod codel;
mod slab;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use peerup_packet::{FlowKey, gso::VIRTIO_NET_HEADER_LEN, mark_congestion};

use crate::lane::Form;
use codel::Codel;
use slab::{Chain, Slab};

/// Places that flows are sorted into (RFC 8290 §4.1.3 has as many). Two flows that meet in one share its turns.
pub const BUCKETS: usize = 1024;
/// What a flow may send each round: an Ethernet frame's worth (RFC 8290 §5.2.4).
const QUANTUM: i32 = 1514;
/// A short queue is not congestion but a writer that was not scheduled, or a super-packet or two on a slow path; it is
/// never dropped for its age.
const SHORT: usize = 128 * 1024;
/// What no round trip is longer than, whatever a peer makes us believe.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(1);
/// No flow is in this bucket.
const VACANT: u16 = u16::MAX;

/// How much may wait, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all flows together. A single item that is longer passes alone.
    pub bytes: usize,
    pub packets: usize,
    /// How long packets may wait once a flow's burst is over. On a path on which one packet takes longer than this, it
    /// has to be as long as one packet takes (RFC 8289 §4.4).
    pub target: Duration,
    /// How long the target may be missed before a flow hears of it: the longest round trip that is common, or that of a
    /// longer path.
    pub interval: Duration,
    /// A packet older than this tells its sender nothing useful; on a path with a long round trip, older than two of them.
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // What some flows that begin on a fast path far away send in the bursts of their slow starts. On a slow path
            // the age comes first.
            bytes: 16 * 1024 * 1024,
            // A bound for packets of a few bytes, whose bookkeeping is larger than they are.
            packets: 4096,
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
            age: Duration::from_millis(50),
        }
    }
}

/// What becomes of a packet that leaves the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Send,
    /// To be sent; it says that it met congestion.
    SendMarked,
    /// CoDel takes it, so that its flow slows down.
    Congestion,
    /// It waited for too long to be of use.
    TooOld,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Queued {
    pub body: Vec<u8>,
    pub form: Form,
    /// Since when it waits.
    at: Instant,
    /// Numbers packets of all flows as they came.
    number: u64,
}

#[derive(Debug)]
struct Flow {
    packets: Chain,
    bytes: usize,
    /// What it may still send in this turn; below zero, what it owes the others.
    deficit: i32,
    bucket: u16,
    codel: Codel,
}

#[derive(Debug)]
pub struct FairQueue {
    limits: Limits,
    /// Those of `limits` on the path in use.
    interval: Duration,
    age: Duration,
    seed: u64,
    /// Which of `flows` is in a bucket. Empty until the first packet: most peers are silent most of the time.
    buckets: Vec<u16>,
    flows: Vec<Flow>,
    vacant: Vec<u16>,
    new: VecDeque<u16>,
    old: VecDeque<u16>,
    packets: Slab,
    bytes: usize,
    arrivals: u64,
}

impl FairQueue {
    /// `seed` decides which flows meet in a bucket.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            interval: limits.interval,
            age: limits.age,
            seed,
            buckets: Vec::new(),
            flows: Vec::new(),
            vacant: Vec::new(),
            new: VecDeque::new(),
            old: VecDeque::new(),
            packets: Slab::default(),
            bytes: 0,
            arrivals: 0,
        }
    }

    /// What has to go before a packet of `len` bytes fits: the oldest packet of the flow with the most bytes (RFC 8290
    /// §4.1.2). To be asked until there is nothing.
    pub fn make_room(&mut self, len: usize) -> Option<Queued> {
        if self.bytes + len <= self.limits.bytes && self.packets.len() < self.limits.packets {
            return None;
        }
        let (fattest, _) = self.flows.iter().enumerate().max_by_key(|(_, flow)| flow.bytes)?;
        self.take(fattest)
    }

    /// Queues a packet for which there is room.
    pub fn push(&mut self, flow: FlowKey, form: Form, body: Vec<u8>, now: Instant) {
        let slot = self.slot(flow);
        let len = body.len();
        let at = self.packets.insert(Queued { body, form, at: now, number: self.arrivals });
        self.arrivals += 1;
        self.bytes += len;
        let flow = &mut self.flows[slot];
        flow.bytes += len;
        self.packets.append(&mut flow.packets, at);
    }

    /// The next packet, and what is to become of it.
    pub fn pop(&mut self, now: Instant) -> Option<(Queued, Fate)> {
        if self.packets.is_empty() {
            self.forgive();
            return None;
        }
        loop {
            let new = !self.new.is_empty();
            let slot = *self.list(new).front()?;
            let flow = &mut self.flows[usize::from(slot)];
            if flow.deficit <= 0 {
                flow.deficit += QUANTUM;
                self.list(new).pop_front();
                self.old.push_back(slot);
                continue;
            }
            if let Some(taken) = self.take_judged(slot.into(), now) {
                return Some(taken);
            }
            self.list(new).pop_front();
            // A new flow waits one round before it may be new again, or its packets would keep old flows from theirs.
            if new { self.old.push_back(slot) } else { self.retire(slot) }
        }
    }

    /// The packet that has waited longest, whatever its flow.
    pub fn pop_oldest(&mut self) -> Option<Queued> {
        let (slot, _) = self.oldest()?;
        self.take(slot)
    }

    /// Since when the oldest packet waits.
    pub fn oldest_at(&self) -> Option<Instant> {
        self.oldest().map(|(_, head)| head.at)
    }

    /// What waits has begun to wait at `now`: what it waited for until then was no congestion.
    pub fn restart(&mut self, now: Instant) {
        self.packets.iter_mut().for_each(|queued| queued.at = now);
        self.flows.iter_mut().for_each(|flow| flow.codel = Codel::default());
    }

    /// The path's round trip without a queue; zero when it is not known. A connection that begins to send on a path doubles its
    /// rate each round trip, as the flows in front of it do: so long they may have to wait for it, and a loss then would end
    /// their growth for good.
    pub fn set_round_trip(&mut self, rtt: Duration) {
        let rtt = rtt.min(LONGEST_ROUND_TRIP);
        self.interval = self.limits.interval.max(rtt);
        self.age = self.limits.age.max(rtt * 2);
    }

    pub fn len(&self) -> usize {
        self.packets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn list(&mut self, new: bool) -> &mut VecDeque<u16> {
        if new { &mut self.new } else { &mut self.old }
    }

    /// Where the flow is, or begins to be.
    fn slot(&mut self, key: FlowKey) -> usize {
        if self.buckets.is_empty() {
            self.buckets.resize(BUCKETS, VACANT);
        }
        let bucket = (key.seeded(self.seed) % BUCKETS as u64) as usize;
        let slot = self.buckets[bucket];
        if slot != VACANT {
            return slot.into();
        }
        let flow = Flow {
            packets: Chain::default(),
            bytes: 0,
            deficit: QUANTUM,
            bucket: bucket as u16,
            codel: Codel::default(),
        };
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.flows[usize::from(slot)] = flow;
                slot
            }
            None => {
                self.flows.push(flow);
                (self.flows.len() - 1) as u16
            }
        };
        self.buckets[bucket] = slot;
        self.new.push_back(slot);
        slot.into()
    }

    fn retire(&mut self, slot: u16) {
        self.buckets[usize::from(self.flows[usize::from(slot)].bucket)] = VACANT;
        self.vacant.push(slot);
    }

    /// Nobody waits, so nobody is owed anything.
    fn forgive(&mut self) {
        while let Some(slot) = self.new.pop_front().or_else(|| self.old.pop_front()) {
            self.retire(slot);
        }
    }

    fn take_judged(&mut self, slot: usize, now: Instant) -> Option<(Queued, Fate)> {
        let lane_bytes = self.bytes;
        let mut queued = self.take(slot)?;
        let share = SHORT / (self.new.len() + self.old.len()).max(1);
        let flow = &mut self.flows[slot];
        let waited = now.saturating_duration_since(queued.at);
        let crowded = lane_bytes > SHORT && flow.bytes + queued.body.len() > share;
        if crowded && waited > self.age {
            return Some((queued, Fate::TooOld));
        }
        let standing = flow.bytes > queued.body.len().max(QUANTUM as usize);
        let late = standing && waited >= self.limits.target;
        let fate = match flow.codel.judge(late, now, self.interval) {
            false => Fate::Send,
            true if mark(&mut queued) => Fate::SendMarked,
            true => return Some((queued, Fate::Congestion)),
        };
        // An item is far below 2 GiB: frames are.
        flow.deficit -= queued.body.len() as i32;
        Some((queued, fate))
    }

    fn take(&mut self, slot: usize) -> Option<Queued> {
        let flow = &mut self.flows[slot];
        let queued = self.packets.take_first(&mut flow.packets)?;
        flow.bytes -= queued.body.len();
        self.bytes -= queued.body.len();
        Some(queued)
    }

    fn oldest(&self) -> Option<(usize, &Queued)> {
        let heads = self.flows.iter().enumerate();
        let heads = heads.filter_map(|(slot, flow)| Some((slot, self.packets.first(&flow.packets)?)));
        heads.min_by_key(|(_, head)| head.number)
    }
}

/// Whether the flow understands marks; then the packet has one.
fn mark(queued: &mut Queued) -> bool {
    let packet = match queued.form {
        Form::Plain => Some(&mut queued.body[..]),
        Form::Super => queued.body.get_mut(VIRTIO_NET_HEADER_LEN..),
    };
    packet.is_some_and(mark_congestion)
}
