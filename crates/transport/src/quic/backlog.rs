//! Keeps what waits unsent in a connection short.
//!
//! quinn takes bytes from writers until a fixed send window is full of unacknowledged and unsent data. A window that
//! fills a long fast path holds seconds of data on a slow one, and packets that entered it can no longer be dropped,
//! reordered or sent elsewhere. So the window follows the congestion window: one for what is in flight, one for
//! what waits behind a hole, one for what is sent next. This is what `TCP_NOTSENT_LOWAT` is for TCP.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How often the congestion window is looked at.
const STEP: u64 = 64 << 10;
/// Enough for writers to run ahead of a fast local path between two turns of their task.
const SMALLEST: u64 = 256 << 10;

pub(crate) struct Backlog {
    handle: quinn::Connection,
    largest: u64,
    written: AtomicU64,
    window: AtomicU64,
}

impl Backlog {
    pub(crate) fn new(handle: quinn::Connection, largest: u64) -> Self {
        handle.set_send_window(SMALLEST);
        Self { handle, largest, written: AtomicU64::new(0), window: AtomicU64::new(SMALLEST) }
    }

    /// A stream has taken `bytes` more.
    pub(crate) fn wrote(&self, bytes: usize) {
        let before = self.written.fetch_add(bytes as u64, Relaxed);
        if before / STEP == (before + bytes as u64) / STEP {
            return;
        }
        let window = window(self.handle.stats().path.cwnd, self.largest);
        if self.window.swap(window, Relaxed) != window {
            self.handle.set_send_window(window);
        }
    }
}

/// In whole steps, so that it rarely changes.
fn window(congestion_window: u64, largest: u64) -> u64 {
    (congestion_window.min(largest) * 3).next_multiple_of(STEP).clamp(SMALLEST, largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_follows_the_congestion_window_within_its_bounds() {
        let largest = 20 << 20;
        assert_eq!(window(14_000, largest), SMALLEST);
        assert_eq!(window(1 << 20, largest), 3 << 20);
        assert_eq!(window((1 << 20) + 1, largest), (3 << 20) + STEP);
        assert_eq!(window(1 << 30, largest), largest);
    }
}
