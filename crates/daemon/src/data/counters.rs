//! Counters that the data thread writes and the control thread reads. Each is one relaxed atomic: there is a single
//! writer, and a reader that is a packet behind is right enough.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use peerup_router::DropReason;

const REASONS: usize = DropReason::ALL.len();

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Inner bytes and packets of one peer.
#[derive(Debug, Default)]
pub struct PeerCounters {
    pub rx_packets: Counter,
    pub rx_bytes: Counter,
    pub tx_packets: Counter,
    pub tx_bytes: Counter,
}

/// Reads on one path: a path whose count moves is alive.
#[derive(Debug, Default)]
pub struct PathCounters {
    pub reads: Counter,
    /// Writes that had to wait for the transport and then went on: it takes bytes again, so somebody acknowledged
    /// earlier ones.
    pub resumed_writes: Counter,
    /// Acknowledgements of frames that went this way.
    pub acknowledged: Counter,
}

impl PathCounters {
    /// A number that moves while the path carries anything.
    pub fn signs_of_life(&self) -> u64 {
        self.reads.get() + self.resumed_writes.get() + self.acknowledged.get()
    }
}

/// Why packets went nowhere, all peers together.
#[derive(Debug)]
pub struct PlaneCounters {
    dropped: [Counter; REASONS],
    /// Frames of unknown or unexpected kind.
    pub skipped: Counter,
    /// Streams closed because of a frame that cannot be parsed.
    pub malformed: Counter,
    /// Packets that went and came as datagrams.
    pub datagrams_sent: Counter,
    pub datagrams_received: Counter,
    /// Packets that were told that they met congestion, in place of being dropped.
    pub marked: Counter,
    /// Frames that were sent again on another path.
    pub resent: Counter,
    /// Frames that arrived twice and went to the host once.
    pub duplicates: Counter,
    /// Frames that waited for others that they had overtaken.
    pub reordered: Counter,
}

impl Default for PlaneCounters {
    fn default() -> Self {
        Self {
            dropped: std::array::from_fn(|_| Counter::default()),
            skipped: Counter::default(),
            malformed: Counter::default(),
            datagrams_sent: Counter::default(),
            datagrams_received: Counter::default(),
            marked: Counter::default(),
            resent: Counter::default(),
            duplicates: Counter::default(),
            reordered: Counter::default(),
        }
    }
}

impl PlaneCounters {
    pub fn dropped(&self, reason: DropReason) {
        self.dropped_many(reason, 1);
    }

    pub fn dropped_many(&self, reason: DropReason, packets: u64) {
        self.dropped[reason as usize].add(packets);
    }

    /// Every reason with its count, in a fixed order.
    pub fn reasons(&self) -> Vec<(&'static str, u64)> {
        let routed =
            DropReason::ALL.iter().map(|reason| (reason.as_str(), self.dropped[*reason as usize].get()));
        let own = [("frame-skipped", &self.skipped), ("frame-malformed", &self.malformed)];
        routed.chain(own.map(|(word, counter)| (word, counter.get()))).collect()
    }
}
