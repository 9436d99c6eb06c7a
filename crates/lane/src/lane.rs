//! The sending side: the queue of packets for one peer, what of it makes a batch, and what left it.

use std::time::{Duration, Instant};

use peerup_packet::{
    FlowKey,
    gso::{self, SuperPacketView, VIRTIO_NET_HEADER_LEN, VirtioNetHeader},
};
use peerup_types::PathId;
use peerup_wire::frame::{self, Ack, FrameWriter};

use crate::{
    buffers::Buffers,
    fair::{FairQueue, Fate, Limits, Queued},
    pace::Pace,
    retained::{Acked, Retained},
};

/// Packets that wait for a peer without a path, and how long (DESIGN §3).
const MAX_PARKED: usize = 64;
pub const PARKED_FOR: Duration = Duration::from_secs(3);

/// What became of packets that left a lane.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    pub packets: u64,
    pub bytes: u64,
    /// Of those, the ones that were told that they met congestion.
    pub marked: u64,
    /// Dropped for the same reason, because their flow does not understand marks.
    pub congestion: u64,
    /// Too old to be of use.
    pub too_old: u64,
    /// Neither fit for the peer as they are, nor to be cut until they are.
    pub unfit: u64,
    /// Frames written again, because the path that they were sent on has not brought them.
    pub resent: u64,
}

impl Drained {
    /// Packets that went nowhere.
    pub fn dropped(&self) -> u64 {
        self.congestion + self.too_old + self.unfit
    }
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

pub struct Lane {
    limits: Limits,
    queue: FairQueue,
    pace: Pace,
    retained: Retained,
    buffers: Buffers,
    /// Holds one packet while a super-packet is cut.
    scratch: Vec<u8>,
}

impl Lane {
    /// `instance` is a number that no lane to this peer has had before.
    pub fn new(instance: u64) -> Self {
        Self::with_limits(instance, Limits::default())
    }

    pub fn with_limits(instance: u64, limits: Limits) -> Self {
        Self {
            limits,
            queue: FairQueue::new(limits, instance),
            pace: Pace::default(),
            retained: Retained::new(instance),
            buffers: Buffers::default(),
            scratch: Vec::new(),
        }
    }

    /// Queues a packet for a peer that has a path. Returns how many packets gave way to it: the oldest of the flow that
    /// has the most.
    pub fn push(&mut self, flow: FlowKey, form: Form, body: &[u8], now: Instant) -> u64 {
        let mut dropped = 0;
        while let Some(victim) = self.queue.make_room(body.len()) {
            self.buffers.give_back(victim.body);
            dropped += 1;
        }
        self.append(flow, form, body, now);
        dropped
    }

    /// Queues a packet for a peer that has none yet; the oldest give way.
    pub fn park(&mut self, flow: FlowKey, form: Form, body: &[u8], now: Instant) -> u64 {
        let mut dropped = 0;
        let too_long = |queue: &FairQueue| queue.bytes() + body.len() > self.limits.bytes;
        let mut full = self.queue.len() >= MAX_PARKED || too_long(&self.queue);
        while full && let Some(oldest) = self.queue.pop_oldest() {
            self.buffers.give_back(oldest.body);
            dropped += 1;
            full = too_long(&self.queue);
        }
        self.append(flow, form, body, now);
        dropped
    }

    /// Packets take `path` from here on. Those that waited for it, or for the path before it, are not stale: their wait
    /// was not congestion.
    pub fn switch(&mut self, path: Option<PathId>, now: Instant) {
        self.retained.switch(path);
        self.queue.restart(now);
        self.tell_round_trip();
        self.pace = Pace::default();
    }

    /// `path` is gone, and with it what was on the way there.
    pub fn path_gone(&mut self, path: PathId) {
        self.retained.path_gone(path);
    }

    /// The peer acknowledges frames. There may be room for more then.
    pub fn acknowledge(&mut self, ack: Ack, now: Instant) -> Acked {
        let acked = self.retained.acknowledge(ack, now, &mut self.buffers);
        self.tell_round_trip();
        acked
    }

    fn tell_round_trip(&mut self) {
        self.queue.set_round_trip(self.retained.least_rtt().unwrap_or_default());
    }

    /// When [`Self::drain_into`] has something to do without anything else having happened.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.retained.poll_timeout()
    }

    /// Bytes kept until the peer acknowledges them.
    pub fn unacknowledged(&self) -> usize {
        self.retained.bytes()
    }

