//! What the peer has not acknowledged, and when to send it again.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use peerup_types::PathId;
use peerup_wire::frame::{Ack, Announce};

use crate::{buffers::Buffers, lane::Form};

/// Bytes kept for sending again. On a path with more than this on the way the oldest are not protected, and their
/// senders repeat them.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Frames kept: a bound for packets of a few bytes, whose bookkeeping is larger than they are.
const MAX_FRAMES: usize = 8192;
/// A packet older than this is of no use to anybody: its sender has repeated it or given up.
const KEPT_FOR: Duration = Duration::from_secs(15);
/// How long a frame on a path that packets have left may be without acknowledgement: twice the lane's round trip and
/// what an acknowledgement may be held back, within these limits.
const ACK_DELAY: Duration = Duration::from_millis(50);
const RESEND_FIRST: Duration = Duration::from_millis(100);
const RESEND_LAST: Duration = Duration::from_secs(1);
/// Before the first acknowledgement has told the round trip.
const UNKNOWN_RTT: Duration = Duration::from_millis(100);
/// One lane per peer.
const LANE: u16 = 0;

#[derive(Debug)]
struct Entry {
    body: Vec<u8>,
    form: Form,
    /// When and where it was sent last; no path when that path is gone.
    at: Instant,
    path: Option<PathId>,
    again: bool,
}

/// What an acknowledgement told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Acked {
    pub frames: usize,
    /// The path that brought the newest of them, where that is certain: it is alive.
    pub path: Option<PathId>,
    /// New frames were held up before it.
    pub room: bool,
}

#[derive(Debug)]
pub struct Retained {
    instance: u64,
    /// The number of the next new frame. The entries are those right before it.
    next: u32,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The path in use.
    path: Option<PathId>,
    /// `entries[resent..left]` were sent on paths that are not in use and have not been sent again.
    resent: usize,
    left: usize,
    /// The end of the frames that fell out of the bound, and the path they were sent on.
    fallen: Option<(PathId, u32)>,
    /// Everything before this is acknowledged or given up.
    floor: u32,
    announce: bool,
    rtt: Option<Duration>,
    /// The shortest on the path in use.
    least_rtt: Option<Duration>,
}

impl Retained {
    pub fn new(instance: u64) -> Self {
        // A late acknowledgement of an older instance is most likely far from any number of this one.
        let first = (instance.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
        Self {
            instance,
            next: first,
            entries: VecDeque::new(),
            bytes: 0,
            path: None,
            resent: 0,
            left: 0,
            fallen: None,
            floor: first,
            announce: true,
            rtt: None,
            least_rtt: None,
        }
    }

    /// The number of the next new frame.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// A new frame was written that nobody will acknowledge.
    pub fn sent_unkept(&mut self, buffers: &mut Buffers) {
        self.next = self.next.wrapping_add(1);
        self.forget(buffers);
    }

    /// Nobody will acknowledge what is kept.
    pub fn forget(&mut self, buffers: &mut Buffers) {
        while self.pop(buffers).is_some() {}
        (self.fallen, self.floor) = (None, self.next);
    }

    /// A new frame was written: it is kept until it is acknowledged or falls out of the bound.
    pub fn sent(&mut self, body: Vec<u8>, form: Form, now: Instant, buffers: &mut Buffers) {
        self.next = self.next.wrapping_add(1);
        self.bytes += body.len();
        self.entries.push_back(Entry { body, form, at: now, path: self.path, again: false });
        while self.bytes > MAX_BYTES || self.entries.len() > MAX_FRAMES {
            let end = self.front().wrapping_add(1);
            let Some(path) = self.pop(buffers) else { return };
            match path {
                Some(path) => self.fallen = Some((path, end)),
                None => self.floor = end,
            }
        }
    }

    /// New frames take `path` from here on.
    pub fn switch(&mut self, path: Option<PathId>) {
        if self.path == path {
            return;
        }
        self.path = path;
        self.least_rtt = None;
        self.resend_all();
    }

    /// What was sent on `path` and not acknowledged did not arrive.
    pub fn path_gone(&mut self, path: PathId) {
        for entry in self.entries.iter_mut().filter(|entry| entry.path == Some(path)) {
            entry.path = None;
        }
        if let Some((_, end)) = self.fallen.take_if(|(on, _)| *on == path) {
            self.floor = end;
        }
        self.resend_all();
    }

    fn resend_all(&mut self) {
        (self.resent, self.left) = (0, self.entries.len());
        self.announce = true;
    }

    /// What has to be said on the path in use before the next frame.
    pub fn take_announcement(&mut self) -> Option<Announce> {
        std::mem::take(&mut self.announce).then_some(Announce {
            lane: LANE,
            instance: self.instance,
            seq: self.floor,
        })
    }

    /// The next frame to send again: number, form and body. [`Self::resent`] when it is written.
    pub fn due(&mut self, now: Instant) -> Option<(u32, Form, &[u8])> {
        while self.resent < self.left && self.entries[self.resent].path == self.path {
            self.resent += 1;
        }
        if self.resent >= self.left || !self.is_due(&self.entries[self.resent], now) {
            return None;
        }
        let seq = self.front().wrapping_add(self.resent as u32);
        let entry = &self.entries[self.resent];
        Some((seq, entry.form, &entry.body))
    }

    /// The frame that was due has been written.
    pub fn resent(&mut self, now: Instant) {
        let path = self.path;
        if let Some(entry) = self.entries.get_mut(self.resent) {
            (entry.at, entry.path, entry.again) = (now, path, true);
            self.resent += 1;
        }
    }

    /// Whether a new frame would be one more than the receiver can hold back while it waits for the path that was
    /// left.
    pub fn is_blocked(&self) -> bool {
        self.resent < self.left && (self.bytes >= MAX_BYTES || self.entries.len() >= MAX_FRAMES)
    }

    /// When [`Self::due`] has to be asked again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.path?;
        let first = self.entries.range(self.resent..self.left).find(|entry| entry.path != self.path)?;
        Some(match first.path {
            None => first.at,
            Some(_) => first.at + self.patience(),
        })
    }

