//! Counters of sessions.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use super::copy::Meter;

/// Bytes in one direction, as they were handed to whoever they are for.
#[derive(Debug, Default)]
pub struct Bytes(AtomicU64);

impl Bytes {
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Meter for Bytes {
    fn delivered(&self, bytes: u64) {
        self.0.fetch_add(bytes, Relaxed);
    }
}

/// Counts twice: for a session and for its proxy.
impl<A: Meter, B: Meter> Meter for (&A, &B) {
    fn delivered(&self, bytes: u64) {
        self.0.delivered(bytes);
        self.1.delivered(bytes);
    }
}

/// What became of the connections of one proxy.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From local clients to the peer.
    pub sent: Bytes,
    /// From the peer to local clients.
    pub received: Bytes,
    active: AtomicU32,
    accepted: AtomicU64,
    failed: AtomicU64,
    /// Written once per failure, read by status.
    last_error: Mutex<Option<String>>,
}

impl Traffic {
    pub fn accept(&self) {
        self.accepted.fetch_add(1, Relaxed);
        self.active.fetch_add(1, Relaxed);
    }

    pub fn end(&self) {
        self.active.fetch_sub(1, Relaxed);
    }

    pub fn fail(&self, error: String) {
        self.failed.fetch_add(1, Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
