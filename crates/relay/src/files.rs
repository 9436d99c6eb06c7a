//! The files of a relay, read with their permissions checked and written in one step.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use peerup_config::{MAX_TEXT, RelayConfig};
use peerup_service::files::{
    LockError, PrivateFileError, WriteError, check_directory_of, lock_edits, read_private,
    write_private_atomic,
};
use peerup_trust::{
    NodeName,
    authorized_keys::{self, AddError, AuthorizedKeys, SetAttributeError},
    identity,
    pairing::{GroupId, Member, groups_of, with_group},
};
use peerup_types::{Keypair, PeerId};

use crate::error::RelayError;

const KEYS_HEADER: &str = "# Who may use this relay: one peer ID per line, a comment after #.\n";
/// More than a key, so that a longer file is called damaged rather than cut.
const KEY_LIMIT: u64 = 4096;

pub fn read_config_text(path: &Path) -> Result<String, RelayError> {
    read_text(path, MAX_TEXT as u64)
}

pub fn load_config(path: &Path) -> Result<RelayConfig, RelayError> {
    let text = read_config_text(path)?;
    let base = path.parent().unwrap_or(Path::new("."));
    RelayConfig::parse(&text, base).map_err(|source| RelayError::Config { path: path.to_owned(), source })
}

/// The identity, made at the first start.
pub fn load_or_create_identity(path: &Path) -> Result<Keypair, RelayError> {
    let invalid = |source| RelayError::Identity { path: path.to_owned(), source };
    check_directory_of(path)?;
    match read_private(path, KEY_LIMIT) {
        Ok(bytes) => identity::decode(&bytes).map_err(invalid),
        Err(error) if error.is_missing() => {
            let keypair = Keypair::generate_ed25519();
            write_private_atomic(path, &identity::encode(&keypair).map_err(invalid)?)?;
            Ok(keypair)
        }
        Err(error) => Err(error.into()),
    }
}

