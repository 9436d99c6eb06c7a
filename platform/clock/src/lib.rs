//! The only reader of time.
//!
//! Machines take `now` as an argument; processes ask here once per wake-up and hand the answer down, so that
//! everything below runs under virtual time in tests. Three clocks answer three questions:
//!
//! - [`now`]: how long since? Monotonic, stands still while the machine is suspended.
//! - [`boottime`]: how long since, sleep included? Monotonic (`CLOCK_BOOTTIME` on Linux).
//! - [`unix`], [`unix_millis`], [`since_epoch`]: what date is it? May jump either way; only for what people and other
//!   machines read (claims, journal entries, status).
//!
//! [`SuspendDetector`] compares the first two: where they disagree, the machine has slept, every NAT mapping
//! and path is suspect, and timers counted on [`now`] are late.
#![forbid(unsafe_code)]

mod format;
mod suspend;

pub use format::rfc3339;
pub use suspend::SuspendDetector;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock that timers count on.
#[expect(clippy::disallowed_methods, reason = "this crate is the one that reads the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Seconds since the Unix epoch; 0 on a machine whose clock stands before it.
pub fn unix() -> u64 {
    since_epoch().as_secs()
}

/// Milliseconds since the Unix epoch; 0 on a machine whose clock stands before it.
pub fn unix_millis() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}

/// Since the Unix epoch; zero on a machine whose clock stands before it.
#[expect(clippy::disallowed_methods, reason = "this crate is the one that reads the clock")]
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Time since boot, suspend included.
#[cfg(target_os = "linux")]
pub fn boottime() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every Linux since 2.6.39 has CLOCK_BOOTTIME").into()
}

/// Time since the first call. Outside Linux the standard monotonic clock has to do; whether it counts suspend
/// is up to the system.
#[cfg(not(target_os = "linux"))]
pub fn boottime() -> Duration {
    static FIRST_CALL: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    now().duration_since(*FIRST_CALL.get_or_init(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_do_not_run_backwards() {
        let (first, first_boot) = (now(), boottime());
        let (second, second_boot) = (now(), boottime());
        assert!(second >= first);
        assert!(second_boot >= first_boot);
    }

    #[test]
    fn the_date_is_plausible_and_its_units_agree() {
        let (seconds, millis) = (unix(), unix_millis());
        assert!(seconds > 1_600_000_000, "{seconds} lies before this program was written");
        assert!(millis / 1000 - seconds <= 1);
    }
}
