//! The sending side: the queue of packets for one peer, bounded by bytes, by count and by age, and what left it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use peerup_packet::gso::{self, SuperPacketView, VIRTIO_NET_HEADER_LEN, VirtioNetHeader};
use peerup_types::PathId;
use peerup_wire::frame::{self, Ack, FrameWriter};

use crate::{
    buffers::Buffers,
    retained::{Acked, Retained},
};

/// Bytes queued for a peer with a path: sixteen of the largest super-packets.
const MAX_BYTES: usize = 1024 * 1024;
/// A packet older than this tells its sender nothing useful; dropping it makes inner TCP slow down.
const MAX_AGE: Duration = Duration::from_millis(50);
/// A short queue is not congestion but a writer that was not scheduled, or one super-packet on a slow path; it is never
/// dropped for its age.
const SHORT: usize = 128 * 1024;
/// Packets that wait for a peer without a path, and how long (DESIGN §3).
const MAX_PARKED: usize = 64;
pub const PARKED_FOR: Duration = Duration::from_secs(3);

/// What became of packets that left a lane.
#[derive(Debug, Default)]
pub struct Drained {
    pub packets: u64,
    pub bytes: u64,
    /// Too old to be of use.
    pub dropped: u64,
    /// Frames written again, because the path that they were sent on has not brought them.
    pub resent: u64,
}

/// What a queued body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One IP packet.
    Plain,
    /// A virtio header and behind it what it describes, validated.
    Super,
}

/// What the other side takes.
#[derive(Debug, Clone, Copy)]
pub struct Far {
    /// Super-packets are sent as they are; otherwise they are cut first.
    pub supers: bool,
    /// It acknowledges frames, so they are kept until it does.
    pub acks: bool,
    /// The longest packet after cutting.
    pub mtu: usize,
}

struct Queued {
    body: Vec<u8>,
    form: Form,
    at: Instant,
}

pub struct Lane {
    queue: VecDeque<Queued>,
    bytes: usize,
    retained: Retained,
    buffers: Buffers,
    /// Holds one packet while a super-packet is cut.
    scratch: Vec<u8>,
}

