//! How long the machine slept, from two clocks that disagree only when it does.

use std::time::{Duration, Instant};

/// Reports suspends: the boot clock runs while the machine sleeps, the monotonic clock does not.
///
/// The two are read one after the other, so they differ a little by scheduling; a gap shorter than
/// [`SuspendDetector::TOLERANCE`] is not reported. Gaps that small do not break a path either.
#[derive(Debug, Clone)]
pub struct SuspendDetector {
    monotonic: Instant,
    boottime: Duration,
}

impl SuspendDetector {
    /// Far above scheduling noise, far below the 2 s after which paths have to be probed again.
    pub const TOLERANCE: Duration = Duration::from_millis(500);

    pub fn new(monotonic: Instant, boottime: Duration) -> Self {
        Self { monotonic, boottime }
    }

    /// Starts with the time that the system's clocks show.
    pub fn start() -> Self {
        Self::new(crate::now(), crate::boottime())
    }

    /// How long the machine slept between the last tick and this one.
    pub fn tick(&mut self, monotonic: Instant, boottime: Duration) -> Option<Duration> {
        let awake = monotonic.saturating_duration_since(self.monotonic);
        let total = boottime.saturating_sub(self.boottime);
        *self = Self { monotonic, boottime };
        let slept = total.saturating_sub(awake);
        (slept >= Self::TOLERANCE).then_some(slept)
    }

    /// [`Self::tick`] at the time that the system's clocks show.
    pub fn tick_now(&mut self) -> Option<Duration> {
        self.tick(crate::now(), crate::boottime())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn clocks_that_advance_together_mean_no_sleep() {
        let start = crate::now();
        let mut detector = SuspendDetector::new(start, SECOND);
        assert_eq!(detector.tick(start + 5 * SECOND, 6 * SECOND), None);
        assert_eq!(detector.tick(start + 3600 * SECOND, 3601 * SECOND), None);
    }

    #[test]
    fn a_sleep_is_told_once_with_its_length() {
        let start = crate::now();
        let mut detector = SuspendDetector::new(start, SECOND);
        assert_eq!(detector.tick(start + SECOND, 602 * SECOND), Some(600 * SECOND));
        assert_eq!(detector.tick(start + 2 * SECOND, 603 * SECOND), None);
    }

    #[test]
    fn scheduling_noise_between_the_two_readings_is_ignored() {
        let start = crate::now();
        let mut detector = SuspendDetector::new(start, SECOND);
        assert_eq!(detector.tick(start, SECOND + Duration::from_millis(499)), None);
        assert_eq!(
            detector.tick(start, SECOND + Duration::from_millis(999)),
            Some(SuspendDetector::TOLERANCE)
        );
    }

    #[test]
    fn a_running_machine_reports_no_sleep() {
        let mut detector = SuspendDetector::start();
        assert_eq!(detector.tick_now(), None);
    }
}
