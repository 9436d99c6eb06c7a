//! How much one batch may hold: whoever comes next waits until it has been written.

use std::time::{Duration, Instant};

use peerup_wire::frame::BATCH_LEN;

/// How long a batch may take to write, at the rate at which batches have been taken lately. Added to a ping beside a
/// transfer, so well below what a path across a city adds.
const BATCH_TIME: Duration = Duration::from_millis(2);
/// A smaller batch costs more in records and system calls than it saves in waiting.
const LEAST: usize = 16 * 1024;
/// How many batches the rate is made of: a batch that the transport only put into its own buffer says little by itself.
const REMEMBERED: u64 = 16;

/// The rate of one path, from the times between batches while packets waited.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the last batch was made and what it held, if packets were left behind.
    busy: Option<(Instant, usize)>,
    /// Sums over recent batches in which old ones fade.
    bytes: u64,
    nanos: u64,
}

impl Pace {
    /// The bytes of the batch that is made at `now`.
    pub fn batch(&mut self, now: Instant) -> usize {
        if let Some((at, bytes)) = self.busy.take() {
            let nanos = now.saturating_duration_since(at).as_nanos() as u64;
            self.bytes = self.bytes - self.bytes / REMEMBERED + bytes as u64;
            self.nanos = (self.nanos - self.nanos / REMEMBERED).saturating_add(nanos);
        }
        if self.nanos == 0 {
            return BATCH_LEN;
        }
        let bytes = u128::from(self.bytes) * BATCH_TIME.as_nanos() / u128::from(self.nanos);
        bytes.clamp(LEAST as u128, BATCH_LEN as u128) as usize
    }

    /// A batch was made. Without packets `left` behind it the time until the next one tells nothing.
    pub fn made(&mut self, bytes: usize, left: bool, now: Instant) {
        self.busy = left.then_some((now, bytes));
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;

    /// The batch after a while of batches that each take what they take at `rate` bytes a second.
    fn settled(rate: u64) -> usize {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..200 {
            let batch = pace.batch(now);
            pace.made(batch, true, now);
            now += Duration::from_nanos(batch as u64 * 1_000_000_000 / rate);
        }
        pace.batch(now)
    }

    #[test]
    fn a_fast_path_gets_whole_batches_and_a_slow_one_gets_two_milliseconds_of_them() {
        assert_eq!(Pace::default().batch(Instant::now()), BATCH_LEN);
        assert_eq!(settled(1_000_000_000), BATCH_LEN);
        assert_eq!(settled(1_000_000), LEAST);
        let between = settled(20_000_000);
        assert!((36_000..44_000).contains(&between), "{between}");
    }

    #[test]
    fn a_silent_sender_is_not_taken_for_a_slow_path() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..50 {
            pace.batch(now);
            pace.made(1000, false, now);
            now += Duration::from_secs(1);
        }
        assert_eq!(pace.batch(now), BATCH_LEN);
    }

    #[test]
    fn a_path_that_becomes_fast_is_believed_soon() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for round in 0..200 {
            let batch = pace.batch(now);
            pace.made(batch, true, now);
            now += Duration::from_micros(if round < 100 { 16_000 } else { 20 });
        }
        assert_eq!(pace.batch(now), BATCH_LEN);
    }
}
