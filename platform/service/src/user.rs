//! On whose behalf this process runs.
//!
//! Under `sudo` the person at the keyboard is not root: their configuration is meant, their files keep their
//! owner, and the local API admits them. sudo says who they are in `SUDO_UID` and `SUDO_GID`; only root's word
//! counts there, since anybody can set a variable.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use nix::unistd::{Uid, User, getegid, geteuid};

/// The person (or service account) that started this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvokingUser {
    pub uid: u32,
    pub gid: u32,
    /// Missing for an account that the user database does not know, as in some containers.
    pub name: Option<String>,
    pub home_dir: PathBuf,
    /// Whether root acts for this user.
    pub through_sudo: bool,
    runtime_dir: PathBuf,
}

/// It cannot be said who started this process.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("sudo gives {variable}=\"{value}\", which is no user or group number")]
    BadSudoVariable { variable: &'static str, value: String },
    #[error("the home directory of user {uid} is unknown")]
    NoHome { uid: u32 },
}

impl UserError {
    pub fn hint(&self) -> &'static str {
        match self {
            Self::BadSudoVariable { .. } => "run it through sudo itself, or unset SUDO_UID and SUDO_GID",
            Self::NoHome { .. } => "set HOME, or name the configuration with --config",
        }
    }
}

impl InvokingUser {
    /// Asks the system.
    pub fn current() -> Result<Self, UserError> {
        let process = (geteuid().as_raw(), getegid().as_raw());
        resolve(process, |name| env::var(name).ok().filter(|value| !value.is_empty()), account, Path::is_dir)
    }

    /// Where sockets and other things that end with the session belong. Not created here.
    pub fn runtime_dir(&self) -> &Path {
        &self.runtime_dir
    }
}

/// Who owns a file or directory; `None` for a user that the database does not know.
pub fn owner_name(path: &Path) -> io::Result<Option<String>> {
    let uid = fs::metadata(path)?.uid();
    Ok(account(uid).map(|account| account.name))
}

/// What the user database knows about a user number.
struct Account {
    gid: u32,
    name: String,
    home_dir: PathBuf,
}

fn account(uid: u32) -> Option<Account> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
    Some(Account { gid: user.gid.as_raw(), name: user.name, home_dir: user.dir })
}

fn resolve(
    (euid, egid): (u32, u32),
    variable: impl Fn(&str) -> Option<String>,
    account: impl Fn(u32) -> Option<Account>,
    is_dir: impl Fn(&Path) -> bool,
) -> Result<InvokingUser, UserError> {
    let number = |name: &'static str| {
        let parse =
            |value: String| value.parse().map_err(|_| UserError::BadSudoVariable { variable: name, value });
        variable(name).map(parse).transpose()
    };
    let sudo_uid = if euid == 0 { number("SUDO_UID")?.filter(|uid| *uid != 0) } else { None };
    let through_sudo = sudo_uid.is_some();
    let uid = sudo_uid.unwrap_or(euid);
    let account = account(uid);
    let gid = match &account {
        _ if !through_sudo => egid,
        Some(account) => account.gid,
        None => number("SUDO_GID")?.unwrap_or(uid),
    };
    // HOME and XDG_RUNTIME_DIR are root's under sudo, or the user's, as sudo is configured: not to be relied on.
    let own_variable = |name| if through_sudo { None } else { variable(name).map(PathBuf::from) };
    let home_dir = own_variable("HOME")
        .or_else(|| account.as_ref().map(|account| account.home_dir.clone()))
        .filter(|home| home.is_absolute())
        .ok_or(UserError::NoHome { uid })?;
    let runtime_dir = own_variable("XDG_RUNTIME_DIR")
        .filter(|dir| dir.is_absolute())
        .unwrap_or_else(|| default_runtime_dir(uid, is_dir));
    Ok(InvokingUser {
        uid,
        gid,
        name: account.map(|account| account.name),
        home_dir,
        through_sudo,
        runtime_dir,
    })
}

