//! What one connection is used for, as far as its closing and its health depend on it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// Shared by a connection's handler, its handles, and the sessions on it.
#[derive(Debug, Default)]
pub struct PathUse {
    sessions: AtomicU32,
    heard: AtomicU64,
    closed: AtomicBool,
}

/// One service stream: while it is held, the connection is not closed for being surplus.
#[derive(Debug)]
pub struct Session(Arc<PathUse>);

impl PathUse {
    pub fn begin(self: &Arc<Self>) -> Session {
        self.sessions.fetch_add(1, Relaxed);
        Session(self.clone())
    }

    pub fn sessions(&self) -> u32 {
        self.sessions.load(Relaxed)
    }

    /// Counts up whenever sessions show that the other end is there.
    pub fn heard(&self) -> u64 {
        self.heard.load(Relaxed)
    }

    /// Whether the connection has ended. yamux shows the end of a connection as the end of every stream.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
    }
}

impl Session {
    /// Bytes arrived, or a write that had to wait went on.
    pub fn heard(&self) {
        self.0.heard.fetch_add(1, Relaxed);
    }

    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_counted_while_they_are_held() {
        let usage = Arc::new(PathUse::default());
        let (first, second) = (usage.begin(), usage.begin());
        first.heard();
        drop(first);
        assert_eq!((usage.sessions(), usage.heard()), (1, 1));
        drop(second);
        assert_eq!(usage.sessions(), 0);
    }
}