impl Lane {
    /// `instance` is a number that no lane to this peer has had before.
    pub fn new(instance: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            retained: Retained::new(instance),
            buffers: Buffers::default(),
            scratch: Vec::new(),
        }
    }

    /// Queues a packet for a peer that has a path. Returns how many packets were dropped.
    pub fn push(&mut self, form: Form, body: &[u8], now: Instant) -> u64 {
        if self.bytes + body.len() > MAX_BYTES {
            return 1;
        }
        self.append(form, body, now);
        0
    }

    /// Queues a packet for a peer that has none yet; the oldest gives way.
    pub fn park(&mut self, form: Form, body: &[u8], now: Instant) -> u64 {
        let full = self.queue.len() >= MAX_PARKED;
        if full {
            self.pop();
        }
        self.append(form, body, now);
        u64::from(full)
    }

    /// Packets take `path` from here on. Those that waited for it, or for the path before it, are not stale: their wait
    /// was not congestion.
    pub fn switch(&mut self, path: Option<PathId>, now: Instant) {
        self.retained.switch(path);
        for queued in &mut self.queue {
            queued.at = now;
        }
    }

    /// `path` is gone, and with it what was on the way there.
    pub fn path_gone(&mut self, path: PathId) {
        self.retained.path_gone(path);
    }

    /// The peer acknowledges frames. There may be room for more then.
    pub fn acknowledge(&mut self, ack: Ack, now: Instant) -> Acked {
        self.retained.acknowledge(ack, now, &mut self.buffers)
    }

    /// When [`Self::drain_into`] has something to do without anything else having happened.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.retained.poll_timeout()
    }

    /// Bytes kept until the peer acknowledges them.
    pub fn unacknowledged(&self) -> usize {
        self.retained.bytes()
    }

    /// Moves packets into `writer` until it is full. The writer belongs to the path in use.
    pub fn drain_into(&mut self, writer: &mut FrameWriter, far: Far, now: Instant) -> Drained {
        let mut drained = Drained::default();
        if far.acks {
            self.resend(writer, far, now, &mut drained);
        } else {
            // Kept for a peer that acknowledged; the one that came back does not, and nothing may wait for it.
            self.retained.forget(&mut self.buffers);
        }
        while !writer.is_full() && !self.retained.is_blocked() {
            let Some(head) = self.take() else { break };
            let crowded = self.bytes + head.body.len() > SHORT;
            if crowded && now.saturating_duration_since(head.at) > MAX_AGE {
                drained.dropped += 1;
                self.buffers.give_back(head.body);
            } else {
                self.frame(writer, head, far, now, &mut drained);
            }
        }
        drained
    }

    /// The announcement that is due, and behind it what did not arrive on the path it was sent on.
    fn resend(&mut self, writer: &mut FrameWriter, far: Far, now: Instant, drained: &mut Drained) {
        self.retained.expire(now, &mut self.buffers);
        if let Some(announce) = self.retained.take_announcement() {
            writer.push_announce(announce);
        }
        while !writer.is_full() {
            let Some((seq, form, body)) = self.retained.due(now) else { break };
            let written = match (form, split_header(body)) {
                (Form::Super, Some((header, packet))) if far.supers => {
                    let header = frame::VirtioNetHeader::parse(header);
                    writer.push_super_packet(seq, &header, packet).is_ok()
                }
                // Kept for a peer that took it; the one that came back does not.
                (Form::Super, _) => false,
                (Form::Plain, _) => writer.push_packet(seq, body).is_ok(),
            };
            drained.resent += u64::from(written);
            self.retained.resent(now);
        }
    }

    fn frame(
        &mut self,
        writer: &mut FrameWriter,
        queued: Queued,
        far: Far,
        now: Instant,
        drained: &mut Drained,
    ) {
        let Queued { body, form, .. } = queued;
        match (form, split_header(&body)) {
            (Form::Super, Some((header, packet))) if far.supers => {
                let header = frame::VirtioNetHeader::parse(header);
                let framed = writer.push_super_packet(self.retained.next(), &header, packet).is_ok();
                let len = packet.len();
                self.sent(framed, body, form, len, far, now, drained);
            }
            (Form::Super, Some((header, packet))) => {
                let header = VirtioNetHeader::parse(header);
                match gso::validate(header, packet, usize::MAX) {
                    Ok(view) => self.cut(writer, &view, far, now, drained),
                    Err(_) => drained.dropped += 1,
                }
                self.buffers.give_back(body);
            }
            (Form::Super, None) => drained.dropped += 1,
            (Form::Plain, _) => {
                let framed = writer.push_packet(self.retained.next(), &body).is_ok();
                let len = body.len();
                self.sent(framed, body, form, len, far, now, drained);
            }
        }
    }

    fn cut(
        &mut self,
        writer: &mut FrameWriter,
        view: &SuperPacketView<'_>,
        far: Far,
        now: Instant,
        drained: &mut Drained,
    ) {
        let Ok(mut segments) = view.segments_within(far.mtu) else { return drained.dropped += 1 };
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Some(packet) = segments.next(&mut scratch) {
            let framed = writer.push_packet(self.retained.next(), packet).is_ok();
            let kept = if far.acks { self.buffers.copy(packet) } else { Vec::new() };
            self.sent(framed, kept, Form::Plain, packet.len(), far, now, drained);
        }
        self.scratch = scratch;
    }

    fn sent(
        &mut self,
        framed: bool,
        body: Vec<u8>,
        form: Form,
        len: usize,
        far: Far,
        now: Instant,
        drained: &mut Drained,
    ) {
        if !framed {
            drained.dropped += 1;
            return self.buffers.give_back(body);
        }
        drained.packets += 1;
        drained.bytes += len as u64;
        if far.acks {
            self.retained.sent(body, form, now, &mut self.buffers);
        } else {
            self.retained.sent_unkept(&mut self.buffers);
            self.buffers.give_back(body);
        }
    }

    /// Takes the packets that were parked for too long.
    pub fn expired(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut expired = Vec::new();
        while self.queue.front().is_some_and(|head| head.at + PARKED_FOR <= now) {
            expired.extend(self.take().map(Queued::into_packet));
        }
        expired
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn append(&mut self, form: Form, body: &[u8], at: Instant) {
        let buffer = self.buffers.copy(body);
        self.bytes += body.len();
        self.queue.push_back(Queued { body: buffer, form, at });
    }

    fn take(&mut self) -> Option<Queued> {
        let head = self.queue.pop_front()?;
        self.bytes -= head.body.len();
        Some(head)
    }

    fn pop(&mut self) {
        if let Some(head) = self.take() {
            self.buffers.give_back(head.body);
        }
    }
}

