//! The address book on disk. It is a convenience: one that cannot be read is begun anew.

use std::path::Path;

use peerup_reach::AddressBook;
use peerup_service::files::{WriteError, read_private, write_private_atomic};

/// A thousand peers with eight addresses each.
const LIMIT: u64 = 2 << 20;

pub fn read(path: &Path, unix_now: u64) -> AddressBook {
    let bytes = match read_private(path, LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.is_missing() => return AddressBook::default(),
        Err(error) => {
            tracing::warn!(%error, "the addresses of peers are not remembered");
            return AddressBook::default();
        }
    };
    let book = AddressBook::from_json(&String::from_utf8_lossy(&bytes), unix_now);
    book.unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "the addresses of peers are begun anew");
        AddressBook::default()
    })
}

pub fn write(path: &Path, book: &AddressBook) -> Result<(), WriteError> {
    write_private_atomic(path, book.to_json().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use peerup_types::PeerId;

    use super::*;

    #[test]
    fn a_book_is_kept_privately_and_a_damaged_one_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let path = dir.path().join("addresses.json");
        assert_eq!(read(&path, 7), AddressBook::default());
        let (mut book, peer) = (AddressBook::default(), PeerId::random());
        book.note(peer, &"/ip4/192.168.1.5/tcp/4001".parse().unwrap(), 7);
        write(&path, &book).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path, 8), book);
        write_private_atomic(&path, b"{\"schema\":1,\"peers\":[").unwrap();
        assert_eq!(read(&path, 8), AddressBook::default());
    }
}
