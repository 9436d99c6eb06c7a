//! Root acts for others: what it creates belongs to whoever owns the place.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use nix::fcntl::OFlag;

/// The directory that holds `path`; the working directory for a bare file name.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Opens a file in place, or creates it with mode 0600 for the owner of its directory.
pub(super) fn open_or_create(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let mut options = options.clone();
    options.custom_flags(OFlag::O_NOFOLLOW.bits());
    match options.clone().create_new(true).mode(0o600).open(path) {
        Ok(created) => give_to_owner_of_directory(&created, path).map(|()| created),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

/// Gives `file`, which is about to become `path`, to the owner of the file that it replaces, else to the owner
/// of its directory.
pub(super) fn give_to_owner_of_replaced(file: &File, path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(replaced) if replaced.is_file() => give(file, &replaced),
        _ => give_to_owner_of_directory(file, path),
    }
}

pub(super) fn give_to_owner_of_directory(file: &File, path: &Path) -> io::Result<()> {
    give(file, &fs::metadata(parent(path))?)
}

/// Only root can give files away, and only root needs to.
fn give(file: &File, to: &Metadata) -> io::Result<()> {
    let from = file.metadata()?;
    if !nix::unistd::geteuid().is_root() || (from.uid(), from.gid()) == (to.uid(), to.gid()) {
        return Ok(());
    }
    fchown(file, Some(to.uid()), Some(to.gid()))
}
