//! Time inside a machine.

use std::{
    ops::Add,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Microseconds since the machine was made. Unlike an [`Instant`] it can be written to a log and read back by another
/// process, which is what makes a replay reach the same decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(u64);

impl Moment {
    pub fn between(origin: Instant, now: Instant) -> Self {
        Self(u64::try_from(now.saturating_duration_since(origin).as_micros()).unwrap_or(u64::MAX))
    }

    pub fn instant(self, origin: Instant) -> Instant {
        origin + Duration::from_micros(self.0)
    }

    /// Zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Since the machine was made.
    pub fn age(self) -> Duration {
        Duration::from_micros(self.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}
