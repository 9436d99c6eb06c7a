//! Giving up what a daemon does not need.
//!
//! A node needs `CAP_NET_ADMIN` for as long as it runs: addresses, routes and the TUN device follow what its
//! peers do. Nothing else of root's power is of use to it, and it parses what strangers send. So it becomes the
//! owner of its files ([`Target::owner_of`]; capabilities(7), "Effect of user ID changes on capabilities") and
//! drops the rest for good: permitted, effective, inheritable, ambient and bounding sets, and with no_new_privs
//! also whatever a set-user-ID program would give back. A relay and a host that only pairs keep nothing.
//!
//! Capabilities belong to threads: this has to happen before the first thread is started.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, User, getegid, geteuid, initgroups, setgroups, setresgid, setresuid};

/// The account to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub uid: u32,
    pub gid: u32,
}

impl Target {
    /// Whom root should become to work in `dir`: its owner, whose files everything in there is. Under sudo that is
    /// the person at the keyboard, for a service account's directory the service account. `None` when there is
    /// nothing to change: this process is not root, or the directory is root's own.
    pub fn owner_of(dir: &Path) -> Result<Option<Self>, PrivilegeError> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let owner = fs::metadata(dir).map_err(|source| PrivilegeError::Owner { dir: dir.into(), source })?;
        let known = User::from_uid(Uid::from_raw(owner.uid())).ok().flatten();
        let gid = known.map_or(owner.gid(), |user| user.gid.as_raw());
        Ok((owner.uid() != 0).then_some(Self { uid: owner.uid(), gid }))
    }
}

/// What the process still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// A node: TUN device, addresses, routes.
    NetAdmin,
    /// A relay on ports below 1024, which binds them again when its swarm is rebuilt.
    LowPorts,
    /// Any other relay, a node without an interface, a host that only pairs.
    Nothing,
}

impl Keep {
    fn capabilities(self) -> CapsHashSet {
        match self {
            Self::NetAdmin => CapsHashSet::from([Capability::CAP_NET_ADMIN]),
            Self::LowPorts => CapsHashSet::from([Capability::CAP_NET_BIND_SERVICE]),
            Self::Nothing => CapsHashSet::new(),
        }
    }
}

/// What the process holds after [`drop_privileges`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub uid: u32,
    pub gid: u32,
    pub net_admin: bool,
    /// Whether this process or a program it starts can gain privileges again.
    pub no_new_privileges: bool,
}

/// The process may still hold what it should not: it has to end.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    #[error("cannot find out who owns {}", dir.display())]
    Owner {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot take the groups of user {uid}")]
    Groups {
        uid: u32,
        #[source]
        source: Errno,
    },
    #[error("cannot become user {uid}, group {gid}")]
    SwitchUser {
        uid: u32,
        gid: u32,
        #[source]
        source: Errno,
    },
    #[error("cannot reduce the capabilities")]
    Capabilities(#[source] CapsError),
    #[error("cannot set no_new_privs")]
    NoNewPrivileges(#[source] Errno),
}

/// Whether this thread may change interfaces, addresses and routes.
pub fn has_net_admin() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN).unwrap_or(false)
}

/// Becomes `target` and keeps nothing but `keep`, as far as it was there to begin with. Changes nothing for a
/// process that holds no capability and is `target` already. Call it before the first thread starts.
pub fn drop_privileges(target: Option<Target>, keep: Keep) -> Result<Held, PrivilegeError> {
    let permitted = caps::read(None, CapSet::Permitted).map_err(PrivilegeError::Capabilities)?;
    let target = target.filter(|target| target.uid != geteuid().as_raw() || target.gid != getegid().as_raw());
    if target.is_some() || !permitted.is_empty() {
        let kept: CapsHashSet = permitted.intersection(&keep.capabilities()).copied().collect();
        reduce_bounding_set(&kept);
        if let Some(target) = target {
            become_user(target)?;
        }
        reduce_capabilities(&kept).map_err(PrivilegeError::Capabilities)?;
        prctl::set_no_new_privs().map_err(PrivilegeError::NoNewPrivileges)?;
    }
    Ok(held())
}

fn held() -> Held {
    Held {
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        net_admin: has_net_admin(),
        no_new_privileges: prctl::get_no_new_privs().unwrap_or(false),
    }
}

/// Best effort: it takes CAP_SETPCAP, and no_new_privs closes the same door.
fn reduce_bounding_set(kept: &CapsHashSet) {
    for capability in caps::all().difference(kept) {
        if let Err(error) = caps::drop(None, CapSet::Bounding, *capability) {
            tracing::debug!(%capability, %error, "stays in the bounding set");
            return;
        }
    }
}

fn become_user(target: Target) -> Result<(), PrivilegeError> {
    let Target { uid, gid } = target;
    let switch = |source| PrivilegeError::SwitchUser { uid, gid, source };
    prctl::set_keepcaps(true).map_err(switch)?;
    take_groups(target).map_err(|source| PrivilegeError::Groups { uid, source })?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setresgid(gid, gid, gid).map_err(switch)?;
    setresuid(uid, uid, uid).map_err(switch)?;
    prctl::set_keepcaps(false).map_err(switch)
}

/// The user's own supplementary groups, or none for an account without an entry: root's must not stay.
fn take_groups(target: Target) -> Result<(), Errno> {
    let gid = Gid::from_raw(target.gid);
    let name = User::from_uid(Uid::from_raw(target.uid))
        .ok()
        .flatten()
        .and_then(|user| CString::new(user.name).ok());
    match name {
        Some(name) => initgroups(&name, gid),
        None => setgroups(&[gid]),
    }
}

/// After a change of user the effective set is empty and the permitted one complete; the effective set has to
/// stay inside the permitted one at every step.
fn reduce_capabilities(kept: &CapsHashSet) -> Result<(), CapsError> {
    // Kernels before 4.3 have no ambient set, and nothing in it.
    let _ = caps::clear(None, CapSet::Ambient);
    caps::clear(None, CapSet::Effective)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Permitted, kept)?;
    caps::set(None, CapSet::Effective, kept)
}
