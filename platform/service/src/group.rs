//! A group of users that the operating system knows.

use std::{
    ffi::CString,
    fs::{self, Permissions},
    io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// Owner everything, group list and enter, others nothing; what is created inside belongs to the group.
const SHARED: u32 = 0o2750;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserGroup {
    pub gid: u32,
    pub name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    #[error("there is no group \"{name}\" on this machine")]
    Unknown { name: String },
    #[error("cannot give {} to the group \"{name}\"", dir.display())]
    Share { name: String, dir: PathBuf, source: io::Error },
}

impl GroupError {
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { name } => format!("create it with `groupadd {name}`, or remove api.group"),
            Self::Share { name, .. } => {
                format!("start the daemon as root, or as a member of {name}")
            }
        }
    }
}

impl UserGroup {
    pub fn named(name: &str) -> Result<Self, GroupError> {
        let unknown = || GroupError::Unknown { name: name.to_owned() };
        let group = Group::from_name(name).ok().flatten().ok_or_else(unknown)?;
        Ok(Self { gid: group.gid.as_raw(), name: group.name })
    }

    /// Whether `uid`, whose process runs under `gid`, belongs to the group. Asks the user database.
    pub fn has_member(&self, uid: u32, gid: u32) -> bool {
        gid == self.gid || supplementary(uid).is_some_and(|groups| groups.contains(&Gid::from_raw(self.gid)))
    }

    /// Lets the group into `dir`, which is this process's own. Root does it before it gives up its privileges; from
    /// then on what is created there is the group's without any.
    pub fn share(&self, dir: &Path) -> Result<(), GroupError> {
        let failed = |source| GroupError::Share { name: self.name.clone(), dir: dir.into(), source };
        chown(dir, None, Some(self.gid)).map_err(failed)?;
        fs::set_permissions(dir, Permissions::from_mode(SHARED)).map_err(failed)
    }
}

fn supplementary(uid: u32) -> Option<Vec<Gid>> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
    getgrouplist(&CString::new(user.name).ok()?, user.gid).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use nix::unistd::{getegid, geteuid};

    use super::*;

    #[test]
    fn a_group_has_the_members_the_system_says() {
        let root = UserGroup::named("root").unwrap();
        assert_eq!(root.gid, 0);
        assert!(root.has_member(0, 0) && root.has_member(0, 12_345));
        // A number without an account, in a group of its own.
        assert!(!root.has_member(4_000_000, 4_000_000) && root.has_member(4_000_000, 0));
        assert!(UserGroup::named("no-such-group-here").unwrap_err().hint().contains("groupadd"));
    }

    #[test]
    fn a_shared_directory_hands_its_group_on() {
        let dir = tempfile::tempdir().unwrap();
        let group = UserGroup { gid: getegid().as_raw(), name: "own".into() };
        group.share(dir.path()).unwrap();
        let metadata = fs::metadata(dir.path()).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.gid()), (SHARED, group.gid));
        if geteuid().is_root() {
            let other = UserGroup { gid: 54_321, name: "other".into() };
            other.share(dir.path()).unwrap();
            fs::write(dir.path().join("f"), "").unwrap();
            assert_eq!(fs::metadata(dir.path().join("f")).unwrap().gid(), 54_321);
        }
    }
}
