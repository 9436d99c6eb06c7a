//! A secret that is made once and kept in a file.

use std::path::Path;

use super::{PrivateFileError, WriteError, read_private, write_private_atomic};

/// Bytes of randomness; the file holds them in hexadecimal.
const SECRET: usize = 32;
const LIMIT: u64 = 256;

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(transparent)]
    Read(#[from] PrivateFileError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the system has no randomness")]
    Random(#[from] getrandom::Error),
}

/// The token in `file`, made when there is none.
pub fn secret_token(file: &Path) -> Result<String, TokenError> {
    match read_private(file, LIMIT) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
        Err(error) if error.is_missing() => {
            let mut secret = [0; SECRET];
            getrandom::fill(&mut secret)?;
            let token = data_encoding::HEXLOWER.encode(&secret);
            write_private_atomic(file, token.as_bytes())?;
            Ok(token)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_then_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".metrics-token");
        let token = secret_token(&file).unwrap();
        assert_eq!(token.len(), 2 * SECRET);
        assert_eq!(secret_token(&file).unwrap(), token);
    }
}
