//! Jittered exponential backoff.

use std::{ops::Add, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};

/// What a dial gets before its silence counts as an answer; transports give up after about this time.
pub const DIAL_PATIENCE: Duration = Duration::from_secs(6);

/// Doubles from `first` to `cap`; every wait is spread by ±25 % so that peers do not act in step. `T` is a point in
/// time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Backoff<T> {
    first: Duration,
    cap: Duration,
    attempts: u32,
    due: Option<T>,
}

impl<T: Copy + Ord + Add<Duration, Output = T>> Backoff<T> {
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, attempts: 0, due: None }
    }

    pub fn due(&self) -> Option<T> {
        self.due
    }

    pub fn is_due(&self, now: T) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Forgets failures and acts at `at`, unless something earlier is planned.
    pub fn hasten(&mut self, at: T) {
        self.attempts = 0;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Moves the planned attempt to `at` and keeps the count of failures.
    pub fn postpone(&mut self, at: T) {
        self.due = Some(at);
    }

    /// Plans the attempt after one that starts at `now`.
    pub fn attempted(&mut self, now: T, dice: &mut Dice) {
        let doubled = self.first.saturating_mul(1 << self.attempts.min(16));
        self.attempts = self.attempts.saturating_add(1);
        self.due = Some(now + doubled.min(self.cap).mul_f64(dice.spread()));
    }

    /// Plans the next attempt as far from `now` as it was to be from the last one: somebody else made one.
    pub fn defer(&mut self, now: T, dice: &mut Dice) {
        let wait = self.first.saturating_mul(1 << self.attempts.saturating_sub(1).min(16));
        self.due = Some(now + wait.min(self.cap).mul_f64(dice.spread()));
    }

    /// Nothing is planned until [`hasten`](Self::hasten).
    pub fn rest(&mut self) {
        self.attempts = 0;
        self.due = None;
    }
}

/// Randomness that a log can hold: a seed and how often it was drawn from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dice {
    seed: u64,
    rolls: u64,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { seed, rolls: 0 }
    }

    /// From 0.75 to 1.25.
    pub fn spread(&mut self) -> f64 {
        self.rolls = self.rolls.wrapping_add(1);
        SmallRng::seed_from_u64(self.seed ^ self.rolls.rotate_left(32)).random_range(0.75..1.25)
    }
}