    /// Moves packets into `writer`, in fair order, until it holds a batch. The writer belongs to the path in use.
    pub fn drain_into(&mut self, writer: &mut FrameWriter, far: Far, now: Instant) -> Drained {
        let mut drained = Drained::default();
        let batch = self.pace.batch(now);
        if far.acks {
            self.resend(writer, far, now, &mut drained);
        } else {
            // Kept for a peer that acknowledged; the one that came back does not, and nothing may wait for it.
            self.retained.forget(&mut self.buffers);
        }
        while writer.as_bytes().len() < batch && !self.retained.is_blocked() {
            let Some((queued, fate)) = self.queue.pop(now) else { break };
            match fate {
                Fate::Send => self.frame(writer, queued, far, now, &mut drained),
                Fate::SendMarked => {
                    drained.marked += 1;
                    self.frame(writer, queued, far, now, &mut drained);
                }
                Fate::Congestion => {
                    drained.congestion += 1;
                    self.buffers.give_back(queued.body);
                }
                Fate::TooOld => {
                    drained.too_old += 1;
                    self.buffers.give_back(queued.body);
                }
            }
        }
        self.pace.made(writer.as_bytes().len(), !self.queue.is_empty(), now);
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
                    Err(_) => drained.unfit += 1,
                }
                self.buffers.give_back(body);
            }
            (Form::Super, None) => drained.unfit += 1,
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
        let Ok(mut segments) = view.segments_within(far.mtu) else { return drained.unfit += 1 };
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
            drained.unfit += 1;
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
        while self.queue.oldest_at().is_some_and(|at| at + PARKED_FOR <= now) {
            expired.extend(self.queue.pop_oldest().map(into_packet));
        }
        expired
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn append(&mut self, flow: FlowKey, form: Form, body: &[u8], now: Instant) {
        let buffer = self.buffers.copy(body);
        self.queue.push(flow, form, buffer, now);
    }
}

/// The packet without its virtio header, for an answer to its sender.
fn into_packet(queued: Queued) -> Vec<u8> {
    let Queued { mut body, form, .. } = queued;
    if form == Form::Super {
        body.drain(..VIRTIO_NET_HEADER_LEN.min(body.len()));
    }
    body
}

