//! The windows of a connection: how much waits unsent, and how much a peer may make us hold.
//!
//! A reader that stops keeps up to one stream's window of bytes here. Were the connection's window of a fixed size,
//! two stopped readers would stop every other stream, the tunnel's among them. So each stream beyond the first few
//! brings the room that it can fill, up to [`MOST_HELD`].
//!
//! quinn takes bytes from writers until a fixed send window is full of unacknowledged and unsent data. A window that
//! fills a long fast path holds seconds of data on a slow one, and packets that entered it can no longer be dropped,
//! reordered or sent elsewhere. So the window follows the congestion window: one for what is in flight, one for
//! what waits behind a hole, one for what is sent next. This is what `TCP_NOTSENT_LOWAT` is for TCP.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::config::{CONNECTION_WINDOW, STREAM_WINDOW};

/// How often the congestion window is looked at.
const STEP: u64 = 64 << 10;
/// Enough for writers to run ahead of a fast local path between two turns of their task.
const SMALLEST: u64 = 256 << 10;

/// Streams that share the connection's first window: the tunnel's, and libp2p's own, which end at once.
const FIRST_STREAMS: u32 = 8;
/// What one connection's peer may make us hold at most.
const MOST_HELD: u64 = 256 << 20;

pub(crate) struct Backlog {
    handle: quinn::Connection,
    largest: u64,
    written: AtomicU64,
    window: AtomicU64,
    streams: AtomicU32,
}

impl Backlog {
    pub(crate) fn new(handle: quinn::Connection, largest: u64) -> Self {
        handle.set_send_window(SMALLEST);
        let (written, window) = (AtomicU64::new(0), AtomicU64::new(SMALLEST));
        Self { handle, largest, written, window, streams: AtomicU32::new(0) }
    }

    pub(crate) fn opened(&self) {
        let before = self.streams.fetch_add(1, Relaxed);
        self.resize_held(before, before + 1);
    }

    pub(crate) fn ended(&self) {
        let before = self.streams.fetch_sub(1, Relaxed);
        self.resize_held(before, before - 1);
    }

    fn resize_held(&self, before: u32, streams: u32) {
        let window = held(streams);
        if window != held(before) {
            self.handle.set_receive_window(quinn::VarInt::from_u64(window).expect("below 2^62"));
        }
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

fn held(streams: u32) -> u64 {
    let more = u64::from(streams.saturating_sub(FIRST_STREAMS)) * u64::from(STREAM_WINDOW);
    (u64::from(CONNECTION_WINDOW) + more).min(MOST_HELD)
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

    #[test]
    fn each_further_stream_brings_its_own_room_up_to_a_bound() {
        let (stream, connection) = (u64::from(STREAM_WINDOW), u64::from(CONNECTION_WINDOW));
        assert_eq!(held(0), connection);
        assert_eq!(held(FIRST_STREAMS), connection);
        assert_eq!(held(FIRST_STREAMS + 3), connection + 3 * stream);
        assert_eq!(held(2_000), MOST_HELD);
    }
}
