//! One direction of an impaired wire, as a machine: a frame goes in at a time, and comes out at a later one or never.
//!
//! The order of faults is that of a real path: a queue before a transmitter of limited rate, then the line with
//! its delay and loss. Decides from frames, time and a seeded generator; does no I/O.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::wire::Impairment;

/// How much later than its due time a reordered frame arrives.
pub const REORDER_GAP: Duration = Duration::from_millis(5);

/// Frames on the line at most, whatever the rate: bounds memory on an unlimited wire.
const LINE_FRAMES: usize = 1 << 16;

#[derive(Debug)]
pub struct Line {
    faults: Impairment,
    random: Random,
    /// When the transmitter has sent everything accepted so far.
    transmitter_free: Instant,
    /// The latest arrival of a frame that kept its place.
    last_arrival: Instant,
    /// Frames on the line by arrival, the number keeping frames of one instant in order.
    line: BTreeMap<(Instant, u64), Vec<u8>>,
    counts: Counts,
}

/// What became of the frames that one direction of a wire was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accepted, and delivered sooner or later.
    pub carried: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Found the queue before the transmitter full, or the line's memory.
    pub dropped: u64,
}

impl Line {
    /// `direction` tells the generators of a wire's two directions apart.
    pub fn new(faults: Impairment, direction: u64, now: Instant) -> Self {
        let random = Random(faults.seed.wrapping_mul(2).wrapping_add(direction));
        let counts = Counts::default();
        Self { faults, random, transmitter_free: now, last_arrival: now, line: BTreeMap::new(), counts }
    }

    pub fn handle_frame(&mut self, frame: &[u8], now: Instant) {
        let sent = self.transmit(frame.len(), now).filter(|_| self.line.len() < LINE_FRAMES);
        let Some(sent) = sent else {
            self.counts.dropped += 1;
            return;
        };
        if self.random.happens(self.faults.loss) {
            self.counts.lost += 1;
            return;
        }
        let arrival = self.arrival(sent);
        self.line.insert((arrival, self.counts.carried), frame.to_vec());
        self.counts.carried += 1;
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When the last bit leaves the transmitter; `None` when the queue before it is full.
    fn transmit(&mut self, len: usize, now: Instant) -> Option<Instant> {
        if self.faults.rate_mbit <= 0.0 {
            return Some(now);
        }
        let bytes_per_second = self.faults.rate_mbit * 1e6 / 8.0;
        let start = self.transmitter_free.max(now);
        let waiting = (start - now).as_secs_f64() * bytes_per_second;
        if waiting + len as f64 > self.faults.queue_bytes as f64 {
            return None;
        }
        self.transmitter_free = start + Duration::from_secs_f64(len as f64 / bytes_per_second);
        Some(self.transmitter_free)
    }

    fn arrival(&mut self, sent: Instant) -> Instant {
        let jitter = self.faults.jitter_ms * self.random.share();
        let due = sent + Duration::from_secs_f64((self.faults.delay_ms + jitter).max(0.0) / 1e3);
        if self.faults.overtaking {
            return due;
        }
        if self.random.happens(self.faults.reorder) {
            return due + REORDER_GAP;
        }
        self.last_arrival = self.last_arrival.max(due);
        self.last_arrival
    }

    /// The next frame that has arrived by `now`.
    pub fn poll_frame(&mut self, now: Instant) -> Option<Vec<u8>> {
        let entry = self.line.first_entry()?;
        let (arrival, _) = *entry.key();
        (arrival <= now).then(|| entry.remove())
    }

    /// When the next frame arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.line.first_key_value().map(|(&(arrival, _), _)| arrival)
    }
}

/// SplitMix64: small, seeded, the same on every platform.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.share() < share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_frame_arrives_after_the_delay_and_not_before() {
        let (mut line, start) = line(Impairment { delay_ms: 20.0, ..Impairment::default() });
        line.handle_frame(b"x", start);
        assert_eq!(line.poll_timeout(), Some(start + 20 * MS));
        assert_eq!(line.poll_frame(start + 19 * MS), None);
        assert_eq!(line.poll_frame(start + 20 * MS).as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn jitter_spreads_arrivals_but_keeps_the_order() {
        let (mut line, start) = line(Impairment { delay_ms: 5.0, jitter_ms: 10.0, ..Impairment::default() });
        let frames: Vec<_> = (0..200u8).collect();
        frames.iter().for_each(|&frame| line.handle_frame(&[frame], start));
        assert_eq!(drain(&mut line, start + 15 * MS), frames);
    }

    #[test]
    fn where_frames_may_overtake_each_takes_its_own_time_and_none_comes_before_it_was_sent() {
        let faults =
            Impairment { delay_ms: -6.0, jitter_ms: 28.0, overtaking: true, ..Impairment::default() };
        let (mut line, start) = line(faults);
        let frames: Vec<_> = (0..200u8).collect();
        frames.iter().for_each(|&frame| line.handle_frame(&[frame], start));
        let at_once = drain(&mut line, start);
        // 6 of 28 ms lie before the frame was sent.
        assert!((25..65).contains(&at_once.len()), "{}", at_once.len());
        let mut seen = [at_once, drain(&mut line, start + 22 * MS)].concat();
        assert_ne!(seen, frames);
        seen.sort_unstable();
        assert_eq!(seen, frames);
    }

    #[test]
    fn a_reordered_frame_is_overtaken() {
        let (mut line, start) = line(Impairment { reorder: 0.3, ..Impairment::default() });
        let frames: Vec<_> = (0..200u8).collect();
        frames.iter().for_each(|&frame| line.handle_frame(&[frame], start));
        let mut seen = drain(&mut line, start + REORDER_GAP);
        assert_ne!(seen, frames);
        seen.sort_unstable();
        assert_eq!(seen, frames);
    }

    #[test]
    fn the_share_of_lost_frames_is_the_asked_one_and_the_same_for_the_same_seed() {
        let faults = Impairment { loss: 0.1, ..Impairment::default() };
        let survivors = |faults: Impairment| {
            let (mut line, start) = line(faults);
            (0..10_000u16).for_each(|frame| line.handle_frame(&frame.to_be_bytes(), start));
            drain(&mut line, start).len()
        };
        let first = survivors(faults.clone());
        assert!((8_800..9_200).contains(&first), "{first}");
        assert_eq!(survivors(faults.clone()), first);
        assert_ne!(survivors(Impairment { seed: 7, ..faults }), first);
    }

    #[test]
    fn the_rate_spaces_frames_and_a_full_queue_drops() {
        // 8 Mbit/s is 1000 bytes a millisecond.
        let (mut line, start) =
            line(Impairment { rate_mbit: 8.0, queue_bytes: 3000, ..Impairment::default() });
        (0..5).for_each(|_| line.handle_frame(&[0; 1000], start));
        assert_eq!(line.poll_timeout(), Some(start + MS));
        assert_eq!(drain(&mut line, start + 10 * MS).len(), 3);
        assert_eq!(line.counts(), Counts { carried: 3, lost: 0, dropped: 2 });
        line.handle_frame(&[0; 1000], start + 10 * MS);
        assert_eq!(line.poll_timeout(), Some(start + 11 * MS));
    }

    #[expect(clippy::disallowed_methods, reason = "an Instant has no other beginning")]
    fn line(faults: Impairment) -> (Line, Instant) {
        let start = Instant::now();
        (Line::new(faults, 0, start), start)
    }

    fn drain(line: &mut Line, now: Instant) -> Vec<u8> {
        std::iter::from_fn(|| line.poll_frame(now)).map(|frame| frame[0]).collect()
    }
}
