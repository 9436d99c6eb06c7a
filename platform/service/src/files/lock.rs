//! One process at a time: an advisory lock that the kernel releases however its holder ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::owner::open_or_create;
use super::private::disk_hint;

/// Far more digits than a process id has.
const MAX_PID_LENGTH: u64 = 20;

/// The lock is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{} is locked by {}", path.display(), holder_name(*holder))]
    Held { path: PathBuf, holder: Option<u32> },
    #[error("cannot lock {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl LockError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Held { .. } => None,
            Self::Io { path, source } => disk_hint(path, source),
        }
    }
}

fn holder_name(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

/// A held lock. The file stays after release: deleting it would let two processes lock two files of one name.
#[derive(Debug)]
pub struct FileLock {
    _file: Flock<File>,
}

impl FileLock {
    /// Takes the lock or says who has it; never waits. The holder's process id is written into the file.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.into(), source };
        let file = open_or_create(path, OpenOptions::new().read(true).write(true)).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                // For people. On a full disk the lock holds all the same, and taking a change back needs it.
                let _ = write_pid(&mut file);
                Ok(Self { _file: file })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                Err(LockError::Held { path: path.into(), holder: read_pid(file) })
            }
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", process::id())
}

/// The holder may not have written its id yet; then the lock is held by "another process".
fn read_pid(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(MAX_PID_LENGTH).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_has_it() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("peerup.lock");
        let held = FileLock::acquire(&path).unwrap();
        let error = FileLock::acquire(&path).unwrap_err();
        assert!(
            matches!(error, LockError::Held { holder: Some(pid), .. } if pid == process::id()),
            "{error}"
        );
        drop(held);
        FileLock::acquire(&path).unwrap();
    }

    #[test]
    fn what_a_dead_holder_left_in_the_file_does_not_matter() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("peerup.lock");
        std::fs::write(&path, "99999999999999999999999 rubbish").unwrap();
        let _held = FileLock::acquire(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", process::id()));
    }

    #[test]
    fn a_lock_in_a_missing_directory_says_so() {
        let error = FileLock::acquire(Path::new("/nonexistent/peerup.lock")).unwrap_err();
        assert_eq!(error.to_string(), "cannot lock /nonexistent/peerup.lock");
    }
}
