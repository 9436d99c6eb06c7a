//! The queue of packets for one peer: bounded by bytes, by count and by age.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use peerup_wire::frame::FrameWriter;

/// Bytes queued for a peer with a path. At 50 ms this is 80 Mbit/s of standing queue; faster paths drain it faster.
const MAX_BYTES: usize = 512 * 1024;
/// A packet older than this tells its sender nothing useful; dropping it makes inner TCP slow down.
const MAX_AGE: Duration = Duration::from_millis(50);
/// A short queue is not congestion but a writer that was not scheduled; it is never dropped for its age.
const SHORT: usize = 16 * 1024;
/// Packets that wait for a peer without a path, and how long (DESIGN §3).
const MAX_PARKED: usize = 64;
pub const PARKED_FOR: Duration = Duration::from_secs(3);
/// Freed buffers kept for reuse.
const SPARE: usize = 256;

/// What became of packets that left a lane.
#[derive(Debug, Default)]
pub struct Drained {
    pub packets: u64,
    pub bytes: u64,
    /// Too old to be of use.
    pub dropped: u64,
}

struct Queued {
    packet: Vec<u8>,
    at: Instant,
}

#[derive(Default)]
pub struct Lane {
    queue: VecDeque<Queued>,
    bytes: usize,
    seq: u32,
    spare: Vec<Vec<u8>>,
}

impl Lane {
    /// Queues a packet for a peer that has a path. Returns how many packets were dropped.
    pub fn push(&mut self, packet: &[u8], now: Instant) -> u64 {
        if self.bytes + packet.len() > MAX_BYTES {
            return 1;
        }
        self.append(packet, now);
        0
    }

    /// Queues a packet for a peer that has none yet; the oldest gives way.
    pub fn park(&mut self, packet: &[u8], now: Instant) -> u64 {
        let full = self.queue.len() >= MAX_PARKED;
        if full {
            self.pop();
        }
        self.append(packet, now);
        u64::from(full)
    }

    /// Moves packets into `writer` until it is full.
    pub fn drain_into(&mut self, writer: &mut FrameWriter, now: Instant) -> Drained {
        let mut drained = Drained::default();
        while !writer.is_full() {
            let Some(head) = self.queue.front() else { break };
            let stale = now.saturating_duration_since(head.at) > MAX_AGE && self.bytes > SHORT;
            let seq = self.seq;
            if stale || writer.push_packet(seq, &head.packet).is_err() {
                drained.dropped += 1;
            } else {
                self.seq = seq.wrapping_add(1);
                drained.packets += 1;
                drained.bytes += head.packet.len() as u64;
            }
            self.pop();
        }
        drained
    }

    /// Parked packets become ordinary ones: their wait was not congestion.
    pub fn unpark(&mut self, now: Instant) {
        for queued in &mut self.queue {
            queued.at = now;
        }
    }

    /// Takes the packets that were parked for too long.
    pub fn expired(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut expired = Vec::new();
        while self.queue.front().is_some_and(|head| head.at + PARKED_FOR <= now) {
            expired.extend(self.take());
        }
        expired
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn append(&mut self, packet: &[u8], at: Instant) {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        self.bytes += packet.len();
        self.queue.push_back(Queued { packet: buffer, at });
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let head = self.queue.pop_front()?;
        self.bytes -= head.packet.len();
        Some(head.packet)
    }

    fn pop(&mut self) {
        if let Some(buffer) = self.take()
            && self.spare.len() < SPARE
        {
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;

    fn drain(lane: &mut Lane, now: Instant) -> (usize, u64) {
        let mut writer = FrameWriter::new();
        let dropped = lane.drain_into(&mut writer, now).dropped;
        (writer.as_bytes().len(), dropped)
    }

    #[test]
    fn a_full_lane_drops_the_newcomer_and_says_so() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        let dropped: u64 = (0..1000).map(|_| lane.push(&[0; 1380], now)).sum();
        assert_eq!(dropped, 1000 - (MAX_BYTES / 1380) as u64);
    }

    #[test]
    fn old_packets_of_a_long_queue_are_dropped_and_a_short_queue_is_left_alone() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        for _ in 0..100 {
            lane.push(&[0; 1380], now);
        }
        let (_, dropped) = drain(&mut lane, now + MAX_AGE * 2);
        assert!(dropped > 80 && dropped < 100, "{dropped}");
        lane.push(&[0; 84], now);
        assert_eq!(drain(&mut lane, now + MAX_AGE * 20).1, 0);
    }

    #[test]
    fn at_most_64_packets_wait_for_a_peer_without_a_path_and_for_three_seconds() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        let dropped: u64 = (0..100).map(|_| lane.park(&[0; 84], now)).sum();
        assert_eq!(dropped, 36);
        assert!(lane.expired(now + PARKED_FOR / 2).is_empty());
        assert_eq!(lane.expired(now + PARKED_FOR).len(), MAX_PARKED);
        assert!(lane.is_empty());
    }

    #[test]
    fn parked_packets_are_not_stale_when_the_path_comes() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        for _ in 0..60 {
            lane.park(&[0; 1380], now);
        }
        let later = now + Duration::from_secs(2);
        lane.unpark(later);
        assert_eq!(drain(&mut lane, later).1, 0);
    }
}
