//! Changes to a file that several processes edit: one after another, and none is lost.
//!
//! An edit takes a lock beside the file, reads, changes and replaces it. The lock is a file of its own, because the
//! file itself is replaced by every edit.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::lock::{FileLock, LockError};
use super::owner::parent;
use super::private::{PrivateFileError, WriteError, read_private, write_private_atomic};

const PAUSE: Duration = Duration::from_millis(5);
/// Ten seconds: far longer than edits take, and short enough for a person to wait.
const ATTEMPTS: u32 = 2000;

/// Why a file is as it was before the edit.
#[derive(Debug, thiserror::Error)]
pub enum EditFileError<E> {
    #[error("cannot edit {}", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        source: LockError,
    },
    #[error(transparent)]
    Read(PrivateFileError),
    #[error("{} is not UTF-8 text", path.display())]
    NotText { path: PathBuf },
    #[error(transparent)]
    Write(WriteError),
    /// The change itself was refused.
    #[error(transparent)]
    Change(E),
}

impl<E> EditFileError<E> {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read(error) => error.hint(),
            Self::Write(error) => error.hint(),
            Self::Lock { source, .. } => source.hint(),
            Self::NotText { .. } | Self::Change(_) => None,
        }
    }
}

/// Replaces the text of `path`, `limit` bytes at most, by what `change` makes of it; `None` leaves the file alone.
/// Returns whether the file was replaced. A file that is missing reads as `missing`, or is an error without it.
///
/// Waits for other edits of the same file, not for ever. On any error the file is as it was.
pub fn edit_private<E>(
    path: &Path,
    limit: u64,
    missing: Option<&str>,
    change: impl FnOnce(&str) -> Result<Option<String>, E>,
) -> Result<bool, EditFileError<E>> {
    let _alone = lock_edits(path).map_err(|source| EditFileError::Lock { path: path.into(), source })?;
    let text = match (read_private(path, limit), missing) {
        (Ok(bytes), _) => {
            String::from_utf8(bytes).map_err(|_| EditFileError::NotText { path: path.into() })?
        }
        (Err(error), Some(missing)) if error.is_missing() => missing.to_owned(),
        (Err(error), _) => return Err(EditFileError::Read(error)),
    };
    let Some(changed) = change(&text).map_err(EditFileError::Change)? else { return Ok(false) };
    write_private_atomic(path, changed.as_bytes()).map_err(EditFileError::Write)?;
    Ok(true)
}

/// Keeps other edits of `path` waiting; for changes that involve further files.
pub fn lock_edits(path: &Path) -> Result<FileLock, LockError> {
    let name = path.file_name().unwrap_or_default();
    let lock = parent(path).join(format!(".{}.lock", name.display()));
    for _ in 1..ATTEMPTS {
        match FileLock::acquire(&lock) {
            Err(LockError::Held { .. }) => pause(),
            outcome => return outcome,
        }
    }
    FileLock::acquire(&lock)
}

#[expect(clippy::disallowed_methods, reason = "a lock of the kernel's is waited for without an event")]
fn pause() {
    thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn edits_that_meet_lose_nothing() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("config.yaml");
        write_private_atomic(&path, b"").unwrap();
        let append = |line: String| {
            edit_private(&path, 1 << 20, None, |text| Ok::<_, Infallible>(Some(format!("{text}{line}\n"))))
                .unwrap()
        };
        thread::scope(|scope| {
            for writer in 0..8 {
                scope.spawn(move || {
                    for n in 0..25 {
                        append(format!("{writer}-{n}"));
                    }
                });
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 200);
    }

    #[test]
    fn a_refused_change_and_no_change_leave_the_file_alone() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("config.yaml");
        write_private_atomic(&path, b"old").unwrap();
        let refused = edit_private(&path, 100, None, |_| Err("no"));
        assert!(matches!(refused, Err(EditFileError::Change("no"))));
        assert!(!edit_private(&path, 100, None, |_| Ok::<_, Infallible>(None)).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        let missing = dir.path().join("missing");
        let read = |text: &str| Ok::<_, Infallible>(Some(format!("{text}+")));
        assert!(matches!(edit_private(&missing, 100, None, read), Err(EditFileError::Read(_))));
        assert!(edit_private(&missing, 100, Some("new"), read).unwrap());
        assert_eq!(fs::read_to_string(&missing).unwrap(), "new+");
    }
}