    /// The peer has everything up to `ack.seq`. What it never was sent is none of its business.
    pub fn acknowledge(&mut self, ack: Ack, now: Instant, buffers: &mut Buffers) -> Acked {
        let frames = ack.seq.wrapping_add(1).wrapping_sub(self.front()) as usize;
        if ack.lane != LANE || frames > self.entries.len() || frames == 0 {
            return Acked::default();
        }
        let newest = &self.entries[frames - 1];
        let path = newest.path.filter(|_| !newest.again);
        if path.is_some() {
            let sample = now.saturating_duration_since(newest.at);
            // RFC 6298 §2.3 without the variance, which the limits stand in for.
            self.rtt = Some(self.rtt.map_or(sample, |rtt| rtt - rtt / 8 + sample / 8));
            if path == self.path {
                self.least_rtt = Some(self.least_rtt.map_or(sample, |rtt| rtt.min(sample)));
            }
        }
        let blocked = self.is_blocked();
        for _ in 0..frames {
            self.pop(buffers);
        }
        self.floor = self.front();
        self.fallen = None;
        Acked { frames, path, room: blocked }
    }

    /// The shortest round trip of a frame and its acknowledgement on the path in use.
    pub fn least_rtt(&self) -> Option<Duration> {
        self.least_rtt
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_due(&self, entry: &Entry, now: Instant) -> bool {
        match entry.path {
            None => true,
            Some(_) => entry.at + self.patience() <= now,
        }
    }

    fn patience(&self) -> Duration {
        (self.rtt.unwrap_or(UNKNOWN_RTT) * 2 + ACK_DELAY).clamp(RESEND_FIRST, RESEND_LAST)
    }

    /// The number of the oldest entry, or of the next frame when there is none.
    fn front(&self) -> u32 {
        self.next.wrapping_sub(self.entries.len() as u32)
    }

    /// Gives up what is too old to be sent again.
    pub fn expire(&mut self, now: Instant, buffers: &mut Buffers) {
        while self.resent == 0
            && self.left > 0
            && self.entries.front().is_some_and(|entry| !entry.again && entry.at + KEPT_FOR <= now)
        {
            self.pop(buffers);
            self.floor = self.front();
            self.announce = true;
        }
    }

    /// Forgets the oldest entry and returns the path it was sent on.
    fn pop(&mut self, buffers: &mut Buffers) -> Option<Option<PathId>> {
        let Entry { body, path, .. } = self.entries.pop_front()?;
        self.bytes -= body.len();
        self.resent = self.resent.saturating_sub(1);
        self.left = self.left.saturating_sub(1);
        buffers.give_back(body);
        Some(path)
    }
}
