//! peerup on laboratory hosts: a relay, nodes, and what they say about themselves.
//!
//! Each node lives in its host's own home directory and finds its files there by itself, as a new user's would.

mod mallory;
mod node;
mod pair;
mod relay;
mod status;
mod user;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

pub use mallory::{Mallory, Reaction};
pub use node::{Invitation, Node};
pub use pair::{INVITER, JOINER, Pair, natted};
pub use relay::Relay;
pub use status::{PathView, PeerView, Status};
pub use user::{USER_ID, User};

use crate::host::Host;
use crate::process::Cmd;

/// The peerup to test: `PEERUP_BIN`, or the one built into the same target directory.
pub fn binary() -> Result<PathBuf> {
    let Some(named) = std::env::var_os("PEERUP_BIN") else {
        return crate::beside_this_program("peerup")
            .context("`cargo build -p peerup` makes it, PEERUP_BIN names another");
    };
    let path = std::path::absolute(PathBuf::from(named))?;
    ensure!(path.is_file(), "PEERUP_BIN: no file {}", path.display());
    Ok(path)
}

/// `peerup WORDS…` on a host.
fn peerup<W: Into<String>>(host: &Host, words: impl IntoIterator<Item = W>) -> Result<Cmd> {
    Ok(host.cmd(&binary()?.display().to_string()).args(words))
}
