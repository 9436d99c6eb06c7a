//! The receiving side: order, duplicates, acknowledgements.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use peerup_wire::frame::{Ack, Announce, FrameKind};

use crate::{buffers::Buffers, retained};

/// How long what overtook waits while nothing of what it overtook arrives: the difference between the slowest relayed
/// path worth using and a direct one. Shorter than TCP's shortest retransmission timeout (200 ms on Linux).
pub const SILENCE: Duration = Duration::from_millis(100);
/// How long it waits in all.
pub const LONGEST: Duration = Duration::from_millis(500);
/// Bytes that wait: what a sender may have on the way while it changes paths, and the batch that took it there.
pub const MAX_HELD_BYTES: usize = retained::MAX_BYTES + 256 * 1024;
/// Frames that wait, for frames that are smaller than their bookkeeping.
const MAX_HELD: usize = 16 * 1024;
/// Ranges that were waited for in vain; frames of them that come after all are delivered.
const MAX_MISSING: usize = 32;
/// How long nothing behind such a range is acknowledged: a path is known to be dead within 2 s, and then its frames are
/// sent again.
const MISSING_FOR: Duration = Duration::from_secs(4);
/// Bytes after which an acknowledgement does not wait for company: an eighth of what the sender keeps.
const ACK_EVERY: usize = 128 * 1024;
/// How long an acknowledgement waits for company.
pub const ACK_DELAY: Duration = Duration::from_millis(20);
/// Internal numbers do not wrap; the first is far from zero, so that there is room below it.
const BASE: u64 = 1 << 40;

/// What to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It goes to the host.
    Deliver,
    /// It has been here before.
    Duplicate,
    /// It has been copied and waits for what it overtook.
    Hold,
}

/// A frame that has waited.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    pub kind: FrameKind,
    pub body: Vec<u8>,
}

#[derive(Debug)]
struct Missing {
    from: u64,
    to: u64,
    /// Until when it holds back acknowledgements.
    until: Instant,
}

/// The frames of one peer's lane, whatever paths they arrive on.
#[derive(Debug, Default)]
pub struct Inbound {
    lane: u16,
    instance: Option<u64>,
    /// The frame that is next in order.
    expected: u64,
    /// Nothing before this comes any more.
    floor: u64,
    held: BTreeMap<u64, Held>,
    held_bytes: usize,
    /// Since when frames wait, and when one that they wait for arrived last.
    waiting: Option<(Instant, Instant)>,
    missing: Vec<Missing>,
    given_up: u64,
    /// Bytes received since the last acknowledgement, and what that one said.
    unacknowledged: usize,
    acknowledged: u64,
    /// It has to be said again.
    repeat: bool,
    buffers: Buffers,
}

impl Inbound {
    /// The sender said what its lane is and from where on it sends.
    pub fn announced(&mut self, announce: Announce, now: Instant) {
        if self.instance != Some(announce.instance) {
            let buffers = std::mem::take(&mut self.buffers);
            let expected = BASE + u64::from(announce.seq);
            *self = Self {
                lane: announce.lane,
                instance: Some(announce.instance),
                expected,
                floor: expected,
                acknowledged: expected,
                buffers,
                ..Self::default()
            };
            return;
        }
        self.floor = self.floor.max(self.unwrap(announce.seq));
        for missing in self.missing.iter_mut().filter(|missing| missing.from < self.floor) {
            missing.until = now;
        }
        self.skip_to_floor(now);
    }

    /// Whether sequence numbers of `instance` are those that are judged here.
    pub fn is(&self, instance: u64) -> bool {
        self.instance == Some(instance)
    }

    /// A frame arrived. `body` is copied when it has to wait.
    pub fn receive(&mut self, seq: u32, kind: FrameKind, body: &[u8], now: Instant) -> Arrival {
        self.unacknowledged += body.len();
        let number = self.unwrap(seq);
        if number == self.expected {
            self.expected += 1;
            if let Some((_, progress)) = &mut self.waiting {
                *progress = now;
            }
            return Arrival::Deliver;
        }
        if number < self.expected {
            if self.take_missing(number) {
                return Arrival::Deliver;
            }
            // The acknowledgement of the first copy may have been lost with its path.
            self.repeat = true;
            return Arrival::Duplicate;
        }
        if self.held.contains_key(&number) {
            return Arrival::Duplicate;
        }
        self.held_bytes += body.len();
        let body = self.buffers.copy(body);
        self.held.insert(number, Held { kind, body });
        self.waiting.get_or_insert((now, now));
        Arrival::Hold
    }

