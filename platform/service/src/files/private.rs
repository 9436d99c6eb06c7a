//! Reading and writing files that only their owner may see.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::OFlag;

use super::owner::{give_to_owner_of_directory, give_to_owner_of_replaced, open_or_create, parent};

const GROUP_OR_OTHER: u32 = 0o077;
const GROUP_OR_OTHER_WRITE: u32 = 0o022;

/// A private file or directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} is open to other users (mode {mode:04o})", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} is longer than {limit} bytes", path.display())]
    TooLong { path: PathBuf, limit: u64 },
    #[error("cannot create directory {}", path.display())]
    CreateDirectory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a directory", path.display())]
    NotADirectory { path: PathBuf },
    #[error("directory {} can be changed by other users (mode {mode:04o})", path.display())]
    ExposedDirectory { path: PathBuf, mode: u32 },
    #[error("directory {} belongs to somebody else (uid {uid})", path.display())]
    ForeignDirectory { path: PathBuf, uid: u32 },
}

impl PrivateFileError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exposed { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::ExposedDirectory { path, .. } => Some(format!("chmod 700 {}", path.display())),
            Self::Read { path, source } | Self::CreateDirectory { path, source } => disk_hint(path, source),
            Self::NotAFile { .. }
            | Self::TooLong { .. }
            | Self::NotADirectory { .. }
            | Self::ForeignDirectory { .. } => None,
        }
    }

    /// Whether there is simply nothing at the path.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// A private file that could not be written; the file that was there is unchanged.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct WriteError {
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl WriteError {
    pub fn hint(&self) -> Option<String> {
        disk_hint(&self.path, &self.source)
    }
}

/// The next step when a file cannot be read or written.
pub fn disk_hint(path: &Path, source: &io::Error) -> Option<String> {
    let dir = parent(path).display();
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            Some(format!("look at its owner and permissions: ls -ld {dir} {}", path.display()))
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some(format!("nothing has changed; make room and try again: df -h {dir}"))
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            Some(format!("nothing has changed; it is mounted read-only: findmnt -T {dir}"))
        }
        _ => None,
    }
}

/// Reads a file that nobody but its owner may see, `limit` bytes at most.
pub fn read_private(path: &Path, limit: u64) -> Result<Vec<u8>, PrivateFileError> {
    let failed = |source| PrivateFileError::Read { path: path.into(), source };
    // O_NONBLOCK: a FIFO at this path must not hang the daemon.
    let file =
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(PrivateFileError::NotAFile { path: path.into() });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & GROUP_OR_OTHER != 0 {
        return Err(PrivateFileError::Exposed { path: path.into(), mode });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(limit)).unwrap_or(0));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(PrivateFileError::TooLong { path: path.into(), limit });
    }
    Ok(bytes)
}

/// Replaces the file at `path` in one step: readers see the old content or the new, also after a power cut.
///
/// The file ends up with mode 0600. Written by root, it belongs to the owner of the file it replaces, else to
/// the owner of its directory. A symbolic link at `path` is replaced, not followed.
pub fn write_private_atomic(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let failed = |source| WriteError { path: path.into(), source };
    let temporary = temporary_name(path).map_err(failed)?;
    let written = write_new(&temporary, path, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The error that matters is the first one; a left-over temporary file holds nothing that is not wanted.
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| File::open(parent(path))?.sync_all()).map_err(failed)
}

fn write_new(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    give_to_owner_of_replaced(&file, path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A name beside `path` that no other write of this machine uses.
fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    static WRITES: AtomicU32 = AtomicU32::new(0);
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
    };
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    Ok(parent(path).join(format!(".{}.{}.{write}.tmp", name.display(), process::id())))
}

/// Opens a log file for appending, mode 0600 when it is created.
pub fn open_log(path: &Path) -> Result<File, WriteError> {
    open_or_create(path, OpenOptions::new().append(true))
        .map_err(|source| WriteError { path: path.into(), source })
}

/// Makes sure that `path` is a directory that only its owner can change; missing parents are created too.
///
/// A new directory gets mode 0700 and, created by root, the owner of the directory it is in. One that is there
/// already is left as it is, and refused when other users could put files into it.
pub fn create_private_dir(path: &Path) -> Result<(), PrivateFileError> {
    let failed = |source| PrivateFileError::CreateDirectory { path: path.into(), source };
    if !path.exists() && parent(path) != path {
        create_parents(parent(path)).map_err(failed)?;
    }
    match create_dir(path, 0o700) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_directory(path),
        result => result.map_err(failed),
    }
}

fn create_parents(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    create_parents(parent(path))?;
    match create_dir(path, 0o755) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(path)?;
    give_to_owner_of_directory(&directory, path)
}

/// Refuses a file whose directory other users can change: whoever can put another file in its place decides what it says,
/// whatever its own mode (OpenSSH's `StrictModes` asks the same of `authorized_keys`).
pub fn check_directory_of(file: &Path) -> Result<(), PrivateFileError> {
    let path = parent(file);
    match unexposed(path) {
        Err(error) if error.is_missing() => Ok(()),
        other => other.map(drop),
    }
}

