//! When to look: soon after the last of a burst of notices, and never later than a bound after the first.
//!
//! Plain state; time is an argument. One life cycle: [`Settle::disturb`] for each notice, [`Settle::poll_timeout`]
//! says when to read, [`Settle::start`] and [`Settle::finish`] enclose the reading.

use std::time::{Duration, Instant};

/// Silence that ends a burst. Longer than the pauses within one kernel operation or one DHCP exchange's
/// address-then-route, so a caller does not dial from an address that has no route yet and back off; short beside the
/// 3 s within which traffic has to flow again after roaming. Looking at once, on the first notice, would save this
/// much and show a half-built network nearly every time.
pub(crate) const QUIET: Duration = Duration::from_millis(100);

/// The longest that unending notices can put off a look.
pub(crate) const AT_MOST: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(crate) struct Settle {
    burst: Option<Burst>,
    reading_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Burst {
    first: Instant,
    last: Instant,
}

impl Settle {
    /// Something may have changed.
    pub(crate) fn disturb(&mut self, now: Instant) {
        let first = self.burst.map_or(now, |burst| burst.first);
        self.burst = Some(Burst { first, last: now });
    }

    /// When the next reading is due; none while one is going on.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let burst = self.burst.filter(|_| self.reading_since.is_none())?;
        Some((burst.last + QUIET).min(burst.first + AT_MOST))
    }

    pub(crate) fn start(&mut self, now: Instant) {
        self.reading_since = Some(now);
    }

    /// Whether what was read may be used. A list that changes while the kernel walks it can come out with gaps, so
    /// a reading with a notice in it is thrown away, unless that would put it off for too long.
    pub(crate) fn finish(&mut self, now: Instant) -> bool {
        let began = self.reading_since.take();
        let Some(burst) = self.burst.take() else { return true };
        if began.is_some_and(|began| burst.last < began) {
            return true;
        }
        let overdue = now >= burst.first + AT_MOST;
        let first = if overdue { burst.last } else { burst.first };
        self.burst = Some(Burst { first, ..burst });
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn nothing_is_due_without_a_notice() {
        assert_eq!(Settle::default().poll_timeout(), None);
    }

    #[test]
    fn a_single_notice_is_looked_at_after_a_short_quiet() {
        let (mut settle, start) = (Settle::default(), start());
        settle.disturb(start);
        assert_eq!(settle.poll_timeout(), Some(start + QUIET));
    }

    #[test]
    fn each_notice_of_a_burst_puts_the_look_off_up_to_the_bound() {
        let (mut settle, start) = (Settle::default(), start());
        settle.disturb(start);
        settle.disturb(start + 60 * MS);
        assert_eq!(settle.poll_timeout(), Some(start + 160 * MS));
        for step in 2..100 {
            settle.disturb(start + step * 60 * MS);
        }
        assert_eq!(settle.poll_timeout(), Some(start + AT_MOST));
    }

    #[test]
    fn an_undisturbed_reading_is_used_and_ends_the_burst() {
        let (mut settle, start) = (Settle::default(), start());
        settle.disturb(start);
        settle.start(start + 100 * MS);
        assert_eq!(settle.poll_timeout(), None);
        assert!(settle.finish(start + 102 * MS));
        assert_eq!(settle.poll_timeout(), None);
        settle.disturb(start + 700 * MS);
        assert_eq!(settle.poll_timeout(), Some(start + 800 * MS));
    }

    #[test]
    fn a_reading_with_a_notice_in_it_is_done_again() {
        let (mut settle, start) = (Settle::default(), start());
        settle.disturb(start);
        settle.start(start + 100 * MS);
        settle.disturb(start + 101 * MS);
        assert!(!settle.finish(start + 102 * MS));
        assert_eq!(settle.poll_timeout(), Some(start + 201 * MS));
        settle.start(start + 201 * MS);
        assert!(settle.finish(start + 202 * MS));
        assert_eq!(settle.poll_timeout(), None);
    }

    #[test]
    fn unending_notices_cannot_suppress_a_reading_and_are_followed_by_another() {
        let (mut settle, start) = (Settle::default(), start());
        settle.disturb(start);
        settle.disturb(start + 499 * MS);
        settle.start(start + 500 * MS);
        settle.disturb(start + 501 * MS);
        assert!(settle.finish(start + 502 * MS));
        assert_eq!(settle.poll_timeout(), Some(start + 601 * MS));
    }

    #[expect(clippy::disallowed_methods, reason = "some moment to count from; nothing depends on which")]
    fn start() -> Instant {
        Instant::now()
    }
}
