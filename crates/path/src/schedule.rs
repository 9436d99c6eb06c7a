//! Jittered exponential backoff.

use std::time::{Duration, Instant};

use rand::{RngExt, rngs::SmallRng};

/// Doubles from `first` to `cap`; every wait is spread by ±25 % so that peers do not act in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    attempts: u32,
    due: Option<Instant>,
}

impl Backoff {
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, attempts: 0, due: None }
    }

    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Forgets failures and acts at `at`, unless something earlier is planned.
    pub fn hasten(&mut self, at: Instant) {
        self.attempts = 0;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Moves the planned attempt to `at` and keeps the count of failures.
    pub fn postpone(&mut self, at: Instant) {
        self.due = Some(at);
    }

    /// Plans the attempt after one that starts at `now`.
    pub fn attempted(&mut self, now: Instant, rng: &mut SmallRng) {
        let doubled = self.first.saturating_mul(1 << self.attempts.min(16));
        self.attempts = self.attempts.saturating_add(1);
        self.due = Some(now + doubled.min(self.cap).mul_f64(rng.random_range(0.75..1.25)));
    }

    /// Nothing is planned until [`hasten`](Self::hasten).
    pub fn rest(&mut self) {
        self.attempts = 0;
        self.due = None;
    }
}