    /// The next frame that need not wait any longer. To be asked after every frame that was received while frames
    /// wait, after an announcement, and at [`Self::poll_timeout`].
    pub fn pop_ready(&mut self, now: Instant) -> Option<Held> {
        let (&first, _) = self.held.first_key_value()?;
        if first > self.expected {
            let late = self.poll_timeout().is_some_and(|at| at <= now);
            let crowded = self.held_bytes > MAX_HELD_BYTES || self.held.len() > MAX_HELD;
            if !late && !crowded {
                return None;
            }
            self.give_up(first, now + MISSING_FOR);
            // What waits behind the next gap has a right to its own time.
            self.waiting = Some((now, now));
        }
        let (_, held) = self.held.pop_first()?;
        self.held_bytes -= held.body.len();
        self.expected = first + 1;
        if self.held.is_empty() {
            self.waiting = None;
        }
        self.skip_to_floor(now);
        Some(held)
    }

    /// Takes back the buffer of a frame that has waited.
    pub fn give_back(&mut self, held: Held) {
        self.buffers.give_back(held.body);
    }

    /// Whether frames wait.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Until when frames wait.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (since, progress) = self.waiting?;
        Some((since + LONGEST).min(progress + SILENCE))
    }

    /// Whether there is something to acknowledge, and whether it may wait for [`ACK_DELAY`].
    pub fn wants_ack(&self, now: Instant) -> Option<Urgency> {
        let more = self.unacknowledged > 0 && (self.repeat || self.received_up_to(now) > self.acknowledged);
        more.then_some(if self.unacknowledged >= ACK_EVERY { Urgency::AtOnce } else { Urgency::Soon })
    }

    /// What to acknowledge, if there is anything new.
    pub fn take_ack(&mut self, now: Instant) -> Option<Ack> {
        let end = self.received_up_to(now);
        let repeat = std::mem::take(&mut self.repeat);
        if end == self.acknowledged && !repeat {
            return None;
        }
        (self.unacknowledged, self.acknowledged) = (0, end);
        Some(Ack { lane: self.lane, seq: (end - BASE).wrapping_sub(1) as u32 })
    }

    /// Frames that were not there when their turn came, those included that came later.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// The first frame that is not here and may still come.
    fn received_up_to(&self, now: Instant) -> u64 {
        let missing = self.missing.iter().find(|missing| missing.until > now);
        missing.map_or(self.expected, |missing| missing.from).max(self.acknowledged)
    }

    /// Passes over what is not here and does not come.
    fn skip_to_floor(&mut self, now: Instant) {
        let next = self.held.keys().next().map_or(self.floor, |first| self.floor.min(*first));
        if next > self.expected {
            self.give_up(next, now);
        }
    }

    /// Goes on with `next`. What lies before it may be sent again until `until`.
    fn give_up(&mut self, next: u64, until: Instant) {
        self.given_up += next - self.expected;
        if self.missing.len() >= MAX_MISSING {
            self.missing.remove(0);
        }
        self.missing.push(Missing { from: self.expected, to: next, until });
        self.expected = next;
    }

    /// Whether `number` was given up, has not come since, and may therefore be delivered.
    fn take_missing(&mut self, number: u64) -> bool {
        let Some(at) = self.missing.iter().position(|range| (range.from..range.to).contains(&number)) else {
            return false;
        };
        let range = &mut self.missing[at];
        let (from, to, until) = (range.from, range.to, range.until);
        if from == number {
            range.from += 1;
        } else if number + 1 == to {
            range.to -= 1;
        } else {
            range.to = number;
            self.missing.insert(at + 1, Missing { from: number + 1, to, until });
        }
        self.missing.retain(|range| range.from < range.to);
        while self.missing.len() > MAX_MISSING {
            self.missing.remove(0);
        }
        true
    }

    /// The number of a frame that is less than 2^31 away from what is expected (RFC 1982).
    fn unwrap(&self, seq: u32) -> u64 {
        let away = seq.wrapping_sub((self.expected - BASE) as u32) as i32;
        self.expected.saturating_add_signed(i64::from(away))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    Soon,
    AtOnce,
}
