//! What one connection is used for, as far as its closing and its health depend on it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;

/// Shared by a connection's handler, its handles, and the sessions on it.
#[derive(Debug, Default)]
pub struct PathUse {
    /// Locked when a session begins or ends, not per byte.
    sessions: Mutex<Sessions>,
    heard: AtomicU64,
    closed: AtomicBool,
}

/// Who waits for what, by number.
#[derive(Debug, Default)]
struct Sessions {
    last: u64,
    waiting: BTreeMap<u64, Arc<AtomicWaker>>,
}

/// One service stream: while it is held, the connection is not closed for being surplus.
#[derive(Debug)]
pub struct Session {
    of: Arc<PathUse>,
    number: u64,
    waker: Arc<AtomicWaker>,
}

impl PathUse {
    pub fn begin(self: &Arc<Self>) -> Session {
        let mut sessions = self.lock();
        sessions.last += 1;
        let (number, waker) = (sessions.last, Arc::<AtomicWaker>::default());
        sessions.waiting.insert(number, waker.clone());
        drop(sessions);
        Session { of: self.clone(), number, waker }
    }

    pub fn sessions(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Counts up whenever sessions show that the other end is there.
    pub fn heard(&self) -> u64 {
        self.heard.load(Relaxed)
    }

    /// Whether the connection has ended. yamux shows the end of a connection as the end of every stream, where it
    /// shows it at all.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
        self.lock().waiting.values().for_each(|waker| waker.wake());
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Bytes arrived, or a write that had to wait went on.
    pub fn heard(&self) {
        self.of.heard.fetch_add(1, Relaxed);
    }

    pub fn is_closed(&self) -> bool {
        self.of.is_closed()
    }

    /// Ready once the connection has ended. Whoever waits for a stream has to wait for this too: a yamux connection
    /// that is closed on this side wakes nobody who reads from it or waits for room.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.of.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU64);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

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

    #[test]
    fn every_session_is_woken_when_the_connection_ends() {
        let usage = Arc::new(PathUse::default());
        let sessions = [usage.begin(), usage.begin()];
        let woken = Arc::new(Woken::default());
        let waker = woken.clone().into();
        let mut cx = Context::from_waker(&waker);
        assert!(sessions.iter().all(|session| session.poll_closed(&mut cx).is_pending()));
        usage.close();
        assert_eq!(woken.0.load(Relaxed), 2);
        assert!(sessions.iter().all(|session| session.poll_closed(&mut cx).is_ready()));
    }
}