fn unexposed(path: &Path) -> Result<fs::Metadata, PrivateFileError> {
    let metadata =
        fs::metadata(path).map_err(|source| PrivateFileError::Read { path: path.into(), source })?;
    if !metadata.is_dir() {
        return Err(PrivateFileError::NotADirectory { path: path.into() });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & GROUP_OR_OTHER_WRITE != 0 {
        return Err(PrivateFileError::ExposedDirectory { path: path.into(), mode });
    }
    Ok(metadata)
}

fn check_directory(path: &Path) -> Result<(), PrivateFileError> {
    let metadata = unexposed(path)?;
    let me = nix::unistd::geteuid();
    if !me.is_root() && metadata.uid() != me.as_raw() {
        return Err(PrivateFileError::ForeignDirectory { path: path.into(), uid: metadata.uid() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_private() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("identity.key");
        write_private_atomic(&path, b"secret").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(read_private(&path, 100).unwrap(), b"secret");
        write_private_atomic(&path, b"other").unwrap();
        assert_eq!(read_private(&path, 5).unwrap(), b"other");
        assert_eq!(entries(dir.path()), ["identity.key"]);
    }

    #[test]
    fn a_private_file_in_a_directory_that_others_can_change_is_none() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("authorized_keys");
        for (mode, fits) in [(0o700, true), (0o755, true), (0o775, false), (0o757, false), (0o1777, false)] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            let checked = check_directory_of(&file);
            assert_eq!(checked.is_ok(), fits, "{mode:o}");
            if let Err(error) = checked {
                assert_eq!(error.hint().unwrap(), format!("chmod 700 {}", dir.path().display()));
            }
        }
        assert!(check_directory_of(&dir.path().join("missing/file")).is_ok());
    }

    #[test]
    fn a_file_open_to_the_group_is_refused_with_the_command_that_helps() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("identity.key");
        write_private_atomic(&path, b"secret").unwrap();
        for exposed in [0o640, 0o604, 0o660, 0o610] {
            fs::set_permissions(&path, fs::Permissions::from_mode(exposed)).unwrap();
            let error = read_private(&path, 100).unwrap_err();
            assert!(matches!(error, PrivateFileError::Exposed { mode, .. } if mode == exposed), "{error}");
            assert_eq!(error.hint().unwrap(), format!("chmod 600 {}", path.display()));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        read_private(&path, 100).unwrap();
    }

    #[test]
    fn rewriting_an_exposed_file_makes_it_private() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("peerup.yaml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write_private_atomic(&path, b"new").unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_file_over_the_limit_is_not_read() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("peers.yaml");
        write_private_atomic(&path, &[b'x'; 11]).unwrap();
        assert!(matches!(read_private(&path, 10), Err(PrivateFileError::TooLong { limit: 10, .. })));
        assert_eq!(read_private(&path, 11).unwrap().len(), 11);
    }

    #[test]
    fn what_is_missing_or_no_file_is_told_apart() {
        let dir = TempDir::new().unwrap();
        assert!(read_private(&dir.path().join("nothing"), 10).unwrap_err().is_missing());
        assert!(matches!(read_private(dir.path(), 10), Err(PrivateFileError::NotAFile { .. })));
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(read_private(&fifo, 10), Err(PrivateFileError::NotAFile { .. })));
    }

    #[test]
    fn a_link_is_replaced_and_its_target_stays() {
        let dir = TempDir::new().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "untouched").unwrap();
        symlink(&target, &link).unwrap();
        write_private_atomic(&link, b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"untouched");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let dir = TempDir::new().unwrap();
        let occupied = dir.path().join("occupied");
        fs::create_dir(&occupied).unwrap();
        fs::write(occupied.join("file"), "").unwrap();
        let error = write_private_atomic(&occupied, b"new").unwrap_err();
        assert_eq!(error.path, occupied);
        assert_eq!(entries(dir.path()), ["occupied"]);
        assert!(write_private_atomic(&dir.path().join("missing/file"), b"new").is_err());
        assert!(write_private_atomic(Path::new("/"), b"new").is_err());
    }

    #[test]
    fn root_leaves_files_and_directories_to_the_owner_of_the_place() {
        let dir = TempDir::new().unwrap();
        let owner = if nix::unistd::geteuid().is_root() { 65_534 } else { nix::unistd::geteuid().as_raw() };
        std::os::unix::fs::chown(dir.path(), Some(owner), None).unwrap();
        let (state, file, log) =
            (dir.path().join("state"), dir.path().join("state/file"), dir.path().join("state/log"));
        create_private_dir(&state).unwrap();
        write_private_atomic(&file, b"first").unwrap();
        write_private_atomic(&file, b"second").unwrap();
        open_log(&log).unwrap();
        for path in [state, file, log] {
            assert_eq!(fs::metadata(&path).unwrap().uid(), owner, "{}", path.display());
        }
    }

    #[test]
    fn a_directory_is_created_private_with_its_parents() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a/b/peerup");
        create_private_dir(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        create_private_dir(&path).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        create_private_dir(dir.path()).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o775)).unwrap();
        let error = create_private_dir(dir.path()).unwrap_err();
        assert_eq!(error.hint().unwrap(), format!("chmod 700 {}", dir.path().display()));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(create_private_dir(&file), Err(PrivateFileError::NotADirectory { .. })));
    }

    #[test]
    fn a_log_keeps_what_earlier_runs_wrote() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("peerup.log");
        open_log(&path).unwrap().write_all(b"one\n").unwrap();
        open_log(&path).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
        assert_eq!(mode(&path), 0o600);
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn entries(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}
