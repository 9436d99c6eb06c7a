//! How often a stream is tried again, and after which waits.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(60);

/// Waits of 1, 2, 4 … s, at most a minute each; as many as there are retries.
#[derive(Debug, Clone)]
pub struct Retry {
    left: u32,
    next: Duration,
}

impl Retry {
    pub fn new(retries: u32) -> Self {
        Self { left: retries, next: FIRST }
    }

    /// How long to wait before the next attempt; `None` when the last one has failed.
    pub fn next_wait(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let wait = self.next;
        self.next = (wait * 2).min(CAP);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_end() {
        let waits = |retries| {
            let mut retry = Retry::new(retries);
            std::iter::from_fn(move || retry.next_wait()).map(|wait| wait.as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(waits(0), [0u64; 0]);
        assert_eq!(waits(3), [1, 2, 4]);
        assert_eq!(waits(9), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
