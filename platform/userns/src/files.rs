//! Files that only this namespace sees: names of the overlay in /etc/hosts, and a resolver that leads nowhere else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use crate::{NamespaceError, Stage};

/// Sockets of services that would resolve names outside of this namespace (nss-resolve(8), nscd(8)). Without them
/// the library reads /etc/hosts and /etc/resolv.conf itself.
const RESOLVERS: [&str; 3] = ["/run/systemd/resolve", "/run/nscd", "/var/run/nscd"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateFiles {
    pub hosts: String,
    pub resolv_conf: String,
}

/// Puts the files in place of the host's. `dir` is a directory of this user's; what is written to it may be removed
/// as soon as this returns.
pub fn give_files(files: &PrivateFiles, dir: &Path) -> Result<(), NamespaceError> {
    let failed = |source| NamespaceError::Failed { stage: Stage::Mount, source };
    // Nothing that happens here shows outside; what happens outside still shows here.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(|errno| failed(errno.into()))?;
    let resolv = Path::new("/etc/resolv.conf");
    // Found before the directory it may lie in is covered.
    let real = fs::canonicalize(resolv);
    for covered in RESOLVERS.iter().map(Path::new).filter(|path| path.is_dir()) {
        cover(covered).map_err(failed)?;
    }
    replace(Path::new("/etc/hosts"), &files.hosts, dir).map_err(failed)?;
    match real {
        Ok(real) if RESOLVERS.iter().any(|covered| real.starts_with(covered)) => {
            fs::write(&real, &files.resolv_conf).map_err(failed)
        }
        Ok(real) => replace(&real, &files.resolv_conf, dir).map_err(failed),
        // A host without the file has no resolver either.
        Err(_) => Ok(()),
    }
}

fn cover(path: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("mode=755,size=64k"))?)
}

fn replace(path: &Path, text: &str, dir: &Path) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let ours: PathBuf = dir.join(path.file_name().unwrap_or_default());
    fs::write(&ours, text)?;
    mount(Some(&ours), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    fs::remove_file(&ours)
}
