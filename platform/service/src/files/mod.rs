//! Files that hold secrets or state: private to their owner, never half-written, never used by two at once.

mod commit;
mod edit;
mod lock;
mod owner;
mod private;
mod token;

pub use commit::{ConfigStore, StoreError};
pub use edit::{EditFileError, edit_private, lock_edits};
pub use lock::{FileLock, LockError};
pub use private::{
    PrivateFileError, WriteError, check_directory_of, create_private_dir, open_log, read_private,
    write_private_atomic,
};
pub use token::{TokenError, secret_token};
