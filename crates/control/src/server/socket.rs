//! Creating the socket so that it is never open to others, not even for a moment, and without touching the umask
//! (which belongs to the whole process).

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{net::UnixStream, time::timeout};

use super::BindError;

/// A daemon that does not accept within this time is taken for dead.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// The two files of a running server; dropping removes them.
pub(super) struct SocketFiles {
    socket: PathBuf,
    cookie: PathBuf,
    inode: u64,
}

impl SocketFiles {
    pub(super) fn cookie(&self) -> &Path {
        &self.cookie
    }

    pub(super) fn cookie_error(&self, source: io::Error) -> BindError {
        BindError::Cookie { cookie: self.cookie.clone(), source }
    }

    fn is_ours(&self) -> bool {
        fs::symlink_metadata(&self.socket).is_ok_and(|found| found.ino() == self.inode)
    }
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        if self.is_ours() {
            let _ = fs::remove_file(&self.socket);
            let _ = fs::remove_file(&self.cookie);
        }
    }
}

pub(super) async fn bind(
    socket: PathBuf,
    cookie: PathBuf,
    mode: u32,
    owner: Option<(u32, u32)>,
) -> Result<(UnixListener, SocketFiles), BindError> {
    let failed = |source| BindError::Socket { socket: socket.clone(), source };
    // Two daemons that start together take turns: the lock lasts until the socket stands.
    let _turn = lock_directory(&socket).await.map_err(failed)?;
    if answers(&socket).await {
        return Err(BindError::AlreadyRunning { socket });
    }
    let (listener, inode) = create(&socket, mode, owner).map_err(failed)?;
    Ok((listener, SocketFiles { socket, cookie, inode }))
}

/// An exclusive `flock` on the directory of `socket`; leaves no file behind.
async fn lock_directory(socket: &Path) -> io::Result<File> {
    let directory = File::open(parent(socket))?;
    let locked = tokio::task::spawn_blocking(move || directory.lock().map(|()| directory));
    locked.await.map_err(io::Error::other)?
}

async fn answers(socket: &Path) -> bool {
    matches!(timeout(DIAL_TIMEOUT, UnixStream::connect(socket)).await, Ok(Ok(_)))
}

/// Binds in a fresh directory that only this user can enter, sets mode and owner, and renames the finished socket to
/// its name; a stale socket there is replaced.
fn create(socket: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<(UnixListener, u64)> {
    refuse_other_files(socket)?;
    // Shorter than `peerup.sock`: sun_path holds 108 bytes.
    let nursery = parent(socket).join(format!(".{:06x}", rand::random::<u32>() >> 8));
    DirBuilder::new().mode(0o700).create(&nursery)?;
    let created = create_in(&nursery, socket, mode, owner);
    let _ = fs::remove_dir_all(&nursery);
    created
}

fn create_in(
    nursery: &Path,
    socket: &Path,
    mode: u32,
    owner: Option<(u32, u32)>,
) -> io::Result<(UnixListener, u64)> {
    let newborn = nursery.join("s");
    let listener = UnixListener::bind(&newborn)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(&newborn, Permissions::from_mode(mode))?;
    if let Some((uid, gid)) = owner {
        chown(&newborn, Some(uid), Some(gid))?;
    }
    let inode = fs::symlink_metadata(&newborn)?.ino();
    fs::rename(&newborn, socket)?;
    Ok((listener, inode))
}

/// Only a socket may be replaced: a regular file of that name is somebody's data.
fn refuse_other_files(socket: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match fs::symlink_metadata(socket) {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is in the way"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn parent(socket: &Path) -> &Path {
    match socket.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    }
}
