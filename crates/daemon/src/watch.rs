//! Changed files, as one debounced wake-up.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Editors write a file in several steps; half of a second of nothing means that they are done.
pub const DEBOUNCE: Duration = Duration::from_millis(150);

/// Watches files by their directories, because editors replace files rather than write them.
pub struct FileWatch {
    _watcher: Option<RecommendedWatcher>,
    changes: mpsc::Receiver<()>,
}

impl FileWatch {
    /// A host that cannot watch (no inotify instances left) is told so in the log; SIGHUP works everywhere.
    pub fn new(files: &[PathBuf]) -> Self {
        let (sender, changes) = mpsc::channel(1);
        let watched: BTreeSet<PathBuf> = files.iter().cloned().collect();
        let on_event = move |event: notify::Result<notify::Event>| {
            let relevant = |event: notify::Event| {
                !event.kind.is_access() && event.paths.iter().any(|path| watched.contains(path))
            };
            // One wake-up is enough for any number of changes.
            if event.is_ok_and(relevant) {
                let _ = sender.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
            let directories: BTreeSet<_> = files.iter().filter_map(|file| file.parent()).collect();
            for directory in directories {
                watcher.watch(directory, RecursiveMode::NonRecursive)?;
            }
            Ok(watcher)
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "cannot watch files; use SIGHUP after changes"))
            .ok();
        Self { _watcher: watcher, changes }
    }

    /// Waits until a watched file changed and has been quiet for [`DEBOUNCE`]. Cancel-safe up to the debounce,
    /// whose loss only costs a repeated wake-up.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        while tokio::time::timeout(DEBOUNCE, self.changes.recv()).await.is_ok() {}
    }
}
