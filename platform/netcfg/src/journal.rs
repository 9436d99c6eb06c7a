//! The file that says what has to be taken back.
//!
//! It lists every change that may have been made: written before the change, so after a crash it may list
//! things that never came to be, and never misses one that did. JSON, mode 0600, replaced atomically.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// Some 100,000 peers.
const MAX_LENGTH: u64 = 8 * 1024 * 1024;

/// The journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot read the network journal {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the network journal {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the network journal {} is damaged", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the network journal {} was written by another version of peerup (format {version})", path.display())]
    Version { path: PathBuf, version: u32 },
    #[error("the network journal {} is longer than {limit} bytes", path.display())]
    TooLong { path: PathBuf, limit: u64 },
}

impl JournalError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => (source.kind()
                == io::ErrorKind::PermissionDenied)
                .then_some("an earlier run may have been started with sudo: use sudo again"),
            Self::Damaged { .. } | Self::Version { .. } | Self::TooLong { .. } => Some(
                "remove what is left with `sudo ip route flush proto 112; sudo ip -6 route flush proto 112`, then delete the file",
            ),
        }
    }
}

/// What a link looked like before, to be restored if it outlives us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkBefore {
    pub(crate) index: u32,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    pub(crate) tx_queue_length: u32,
    pub(crate) address_generation: Option<u8>,
    /// An administrator made the device: it is not ours to remove.
    pub(crate) persistent: bool,
}

/// Everything that may have been changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    version: u32,
    pub(crate) interface: String,
    pub(crate) link: Option<LinkBefore>,
    pub(crate) addresses: BTreeSet<IpAddr>,
    pub(crate) peers: BTreeSet<IpAddr>,
    pub(crate) unreachable: BTreeSet<IpNet>,
}

impl Record {
    pub(crate) fn new(interface: String) -> Self {
        Self { version: VERSION, interface, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.link.is_none()
            && self.addresses.is_empty()
            && self.peers.is_empty()
            && self.unreachable.is_empty()
    }
}

/// The file and what it says.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    record: Record,
}

impl Journal {
    /// Reads what an earlier process left, or starts empty.
    pub(crate) fn open(path: PathBuf) -> Result<Self, JournalError> {
        let record = read(&path)?.unwrap_or_default();
        Ok(Self { path, record })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Makes the file say what `change` makes of the record; on failure the record stays as the file is.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), JournalError> {
        let mut record = self.record.clone();
        change(&mut record);
        if record != self.record {
            write(&self.path, &record)
                .map_err(|source| JournalError::Write { path: self.path.clone(), source })?;
            self.record = record;
        }
        Ok(())
    }

    /// Nothing is left to take back.
    pub(crate) fn delete(&mut self) -> Result<(), JournalError> {
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(JournalError::Write { path: self.path.clone(), source })
            }
            _ => {
                self.record = Record::default();
                Ok(())
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<Record>, JournalError> {
    let failed = |source| JournalError::Read { path: path.into(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_LENGTH + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_LENGTH {
        return Err(JournalError::TooLong { path: path.into(), limit: MAX_LENGTH });
    }
    parse(&bytes, path).map(Some)
}

fn parse(bytes: &[u8], path: &Path) -> Result<Record, JournalError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let damaged = |source| JournalError::Damaged { path: path.into(), source };
    let Version { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version != VERSION {
        return Err(JournalError::Version { path: path.into(), version });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// Temporary file, fsync, rename, fsync of the directory. Written by root in a user's directory, the file is the
/// user's: a daemon that has become that user has to replace it.
fn write(path: &Path, record: &Record) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = path.with_extension("tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    if nix::unistd::geteuid().is_root() {
        let owner = fs::metadata(directory)?;
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.write_all(&serde_json::to_vec_pretty(record)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_later_process_reads_what_was_noted() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("network.json");
        let mut journal = Journal::open(path.clone()).unwrap();
        assert!(journal.record().is_empty() && !path.exists());
        journal.update(fill).unwrap();
        assert_eq!(Journal::open(path.clone()).unwrap().record(), journal.record());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        journal.delete().unwrap();
        journal.delete().unwrap();
        assert!(!path.exists() && journal.record().is_empty());
    }

    #[test]
    fn a_failed_write_leaves_the_record_as_the_file_is() {
        let dir = TempDir::new().unwrap();
        let missing = dir.path().join("missing/network.json");
        let mut journal = Journal::open(missing).unwrap();
        assert!(matches!(journal.update(fill), Err(JournalError::Write { .. })));
        assert!(journal.record().is_empty());
    }

    #[test]
    fn a_temporary_file_left_by_a_crash_is_no_obstacle() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("network.tmp"), "half").unwrap();
        let mut journal = Journal::open(dir.path().join("network.json")).unwrap();
        journal.update(fill).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_or_foreign_journal_says_how_to_go_on() {
        let path = Path::new("network.json");
        for (text, want) in
            [("{", "is damaged"), ("{\"version\":1}", "is damaged"), ("{\"version\":2}", "format 2")]
        {
            let error = parse(text.as_bytes(), path).unwrap_err();
            assert!(error.to_string().contains(want), "{text}: {error}");
            assert!(error.hint().unwrap().contains("proto 112"));
        }
    }

    proptest! {
        #[test]
        fn every_record_survives_the_way_through_the_file(record in records()) {
            let bytes = serde_json::to_vec_pretty(&record).unwrap();
            prop_assert_eq!(parse(&bytes, Path::new("x")).unwrap(), record);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes, Path::new("x"));
        }
    }

    fn records() -> impl Strategy<Value = Record> {
        let peers = proptest::collection::btree_set(any::<IpAddr>(), 0..5);
        let link =
            (any::<u32>(), any::<bool>(), any::<u32>(), any::<u32>(), any::<Option<u8>>(), any::<bool>());
        let range = (any::<IpAddr>(), 0u8..=32).prop_map(|(address, len)| IpNet::new(address, len).unwrap());
        let unreachable = proptest::collection::btree_set(range, 0..3);
        ("[a-z0-9]{1,15}", proptest::option::of(link), peers.clone(), peers, unreachable).prop_map(
            |(interface, link, addresses, peers, unreachable)| {
                let link = link.map(|(index, up, mtu, tx_queue_length, address_generation, persistent)| {
                    LinkBefore { index, up, mtu, tx_queue_length, address_generation, persistent }
                });
                Record { link, addresses, peers, unreachable, ..Record::new(interface) }
            },
        )
    }

    fn fill(record: &mut Record) {
        *record = Record::new("peerup0".into());
        record.addresses.insert("10.64.0.1".parse().unwrap());
        record.unreachable.insert("10.64.0.0/16".parse().unwrap());
    }
}