/// `relay_authorized_keys` as it was last understood.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    keys: AuthorizedKeys,
}

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the list of authorized keys cannot be read")]
    Read(#[from] RelayError),
    #[error(transparent)]
    Add(#[from] AddError),
    #[error("the group of the newcomer cannot be noted")]
    Attribute(#[from] SetAttributeError),
    #[error("the list of authorized keys is edited by another process")]
    Lock(#[from] LockError),
    #[error("the list of authorized keys cannot be written")]
    Write(#[from] WriteError),
}

impl KeyFile {
    /// Reads the file; a missing one is created without entries.
    pub fn load_or_create(path: PathBuf) -> Result<Self, RelayError> {
        let keys = match read(&path) {
            Err(RelayError::File(error)) if error.is_missing() => {
                write_private_atomic(&path, KEYS_HEADER.as_bytes())?;
                AuthorizedKeys::default()
            }
            other => other?,
        };
        Ok(Self { path, keys })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file again. On an error, which a half-finished edit may be, the list stays as it was; a file that
    /// is gone authorizes nobody.
    pub fn reload(&mut self) -> Result<(), RelayError> {
        self.keys = match read(&self.path) {
            Err(RelayError::File(error)) if error.is_missing() => AuthorizedKeys::default(),
            other => other?,
        };
        Ok(())
    }

    /// Adds a peer to the file as it is at this moment, whoever edited it since it was read.
    pub fn append(&mut self, peer: PeerId, comment: &str) -> Result<(), AppendError> {
        self.edit(|keys| Ok(keys.add(peer, Some(comment))?))
    }

    /// Makes a peer a member of a group. One that is authorized already stays what it is besides; a line that has
    /// expired is a limit that the owner set, and stands.
    pub fn admit(
        &mut self,
        member: &Member,
        group: GroupId,
        until: Option<u64>,
        unix_now: u64,
    ) -> Result<(), AppendError> {
        let peer = member.peer;
        self.edit(|keys| {
            let known = keys.get(&peer).map(|entry| entry.group().map(str::to_owned));
            if known.is_some() && !keys.is_authorized(&peer, unix_now) {
                return Err(AddError::Duplicate(peer).into());
            }
            if known.is_none() {
                let name = member.name.clone().unwrap_or_else(|| NodeName::of_peer(&peer));
                keys.add(peer, Some(name.as_str()))?;
                let until = until.map(peerup_clock::rfc3339);
                keys.set_attribute(&peer, "expires", until.as_deref())?;
            }
            let groups = with_group(known.flatten().as_deref(), group);
            Ok(keys.set_attribute(&peer, "group", Some(&groups))?)
        })
    }

    fn edit(
        &mut self,
        change: impl FnOnce(&mut AuthorizedKeys) -> Result<(), AppendError>,
    ) -> Result<(), AppendError> {
        let _alone = lock_edits(&self.path)?;
        let mut keys = match read(&self.path) {
            Err(RelayError::File(error)) if error.is_missing() => self.keys.clone(),
            other => other?,
        };
        change(&mut keys)?;
        write_private_atomic(&self.path, keys.to_text().as_bytes())?;
        self.keys = keys;
        Ok(())
    }

    /// The groups of a peer.
    pub fn groups_of(&self, peer: &PeerId) -> Vec<GroupId> {
        let entry = self.keys.get(peer);
        groups_of(entry.and_then(|entry| entry.group())).collect()
    }

    /// Who is in a group and authorized.
    pub fn members_of(&self, group: GroupId, unix_now: u64) -> Vec<Member> {
        let of_group =
            self.keys.entries().filter(|entry| groups_of(entry.group()).any(|other| other == group));
        let admitted = of_group.filter(|entry| self.keys.is_authorized(&entry.peer(), unix_now));
        admitted
            .map(|entry| Member { peer: entry.peer(), name: entry.comment().and_then(NodeName::sanitise) })
            .collect()
    }

    pub fn is_authorized(&self, peer: &PeerId, unix_now: u64) -> bool {
        self.keys.is_authorized(peer, unix_now)
    }

    pub fn authorized(&self, unix_now: u64) -> BTreeSet<PeerId> {
        let peers = self.keys.entries().map(|entry| entry.peer());
        peers.filter(|peer| self.keys.is_authorized(peer, unix_now)).collect()
    }

    pub fn next_expiry(&self, unix_now: u64) -> Option<u64> {
        self.keys.next_expiry(unix_now)
    }
}

fn read(path: &Path) -> Result<AuthorizedKeys, RelayError> {
    let text = read_text(path, authorized_keys::MAX_BYTES as u64)?;
    AuthorizedKeys::parse(&text).map_err(|source| RelayError::Keys { path: path.to_owned(), source })
}

fn read_text(path: &Path, limit: u64) -> Result<String, RelayError> {
    let bytes = read_private(path, limit).map_err(|error: PrivateFileError| RelayError::File(error))?;
    String::from_utf8(bytes).map_err(|_| RelayError::NotText { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_list_is_created_private_and_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay_authorized_keys");
        let file = KeyFile::load_or_create(path.clone()).unwrap();
        assert!(file.authorized(0).is_empty());
        assert_eq!(fs::read_to_string(&path).unwrap(), KEYS_HEADER);
        read_private(&path, 1000).unwrap();
    }

    #[test]
    fn appending_keeps_what_others_wrote_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let mut file = KeyFile::load_or_create(path.clone()).unwrap();
        let (theirs, ours) = (PeerId::random(), PeerId::random());
        let edited = format!("# mine\n{theirs}  color=red  # theirs");
        write_private_atomic(&path, edited.as_bytes()).unwrap();
        file.append(ours, "nas, vouched for by …x").unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{edited}\n{ours}  # nas, vouched for by …x\n")
        );
        assert_eq!(file.authorized(0), BTreeSet::from([theirs, ours]));
        assert!(matches!(file.append(ours, ""), Err(AppendError::Add(AddError::Duplicate(_)))));
    }

    #[test]
    fn a_member_keeps_what_it_was_and_an_expired_line_stands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let [known, expired, new] = std::array::from_fn(|_| PeerId::random());
        let text = format!("{known}  color=red  # mine\n{expired}  expires=2001-01-01T00:00:00Z\n");
        write_private_atomic(&path, text.as_bytes()).unwrap();
        let mut file = KeyFile::load_or_create(path.clone()).unwrap();
        let (group, now) = ("deadbeef".parse().unwrap(), 1_767_225_600);
        let mut admit = |peer, name: &str| {
            let member = Member { peer, name: NodeName::sanitise(name) };
            file.admit(&member, group, Some(now + 60), now)
        };
        admit(known, "other").unwrap();
        admit(new, "nas").unwrap();
        admit(new, "nas").unwrap();
        assert!(matches!(admit(expired, "x"), Err(AppendError::Add(AddError::Duplicate(_)))));
        let expected = format!(
            "{known}  color=red  group=deadbeef  # mine\n{expired}  expires=2001-01-01T00:00:00Z\n\
             {new}  expires=2026-01-01T00:01:00Z  group=deadbeef  # nas\n"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(file.members_of(group, now).len(), 2);
        assert_eq!(file.members_of(group, now + 60).len(), 1, "an expired member is introduced to nobody");
        assert_eq!(file.groups_of(&new), [group]);
    }

    #[test]
    fn a_damaged_list_changes_nothing_and_a_deleted_one_authorizes_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let peer = PeerId::random();
        write_private_atomic(&path, format!("{peer}\n").as_bytes()).unwrap();
        let mut file = KeyFile::load_or_create(path.clone()).unwrap();
        for damaged in [format!("{peer}\nrubb"), String::from("\u{0}")] {
            write_private_atomic(&path, damaged.as_bytes()).unwrap();
            assert!(matches!(file.reload(), Err(RelayError::Keys { .. })));
            assert!(matches!(file.append(PeerId::random(), ""), Err(AppendError::Read(_))));
            assert!(file.is_authorized(&peer, 0));
        }
        fs::remove_file(&path).unwrap();
        file.reload().unwrap();
        assert!(!file.is_authorized(&peer, 0));
    }

    #[test]
    fn the_identity_is_made_once_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay_node.key");
        let made = load_or_create_identity(&path).unwrap().public();
        assert_eq!(load_or_create_identity(&path).unwrap().public(), made);
        assert_eq!(fs::read(&path).unwrap()[..4], [0x08, 0x01, 0x12, 0x40]);
        write_private_atomic(&path, b"damaged").unwrap();
        assert!(matches!(load_or_create_identity(&path), Err(RelayError::Identity { .. })));
    }
}