/// A virtio header and what is behind it.
pub fn split_header(frame: &[u8]) -> Option<(&[u8; VIRTIO_NET_HEADER_LEN], &[u8])> {
    frame.split_first_chunk()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;

    const FLOW: FlowKey = FlowKey::new(0);
    const FAR: Far = Far { supers: true, acks: false, mtu: 1380 };

    /// Everything that waits, batch after batch at one instant.
    fn drain(lane: &mut Lane, now: Instant) -> (usize, u64) {
        let (mut bytes, mut dropped) = (0, 0);
        while !lane.is_empty() {
            let mut writer = FrameWriter::new();
            dropped += lane.drain_into(&mut writer, FAR, now).dropped();
            bytes += writer.as_bytes().len();
        }
        (bytes, dropped)
    }

    #[test]
    fn in_a_full_lane_the_oldest_give_way_and_are_counted() {
        let (mut lane, now) = (Lane::new(1), Instant::now());
        let dropped: u64 = (0..4000).map(|_| lane.push(FLOW, Form::Plain, &[0; 9000], now)).sum();
        assert_eq!(dropped, 4000 - (Limits::default().bytes / 9000) as u64);
    }

    #[test]
    fn on_a_path_with_a_long_round_trip_packets_of_a_long_queue_may_be_older() {
        let (mut lane, start) = (Lane::new(1), Instant::now());
        let far = Far { acks: true, ..FAR };
        let rtt = Duration::from_millis(600);
        let queue = |lane: &mut Lane, at| {
            for _ in 0..300 {
                lane.push(FLOW, Form::Plain, &[0; 1380], at);
            }
        };
        let too_old = |lane: &mut Lane, at| lane.drain_into(&mut FrameWriter::new(), far, at).too_old;
        lane.switch(Some(PathId(1)), start);
        lane.push(FLOW, Form::Plain, &[0; 100], start);
        let seq = lane.retained.next();
        assert_eq!(too_old(&mut lane, start), 0);
        lane.acknowledge(Ack { lane: 0, seq }, start + rtt);

        let mut now = start + rtt;
        queue(&mut lane, now);
        now += rtt;
        assert_eq!(too_old(&mut lane, now), 0);
        now += rtt * 2;
        assert!(too_old(&mut lane, now) > 0, "but not of any age");
        lane.switch(Some(PathId(2)), now);
        queue(&mut lane, now);
        let far = Far { acks: false, ..far };
        assert!(
            lane.drain_into(&mut FrameWriter::new(), far, now + rtt).too_old > 0,
            "of another path nothing is known"
        );
    }

    #[test]
    fn old_packets_of_a_long_queue_are_dropped_and_a_short_queue_is_left_alone() {
        let (mut lane, now) = (Lane::new(1), Instant::now());
        let age = Limits::default().age;
        for _ in 0..400 {
            lane.push(FLOW, Form::Plain, &[0; 1380], now);
        }
        let (_, dropped) = drain(&mut lane, now + age * 2);
        assert!(dropped > 250 && dropped < 400, "{dropped}");
        lane.push(FLOW, Form::Plain, &[0; 84], now);
        assert_eq!(drain(&mut lane, now + age * 20).1, 0);
    }

    #[test]
    fn a_ping_is_in_the_next_batch_whatever_a_transfer_has_queued() {
        let (mut lane, now) = (Lane::new(1), Instant::now());
        let mut writer = FrameWriter::new();
        for _ in 0..200 {
            lane.push(FLOW, Form::Plain, &[0; 1380], now);
        }
        lane.drain_into(&mut writer, FAR, now);
        writer.clear();
        lane.push(FlowKey::new(1), Form::Plain, &[1; 84], now);
        lane.drain_into(&mut writer, FAR, now);
        let header = peerup_wire::frame::HEADER_LEN;
        assert_eq!(writer.as_bytes()[header..header + 84], [1; 84]);
    }

    #[test]
    fn batches_are_short_where_the_path_takes_long_for_them() {
        let (mut lane, mut now) = (Lane::new(1), Instant::now());
        let mut writer = FrameWriter::new();
        let mut batches = Vec::new();
        for _ in 0..20 {
            writer.clear();
            while lane.push(FLOW, Form::Plain, &[0; 1380], now) == 0 {}
            lane.drain_into(&mut writer, FAR, now);
            batches.push(writer.as_bytes().len());
            now += Duration::from_millis(20);
        }
        assert!(batches[0] > 60_000 && batches[19] < 20_000, "{batches:?}");
        lane.switch(Some(PathId(9)), now);
        writer.clear();
        lane.drain_into(&mut writer, FAR, now);
        assert!(writer.as_bytes().len() > 60_000, "another path has another rate");
    }

    #[test]
    fn marks_and_losses_are_counted_apart_and_a_kept_copy_is_marked_too() {
        for (ecn, marks) in [(2, true), (0, false)] {
            let patient = Limits { age: Duration::from_secs(10), ..Limits::default() };
            let (mut lane, mut now) = (Lane::with_limits(1, patient), Instant::now());
            let (mut writer, mut sum) = (FrameWriter::new(), Drained::default());
            lane.switch(Some(PathId(1)), now);
            let mut packet = [0; 1380];
            (packet[0], packet[1]) = (0x45, ecn);
            let is_marked = |bytes: &[u8]| bytes.windows(2).any(|pair| pair == [0x45, 3]);
            for _ in 0..10 {
                (0..60).for_each(|_| assert_eq!(lane.push(FLOW, Form::Plain, &packet, now), 0));
                writer.clear();
                now += Duration::from_millis(20);
                let drained = lane.drain_into(&mut writer, Far { acks: true, ..FAR }, now);
                (sum.marked, sum.congestion) =
                    (sum.marked + drained.marked, sum.congestion + drained.congestion);
                if sum.marked + sum.congestion > 0 {
                    break;
                }
            }
            assert_eq!((sum.marked > 0, sum.congestion > 0), (marks, !marks));
            assert_eq!(is_marked(writer.as_bytes()), marks);
            writer.clear();
            lane.path_gone(PathId(1));
            lane.switch(Some(PathId(2)), now);
            let mut again = Vec::new();
            while lane.drain_into(&mut writer, Far { acks: true, ..FAR }, now).resent > 0 {
                again.extend_from_slice(writer.as_bytes());
                writer.clear();
            }
            assert_eq!(is_marked(&again), marks);
        }
    }

    #[test]
    fn what_waits_without_a_path_is_bounded_in_bytes_too() {
        let (mut lane, now) = (Lane::new(1), Instant::now());
        let dropped: u64 = (0..40).map(|_| lane.park(FLOW, Form::Super, &[0; 60_000], now)).sum();
        assert!(lane.queue.bytes() <= Limits::default().bytes, "{}", lane.queue.bytes());
        assert_eq!(lane.queue.len() as u64 + dropped, 40);
    }

    #[test]
    fn at_most_64_packets_wait_for_a_peer_without_a_path_and_for_three_seconds() {
        let (mut lane, now) = (Lane::new(1), Instant::now());
        let dropped: u64 = (0..100).map(|_| lane.park(FLOW, Form::Plain, &[0; 84], now)).sum();
        assert_eq!(dropped, 36);
        assert!(lane.expired(now + PARKED_FOR / 2).is_empty());
        assert_eq!(lane.expired(now + PARKED_FOR).len(), MAX_PARKED);
        assert!(lane.is_empty());
    }

    #[test]
    fn a_peer_that_comes_back_without_acknowledgements_is_not_waited_for() {
        let (mut lane, now) = (Lane::new(1), Instant::now());
        let far = |acks| Far { acks, ..FAR };
        let mut writer = FrameWriter::new();
        lane.switch(Some(PathId(1)), now);
        while lane.unacknowledged() < crate::retained::MAX_BYTES {
            writer.clear();
            lane.push(FLOW, Form::Plain, &[0; 1024], now);
            lane.drain_into(&mut writer, far(true), now);
        }
        lane.switch(Some(PathId(2)), now);
        writer.clear();
        lane.push(FLOW, Form::Plain, &[0; 1024], now);
        assert_eq!(lane.drain_into(&mut writer, far(false), now).packets, 1);
        assert_eq!((lane.unacknowledged(), lane.poll_timeout()), (0, None));
    }

    #[test]
    fn parked_packets_are_not_stale_when_the_path_comes() {
        let (mut lane, now) = (Lane::new(1), Instant::now());
        for _ in 0..60 {
            lane.park(FLOW, Form::Plain, &[0; 1380], now);
        }
        let later = now + Duration::from_secs(2);
        lane.switch(Some(PathId(1)), later);
        assert_eq!(drain(&mut lane, later).1, 0);
    }
}
