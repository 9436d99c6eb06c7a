//! Snapshots of the command line: input, output and exit code kept as files in `cmd/`, run against the built binary.
//!
//! Everything here works without a daemon and without privileges; what needs a network is in `tests/lab`. Rewrite the
//! snapshots with `TRYCMD=overwrite cargo test -p peerup-cli-tests` and read the difference.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod daemon;
mod node;
mod process;

pub use daemon::{Daemon, code, own_uid, stderr, stdout};
pub use node::{Node, own_id, path, peer_id};
pub use process::{Process, command, run, write};

use std::{
    env,
    path::{Path, PathBuf},
};

/// The binary under test: `PEERUP_BIN`, else the one that was built into this test's own target directory.
///
/// # Panics
/// When there is none: a run without the binary must not pass.
pub fn peerup() -> PathBuf {
    let binary = env::var_os("PEERUP_BIN").map_or_else(beside_the_test, PathBuf::from);
    assert!(
        binary.is_file(),
        "{} is missing: run `cargo build -p peerup`, or set PEERUP_BIN",
        binary.display()
    );
    binary
}

/// Tests live in `target/<profile>/deps`.
fn beside_the_test() -> PathBuf {
    let test = env::current_exe().expect("a running test has a path");
    let profile = test.ancestors().nth(2).unwrap_or(Path::new("."));
    profile.join("peerup")
}
