//! The cookie: 32 random bytes in hex, new at each start of the daemon, readable only by the owner (ADR F02).

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown},
    path::Path,
};

use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq;

const HEX_LEN: u64 = 64;

#[derive(Clone)]
pub(crate) struct Cookie(String);

impl Cookie {
    pub(crate) fn generate() -> Self {
        Self(HEXLOWER.encode(&rand::random::<[u8; 32]>()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes the same time wherever the first difference is.
    pub(crate) fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }

    /// Replaces the file at `path`: created beside it, then renamed, so it is never readable by others and never half
    /// written.
    pub(crate) fn write(&self, path: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
        let temporary = path.with_extension(format!("{:08x}.tmp", rand::random::<u32>()));
        let written = self.write_new(&temporary, mode, owner).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn write_new(&self, path: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        // The umask may have taken a group away that is meant to read it.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(self.0.as_bytes())?;
        match owner {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// `InvalidData` when the file holds anything but a cookie.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        fs::File::open(path)?.take(HEX_LEN + 2).read_to_string(&mut text)?;
        let text = text.trim_end();
        if text.len() as u64 == HEX_LEN && HEXLOWER.decode(text.as_bytes()).is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "not a cookie of 64 hex digits"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_private_on_disk_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".daemon-cookie");
        let cookie = Cookie::generate();
        cookie.write(&path, 0o600, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Cookie::read(&path).unwrap().matches(cookie.as_str().as_bytes()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_the_very_cookie_matches() {
        let cookie = Cookie::generate();
        assert!(!cookie.matches(b""));
        assert!(!cookie.matches(Cookie::generate().as_str().as_bytes()));
        assert!(!cookie.matches(&cookie.as_str().as_bytes()[..63]));
    }

    #[test]
    fn a_file_that_is_no_cookie_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cookie");
        for bad in ["", "abc", &"g".repeat(64), &"a".repeat(65)] {
            fs::write(&path, bad).unwrap();
            assert_eq!(Cookie::read(&path).err().unwrap().kind(), io::ErrorKind::InvalidData, "{bad}");
        }
    }
}
