//! The files of a confirmed change ([`peerup_config::commit`]): read, and changed step by step, under the lock that
//! edits of the configuration take.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use peerup_config::MAX_TEXT;
use peerup_config::commit::{self, CommitError, CommitPaths, OnDisk, State, Step};

use super::edit::{EditFileError, lock_edits};
use super::lock::LockError;
use super::owner::parent;
use super::private::{PrivateFileError, WriteError, read_private, write_private_atomic};

/// A configuration and the files beside it.
#[derive(Debug, Clone)]
pub struct ConfigStore {
    config: PathBuf,
    paths: CommitPaths,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot change the configuration")]
    Lock(#[from] LockError),
    #[error(transparent)]
    Read(#[from] PrivateFileError),
    #[error("{} is not UTF-8 text", path.display())]
    NotText { path: PathBuf },
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Refused(#[from] CommitError),
    #[error("the change is confirmed, and not kept as the last good configuration")]
    NotKept(#[source] Box<StoreError>),
}

impl StoreError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read(error) => error.hint(),
            Self::Write(error) => error.hint(),
            Self::Refused(error) => error.hint().map(str::to_owned),
            Self::NotKept(error) => error.hint(),
            Self::Lock(error) => error.hint(),
            Self::NotText { .. } => None,
        }
    }
}

impl ConfigStore {
    pub fn beside(config_file: &Path) -> Self {
        Self { config: config_file.into(), paths: CommitPaths::beside(config_file) }
    }

    pub fn paths(&self) -> &CommitPaths {
        &self.paths
    }

    /// Where the configuration stands at `now` after the Unix epoch. A change whose time is up is taken back, and what
    /// an interrupted operation left is tidied away.
    pub fn settle(&self, now: Duration) -> Result<State, StoreError> {
        // A node that never applied anything takes no lock and needs no writable directory.
        if !self.paths.pending.exists() && !self.paths.backup.exists() {
            return Ok(State::Settled);
        }
        let _alone = lock_edits(&self.config)?;
        let (state, steps) = commit::settle(&self.read()?, now);
        self.perform(&steps)?;
        Ok(state)
    }

    /// The same without changing anything.
    pub fn state(&self, now: Duration) -> Result<State, StoreError> {
        Ok(commit::settle(&self.read()?, now).0)
    }

    /// Puts `new` in force until it is confirmed, for `timeout` at most.
    pub fn apply(&self, new: &str, now: Duration, timeout: Duration) -> Result<(), StoreError> {
        let _alone = lock_edits(&self.config)?;
        let (state, steps) = commit::settle(&self.read()?, now);
        if !matches!(state, State::Pending { .. }) {
            self.perform(&steps)?;
        }
        self.perform(&commit::apply(&self.read()?, &self.paths, new, (now, timeout))?)
    }

    /// Keeps the change that is pending.
    pub fn confirm(&self) -> Result<(), StoreError> {
        let _alone = lock_edits(&self.config)?;
        let steps = commit::confirm(&self.read()?)?;
        // The first step confirms; the others keep what was confirmed, and a full disk may not take it.
        let (confirming, keeping) = steps.split_at(1);
        self.perform(confirming)?;
        self.perform(keeping).map_err(|error| StoreError::NotKept(Box::new(error)))
    }

    /// Takes the pending change back, else goes back to the last good configuration.
    pub fn rollback(&self) -> Result<(), StoreError> {
        let _alone = lock_edits(&self.config)?;
        self.perform(&commit::rollback(&self.read()?)?)
    }

    /// Takes the pending change back; whether there was one. A confirmation that came first is respected.
    pub fn expire(&self) -> Result<bool, StoreError> {
        let _alone = lock_edits(&self.config)?;
        let (state, steps) = commit::settle(&self.read()?, Duration::MAX);
        self.perform(&steps)?;
        Ok(state == State::Expired)
    }

    /// `started_with` has proven itself. Kept as the last good configuration, unless a change is pending.
    pub fn archive(&self, started_with: &str) -> Result<(), StoreError> {
        let _alone = lock_edits(&self.config)?;
        self.perform(&commit::archive(&self.read()?, started_with))
    }

    /// Makes an addition that a pending change does not take with it when it is taken back: it is made in the text in
    /// force and in the one that would come back. A text that cannot take it stays without.
    pub fn amend<E>(
        &self,
        change: impl Fn(&str) -> Result<Option<String>, E>,
    ) -> Result<bool, EditFileError<E>> {
        let path = || self.config.clone();
        let _alone =
            lock_edits(&self.config).map_err(|source| EditFileError::Lock { path: path(), source })?;
        let text = read_private(&self.config, MAX_TEXT as u64).map_err(EditFileError::Read)?;
        let text = String::from_utf8(text).map_err(|_| EditFileError::NotText { path: path() })?;
        let changed = change(&text).map_err(EditFileError::Change)?;
        if let Ok(Some(former)) = read(&self.paths.backup)
            && let Ok(Some(amended)) = change(&former)
        {
            write_private_atomic(&self.paths.backup, amended.as_bytes()).map_err(EditFileError::Write)?;
        }
        let Some(changed) = changed else { return Ok(false) };
        write_private_atomic(&self.config, changed.as_bytes()).map_err(EditFileError::Write)?;
        Ok(true)
    }

