//! Linux: a socket that hears notices, a timer that waits for quiet, and a reading of the whole picture.

mod notices;
mod read;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use notices::Notices;
pub use read::look;

use crate::settle::Settle;
use crate::snapshot::Snapshot;
use crate::{MonitorError, MonitorOptions, NetworkChange};

type Reading = Pin<Box<dyn Future<Output = Snapshot> + Send>>;

/// Watches the host's network. Does nothing, and holds nothing but a socket of bounded size, while nobody
/// awaits [`NetMonitor::changed`].
pub struct NetMonitor {
    options: MonitorOptions,
    notices: Notices,
    settle: Settle,
    /// Kept here, so that a caller who stops awaiting does not make it begin again.
    reading: Option<Reading>,
    reported: Snapshot,
}

impl fmt::Debug for NetMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetMonitor").field("options", &self.options).finish_non_exhaustive()
    }
}

impl NetMonitor {
    /// From here on nothing is missed. Needs a tokio runtime with I/O and time.
    pub async fn open(options: MonitorOptions) -> Result<Self, MonitorError> {
        // Listening comes first: what changes during the reading is heard.
        let notices = Notices::listen(options.ignore_route_protocol)?;
        let reported = read::snapshot(&options).await?;
        Ok(Self { options, notices, settle: Settle::default(), reading: None, reported })
    }

    /// The next change. May be cancelled and called again at any time: what happened in between is reported then,
    /// as one difference.
    pub async fn changed(&mut self) -> NetworkChange {
        loop {
            let due = self.settle.poll_timeout();
            tokio::select! {
                () = self.notices.next() => self.settle.disturb(now()),
                () = sleep_until(due) => self.start_reading(),
                new = proceed(&mut self.reading) => {
                    if let Some(change) = self.finish_reading(new) {
                        return change;
                    }
                }
            }
        }
    }

    fn start_reading(&mut self) {
        self.settle.start(now());
        self.reading = Some(Box::pin(read::snapshot_at_last(self.options.clone())));
    }

    fn finish_reading(&mut self, new: Snapshot) -> Option<NetworkChange> {
        self.reading = None;
        if !self.settle.finish(now()) {
            return None;
        }
        let change = self.reported.diff(&new);
        self.reported = new;
        (!change.is_empty()).then_some(change)
    }
}

/// The runtime's own clock, which the timers here count on.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

async fn proceed(reading: &mut Option<Reading>) -> Snapshot {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}
