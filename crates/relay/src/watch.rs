//! Changes of files, as a debounced wake-up.

use std::{collections::BTreeSet, ffi::OsString, path::Path, pin::Pin, time::Duration};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    sync::mpsc,
    time::{Sleep, sleep},
};

/// An editor writes a file in several steps; what is read after this time is rarely half of it, and when it is,
/// the rest wakes once more.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Watches the directories of the files, because editors replace files rather than write them.
pub struct FileWatch {
    _watcher: Option<RecommendedWatcher>,
    changes: mpsc::Receiver<()>,
    due: Option<Pin<Box<Sleep>>>,
}

impl FileWatch {
    /// A host that cannot watch (no inotify instances left) says so in the log; SIGHUP works everywhere.
    pub fn new(files: &[&Path]) -> Self {
        let (sender, changes) = mpsc::channel(1);
        let watcher = watcher(files, sender)
            .inspect_err(|error| tracing::warn!(%error, "cannot watch files; send SIGHUP after changes"))
            .ok();
        Self { _watcher: watcher, changes, due: None }
    }

    /// Waits until the file has changed. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.due.is_none() {
            match self.changes.recv().await {
                Some(()) => self.due = Some(Box::pin(sleep(DEBOUNCE))),
                None => std::future::pending().await,
            }
        }
        if let Some(due) = &mut self.due {
            due.await;
        }
        self.due = None;
        // Whatever came meanwhile is read with the rest.
        while self.changes.try_recv().is_ok() {}
    }
}

fn watcher(files: &[&Path], changed: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let names: BTreeSet<OsString> =
        files.iter().filter_map(|file| file.file_name()).map(OsString::from).collect();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the file is an event too, and would wake without end.
        let relevant = |event: notify::Event| {
            !event.kind.is_access()
                && event.paths.iter().any(|path| path.file_name().is_some_and(|name| names.contains(name)))
        };
        if event.is_ok_and(relevant) {
            // One wake-up is enough for any number of changes.
            let _ = changed.try_send(());
        }
    })?;
    for directory in files.iter().map(|file| directory(file)).collect::<BTreeSet<_>>() {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

fn directory(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_replaced_file_wakes_once_and_reading_it_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        fs::write(&file, "old").unwrap();
        let mut watch = FileWatch::new(&[&file]);
        fs::write(dir.path().join("keys.new"), "new").unwrap();
        fs::rename(dir.path().join("keys.new"), &file).unwrap();
        timeout(Duration::from_secs(5), watch.changed()).await.unwrap();
        fs::read(&file).unwrap();
        fs::write(dir.path().join("other"), "").unwrap();
        timeout(3 * DEBOUNCE, watch.changed()).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_change_survives_being_cancelled_while_it_settles() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        let mut watch = FileWatch::new(&[&file]);
        fs::write(&file, "new").unwrap();
        timeout(DEBOUNCE / 2, watch.changed()).await.unwrap_err();
        timeout(Duration::from_secs(5), watch.changed()).await.unwrap();
    }
}