    fn read(&self) -> Result<OnDisk, StoreError> {
        Ok(OnDisk {
            config: read(&self.config)?,
            pending: read(&self.paths.pending)?,
            backup: read(&self.paths.backup)?,
            last_good: read(&self.paths.last_good)?,
        })
    }

    fn perform(&self, steps: &[Step]) -> Result<(), StoreError> {
        let paths = &self.paths;
        for step in steps {
            match step {
                Step::WriteBackup(text) => write_private_atomic(&paths.backup, text.as_bytes())?,
                Step::WritePending(text) => write_private_atomic(&paths.pending, text.as_bytes())?,
                Step::WriteConfig(text) => write_private_atomic(&self.config, text.as_bytes())?,
                Step::RemovePending => remove(&paths.pending)?,
                Step::RemoveBackup => remove(&paths.backup)?,
                Step::RestoreBackup => rename(&paths.backup, &self.config)?,
                Step::Archive(text) => write_private_atomic(&paths.last_good, text.as_bytes())?,
                Step::KeepRolledBack(text) => write_private_atomic(&paths.rolled_back, text.as_bytes())?,
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<String>, StoreError> {
    match read_private(path, MAX_TEXT as u64) {
        Ok(bytes) => {
            String::from_utf8(bytes).map(Some).map_err(|_| StoreError::NotText { path: path.into() })
        }
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), WriteError> {
    fs::rename(from, to)
        .and_then(|()| File::open(parent(to))?.sync_all())
        .map_err(|source| WriteError { path: to.into(), source })
}

/// Gone for good, also after a power cut.
fn remove(path: &Path) -> Result<(), WriteError> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    };
    removed
        .and_then(|()| File::open(parent(path))?.sync_all())
        .map_err(|source| WriteError { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn an_applied_change_is_private_and_goes_unless_it_is_confirmed() {
        let (dir, store) = store("old");
        store.apply("new", NOW, MINUTE).unwrap();
        assert_eq!(text(&dir, "config.yaml"), "new");
        for file in [".config.pending", ".config.pre-confirmed.yaml", "config.yaml"] {
            let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600, "{file}");
        }
        assert_eq!(store.settle(NOW).unwrap(), State::Pending { left: MINUTE });
        assert!(matches!(store.apply("newer", NOW, MINUTE), Err(StoreError::Refused(_))));
        assert_eq!(store.settle(NOW + MINUTE).unwrap(), State::Expired);
        assert_eq!(files(&dir), [".config.yaml.lock", "config.yaml"]);
        assert_eq!(text(&dir, "config.yaml"), "old");
    }

    #[test]
    fn a_confirmation_beats_the_deadline_that_comes_after_it() {
        let (dir, store) = store("old");
        store.apply("new", NOW, MINUTE).unwrap();
        store.confirm().unwrap();
        assert!(!store.expire().unwrap());
        assert_eq!(store.settle(NOW + MINUTE).unwrap(), State::Settled);
        assert_eq!(
            (text(&dir, "config.yaml"), text(&dir, ".config.last-good.yaml")),
            ("new".into(), "new".into())
        );
        assert!(matches!(store.confirm(), Err(StoreError::Refused(CommitError::NothingPending))));
    }

    #[test]
    fn an_apply_after_a_missed_deadline_starts_from_what_came_back() {
        let (dir, store) = store("old");
        store.apply("new", NOW, MINUTE).unwrap();
        store.apply("newer", NOW + 2 * MINUTE, MINUTE).unwrap();
        assert_eq!(text(&dir, ".config.pre-confirmed.yaml"), "old");
        store.rollback().unwrap();
        assert_eq!(text(&dir, "config.yaml"), "old");
    }

    #[test]
    fn what_is_added_meanwhile_stays_when_the_change_is_taken_back() {
        let (dir, store) = store("old\n");
        store.apply("new\n", NOW, MINUTE).unwrap();
        let add = |text: &str| Ok::<_, ()>((!text.contains("name")).then(|| format!("{text}name\n")));
        assert!(store.amend(add).unwrap());
        assert_eq!(text(&dir, "config.yaml"), "new\nname\n");
        assert_eq!(store.settle(NOW + MINUTE).unwrap(), State::Expired);
        assert_eq!(text(&dir, "config.yaml"), "old\nname\n");
        assert!(!store.amend(add).unwrap());
        assert!(matches!(store.amend(|_| Err(())), Err(EditFileError::Change(()))));
        assert_eq!(files(&dir), [".config.yaml.lock", "config.yaml"]);
    }

    #[test]
    fn what_started_well_can_be_gone_back_to() {
        let (dir, store) = store("good");
        assert!(matches!(store.rollback(), Err(StoreError::Refused(CommitError::NoArchive))));
        store.archive("good").unwrap();
        write_private_atomic(&dir.path().join("config.yaml"), b"bad").unwrap();
        store.rollback().unwrap();
        assert_eq!(
            (text(&dir, "config.yaml"), text(&dir, ".config.rolled-back.yaml")),
            ("good".into(), "bad".into())
        );
    }

    fn store(config: &str) -> (TempDir, ConfigStore) {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("config.yaml");
        write_private_atomic(&file, config.as_bytes()).unwrap();
        (dir, ConfigStore::beside(&file))
    }

    fn text(dir: &TempDir, name: &str) -> String {
        fs::read_to_string(dir.path().join(name)).unwrap()
    }

    fn files(dir: &TempDir) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}