impl Queued {
    /// The packet without its virtio header, for an answer to its sender.
    fn into_packet(self) -> Vec<u8> {
        let Self { mut body, form, .. } = self;
        if form == Form::Super {
            body.drain(..VIRTIO_NET_HEADER_LEN.min(body.len()));
        }
        body
    }
}

/// A virtio header and what is behind it.
pub fn split_header(frame: &[u8]) -> Option<(&[u8; VIRTIO_NET_HEADER_LEN], &[u8])> {
    frame.split_first_chunk()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;

    fn drain(lane: &mut Lane, now: Instant) -> (usize, u64) {
        let mut writer = FrameWriter::new();
        let dropped = lane.drain_into(&mut writer, Far { supers: true, acks: false, mtu: 1380 }, now).dropped;
        (writer.as_bytes().len(), dropped)
    }

    #[test]
    fn a_full_lane_drops_the_newcomer_and_says_so() {
        let (mut lane, now) = (Lane::new(1), Instant::now());
        let dropped: u64 = (0..1000).map(|_| lane.push(Form::Plain, &[0; 1380], now)).sum();
        assert_eq!(dropped, 1000 - (MAX_BYTES / 1380) as u64);
    }

    #[test]
    fn old_packets_of_a_long_queue_are_dropped_and_a_short_queue_is_left_alone() {
        let (mut lane, now) = (Lane::new(1), Instant::now());
        for _ in 0..400 {
            lane.push(Form::Plain, &[0; 1380], now);
        }
        let (_, dropped) = drain(&mut lane, now + MAX_AGE * 2);
        assert!(dropped > 250 && dropped < 400, "{dropped}");
        lane.push(Form::Plain, &[0; 84], now);
        assert_eq!(drain(&mut lane, now + MAX_AGE * 20).1, 0);
    }

    #[test]
    fn at_most_64_packets_wait_for_a_peer_without_a_path_and_for_three_seconds() {
        let (mut lane, now) = (Lane::new(1), Instant::now());
        let dropped: u64 = (0..100).map(|_| lane.park(Form::Plain, &[0; 84], now)).sum();
        assert_eq!(dropped, 36);
        assert!(lane.expired(now + PARKED_FOR / 2).is_empty());
        assert_eq!(lane.expired(now + PARKED_FOR).len(), MAX_PARKED);
        assert!(lane.is_empty());
    }

    #[test]
    fn a_peer_that_comes_back_without_acknowledgements_is_not_waited_for() {
        let (mut lane, now) = (Lane::new(1), Instant::now());
        let far = |acks| Far { supers: true, acks, mtu: 1380 };
        let mut writer = FrameWriter::new();
        lane.switch(Some(PathId(1)), now);
        while lane.unacknowledged() < MAX_BYTES {
            writer.clear();
            lane.push(Form::Plain, &[0; 1024], now);
            lane.drain_into(&mut writer, far(true), now);
        }
        lane.switch(Some(PathId(2)), now);
        writer.clear();
        lane.push(Form::Plain, &[0; 1024], now);
        assert_eq!(lane.drain_into(&mut writer, far(false), now).packets, 1);
        assert_eq!((lane.unacknowledged(), lane.poll_timeout()), (0, None));
    }

    #[test]
    fn parked_packets_are_not_stale_when_the_path_comes() {
        let (mut lane, now) = (Lane::new(1), Instant::now());
        for _ in 0..60 {
            lane.park(Form::Plain, &[0; 1380], now);
        }
        let later = now + Duration::from_secs(2);
        lane.switch(Some(PathId(1)), later);
        assert_eq!(drain(&mut lane, later).1, 0);
    }
}
