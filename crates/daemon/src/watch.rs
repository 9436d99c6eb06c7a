//! Changed files, as one debounced wake-up.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

/// Editors write a file in several steps; a moment of nothing means that they are done.
pub const DEBOUNCE: Duration = Duration::from_millis(150);

/// Watches files by their directories, because editors replace files rather than write them.
pub struct FileWatch {
    _watcher: Option<RecommendedWatcher>,
    changes: mpsc::Receiver<()>,
    /// When a change seen already will have been quiet for long enough.
    settled_at: Option<Instant>,
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
        Self { _watcher: watcher, changes, settled_at: None }
    }

    /// Waits until a watched file changed and has been quiet for [`DEBOUNCE`]. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            let Some(settled_at) = self.settled_at else {
                match self.changes.recv().await {
                    Some(()) => self.settled_at = Some(Instant::now() + DEBOUNCE),
                    // Without a watcher nothing ever changes.
                    None => std::future::pending().await,
                }
                continue;
            };
            match timeout_at(settled_at, self.changes.recv()).await {
                Ok(Some(())) => self.settled_at = Some(Instant::now() + DEBOUNCE),
                Ok(None) | Err(_) => {
                    self.settled_at = None;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_replaced_file_wakes_once_even_when_the_wait_is_cancelled_in_between() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("authorized_keys");
        std::fs::write(&file, "a").unwrap();
        let mut watch = FileWatch::new(std::slice::from_ref(&file));
        std::fs::write(dir.path().join("other"), "b").unwrap();
        std::fs::write(dir.path().join(".tmp"), "b").unwrap();
        std::fs::rename(dir.path().join(".tmp"), &file).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut woken = 0;
        while woken == 0 && Instant::now() < deadline {
            // Shorter than the debounce: every wait but the last is cut off.
            if tokio::time::timeout(DEBOUNCE / 3, watch.changed()).await.is_ok() {
                woken += 1;
            }
        }
        assert_eq!(woken, 1);
        assert!(tokio::time::timeout(DEBOUNCE * 3, watch.changed()).await.is_err(), "woken twice");
    }
}
