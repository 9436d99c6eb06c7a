//! What became of the sessions that this node serves, by service: for metrics and the audit log.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use peerup_types::PeerId;

use super::traffic::Bytes;

/// Counters of one service. The names come from the configuration and from `expose`, so there are few.
#[derive(Debug, Default)]
pub struct Counters {
    /// From peers to the service.
    pub received: Bytes,
    /// From the service to peers.
    pub sent: Bytes,
    connections: AtomicU64,
    active: AtomicU32,
}

/// What passes by, for whoever watches.
#[derive(Debug, Clone, Copy)]
pub enum Happened<'a> {
    /// A member asked for what is not open to it.
    Denied {
        peer: &'a PeerId,
        service: &'a str,
    },
    Ended {
        service: &'a str,
        lasted: Duration,
    },
}

pub type Watcher = Box<dyn Fn(Happened<'_>) + Send + Sync>;

/// Locked once per session, not per byte.
#[derive(Default)]
pub struct Served {
    by_service: Mutex<BTreeMap<String, Arc<Counters>>>,
    watcher: OnceLock<Watcher>,
}

impl Served {
    /// Tells `watcher` from here on; only the first one counts.
    pub fn watch(&self, watcher: Watcher) {
        let _ = self.watcher.set(watcher);
    }

    pub fn denied(&self, peer: &PeerId, service: &str) {
        self.tell(Happened::Denied { peer, service });
    }

    /// Counts a session until it is dropped.
    pub fn begin(self: &Arc<Self>, service: &str) -> ServedSession {
        let mut by_service = self.by_service.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = by_service.entry(service.to_owned()).or_default().clone();
        drop(by_service);
        counters.connections.fetch_add(1, Relaxed);
        counters.active.fetch_add(1, Relaxed);
        ServedSession {
            served: self.clone(),
            service: service.to_owned(),
            counters,
            began: peerup_clock::now(),
        }
    }

    /// Service, bytes received and sent, sessions begun and open.
    pub fn rows(&self) -> Vec<(String, [u64; 3], u32)> {
        let by_service = self.by_service.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |(service, counters): (&String, &Arc<Counters>)| {
            let counts = [counters.received.get(), counters.sent.get(), counters.connections.load(Relaxed)];
            (service.clone(), counts, counters.active.load(Relaxed))
        };
        by_service.iter().map(row).collect()
    }

    fn tell(&self, happened: Happened<'_>) {
        if let Some(watcher) = self.watcher.get() {
            watcher(happened);
        }
    }
}

/// One session, counted while it lasts.
pub struct ServedSession {
    served: Arc<Served>,
    service: String,
    pub counters: Arc<Counters>,
    began: std::time::Instant,
}

impl Drop for ServedSession {
    fn drop(&mut self) {
        self.counters.active.fetch_sub(1, Relaxed);
        self.served.tell(Happened::Ended { service: &self.service, lasted: self.began.elapsed() });
    }
}

#[cfg(test)]
mod tests {
    use super::{super::copy::Meter, *};

    #[test]
    fn a_session_counts_for_its_service_and_its_end_is_told() {
        let (served, ended) = (Arc::new(Served::default()), Arc::new(AtomicU32::default()));
        let seen = ended.clone();
        served.watch(Box::new(move |happened| {
            if let Happened::Ended { service: "ssh", .. } = happened {
                seen.fetch_add(1, Relaxed);
            }
        }));
        let session = served.begin("ssh");
        session.counters.received.delivered(7);
        session.counters.sent.delivered(9);
        assert_eq!(served.rows(), [("ssh".to_owned(), [7, 9, 1], 1)]);
        drop(session);
        assert_eq!(served.rows(), [("ssh".to_owned(), [7, 9, 1], 0)]);
        assert_eq!(ended.load(Relaxed), 1);
    }
}