/// systemd's directory for the user, root's own, or one in /tmp, whose owner `create_private_dir` checks.
fn default_runtime_dir(uid: u32, is_dir: impl Fn(&Path) -> bool) -> PathBuf {
    if uid == 0 {
        return "/run/peerup".into();
    }
    let session = PathBuf::from(format!("/run/user/{uid}"));
    if is_dir(&session) { session } else { format!("/tmp/peerup-{uid}").into() }
}

/// The host's name, without its domain; empty when the system does not tell.
pub fn host_name() -> String {
    let full = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    full.split('.').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: (u32, u32) = (0, 0);
    const ALICE: (u32, u32) = (1000, 1000);

    #[test]
    fn under_sudo_the_person_at_the_keyboard_is_meant() {
        let alice = user(ROOT, &[("SUDO_UID", "1000"), ("SUDO_GID", "4"), ("HOME", "/root")]).unwrap();
        assert_eq!((alice.uid, alice.gid, alice.name.as_deref()), (1000, 1000, Some("alice")));
        assert_eq!(alice.home_dir, Path::new("/home/alice"));
        assert_eq!(alice.runtime_dir(), Path::new("/run/user/1000"));
        assert!(alice.through_sudo);
    }

    #[test]
    fn without_sudo_the_process_speaks_for_itself() {
        let root = user(ROOT, &[("HOME", "/root")]).unwrap();
        assert_eq!((root.uid, root.home_dir.as_path()), (0, Path::new("/root")));
        assert_eq!(root.runtime_dir(), Path::new("/run/peerup"));
        assert!(!root.through_sudo);
        let alice = user(ALICE, &[("XDG_RUNTIME_DIR", "/run/mine")]).unwrap();
        assert_eq!(alice.home_dir, Path::new("/home/alice"));
        assert_eq!(alice.runtime_dir(), Path::new("/run/mine"));
        assert!(!alice.through_sudo);
    }

    #[test]
    fn a_user_cannot_claim_to_be_another_through_a_variable() {
        let alice = user(ALICE, &[("SUDO_UID", "1001"), ("HOME", "/home/elsewhere")]).unwrap();
        assert_eq!((alice.uid, alice.home_dir.as_path()), (1000, Path::new("/home/elsewhere")));
    }

    #[test]
    fn root_through_sudo_by_root_is_root() {
        let root = user(ROOT, &[("SUDO_UID", "0"), ("SUDO_GID", "0"), ("HOME", "/root")]).unwrap();
        assert!(!root.through_sudo);
    }

    #[test]
    fn an_account_without_an_entry_needs_home() {
        let stranger = (4242, 4242);
        assert!(matches!(user(stranger, &[]), Err(UserError::NoHome { uid: 4242 })));
        assert!(matches!(user(stranger, &[("HOME", "relative")]), Err(UserError::NoHome { uid: 4242 })));
        let known = user(stranger, &[("HOME", "/srv"), ("XDG_RUNTIME_DIR", "relative")]).unwrap();
        assert_eq!((known.name.as_deref(), known.runtime_dir()), (None, Path::new("/tmp/peerup-4242")));
    }

    #[test]
    fn a_garbled_sudo_variable_is_named() {
        let error = user(ROOT, &[("SUDO_UID", "alice")]).unwrap_err();
        assert_eq!(error.to_string(), "sudo gives SUDO_UID=\"alice\", which is no user or group number");
    }

    #[test]
    fn the_system_knows_who_runs_this_test() {
        assert!(InvokingUser::current().unwrap().home_dir.is_absolute());
    }

    fn user(process: (u32, u32), variables: &[(&str, &str)]) -> Result<InvokingUser, UserError> {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
        resolve(process, variable, known_accounts, |dir| dir == Path::new("/run/user/1000"))
    }

    fn known_accounts(uid: u32) -> Option<Account> {
        let account = |gid, name: &str, home: &str| Account { gid, name: name.into(), home_dir: home.into() };
        match uid {
            0 => Some(account(0, "root", "/root")),
            1000 => Some(account(1000, "alice", "/home/alice")),
            _ => None,
        }
    }
}
