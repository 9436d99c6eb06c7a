//! Notices packets that leave while nothing comes back: the first hint that a path is dead.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// Longer than a round trip and a delayed acknowledgement take on any usable path (RFC 9293 §3.8.6.3: 500 ms).
const UNHEARD_FOR: Duration = Duration::from_millis(500);

/// Since when packets leave on the path in use without a read on it.
#[derive(Debug, Default)]
pub struct Unheard {
    since: Cell<Option<Instant>>,
    told: Cell<bool>,
}

impl Unheard {
    /// A packet leaves. `true` once, when nothing has come back for so long.
    pub fn sent(&self, now: Instant) -> bool {
        let since = self.since.get().unwrap_or(now);
        self.since.set(Some(since));
        now.saturating_duration_since(since) >= UNHEARD_FOR && !self.told.replace(true)
    }

    /// Something was read, or another path is in use.
    pub fn heard(&self) {
        self.since.set(None);
        self.told.set(false);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;

    #[test]
    fn half_a_second_of_packets_without_an_answer_is_told_once() {
        let (unheard, start) = (Unheard::default(), Instant::now());
        let told = |ms| unheard.sent(start + Duration::from_millis(ms));
        assert_eq!([0, 200, 499, 500, 700, 1500].map(told), [false, false, false, true, false, false]);
        unheard.heard();
        assert_eq!([1600, 2000, 2100].map(told), [false, false, true]);
    }
}
