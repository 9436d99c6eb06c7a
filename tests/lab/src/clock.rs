//! The laboratory's one reader of time.
//!
//! The laboratory watches real programs in a real kernel, so its deadlines are real ones.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "deadlines on real programs need the real clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Lets other programs run for a moment: only between two looks at a state that nobody announces.
#[expect(clippy::disallowed_methods, reason = "outside state (links, processes) has no event to wait for")]
pub fn pause(step: std::time::Duration) {
    std::thread::sleep(step);
}
