//! A user, network and mount namespace of one's own, for one command of a user without privileges (namespaces(7)).
//!
//! Inside, the process keeps its user and group and holds every capability over what the namespaces own: links,
//! routes and mounts that nobody else sees. A program that is started from there holds none (capabilities(7), execve
//! by a user that is not root). The kernel takes everything away with the last process.
//!
//! Everything here concerns the calling thread alone and has to happen before there is a second one.
#![forbid(unsafe_code)]

mod command;
mod error;
mod farewell;
mod files;

pub use command::{Ended, run};
pub use error::{NamespaceError, Stage};
pub use farewell::deliver;
pub use files::{PrivateFiles, give_files};

use std::fs;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// Moves this thread into fresh namespaces.
pub fn enter() -> Result<(), NamespaceError> {
    let (uid, gid) = (geteuid(), getegid());
    let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    unshare(flags).map_err(|errno| NamespaceError::unshare(errno, &kernel_setting))?;
    // user_namespaces(7): a group may be mapped only by who cannot call setgroups(2) any more.
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{uid} {uid} 1"))?;
    write("/proc/self/gid_map", &format!("{gid} {gid} 1"))?;
    // Datagram sockets for ICMP (icmp(7)): what `ping` uses when it has no capability.
    let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", format!("{gid} {gid}"));
    Ok(())
}

fn write(path: &'static str, text: &str) -> Result<(), NamespaceError> {
    fs::write(path, text).map_err(|source| NamespaceError::Failed { stage: Stage::Map, source })
}

/// A number below /proc/sys.
fn kernel_setting(path: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{path}")).ok()?.trim().parse().ok()
}
