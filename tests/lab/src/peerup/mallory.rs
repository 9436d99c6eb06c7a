//! An authorised peer that misbehaves: a host with a key that a node trusts, and the program that abuses it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Node;
use crate::process::{Cmd, Output, Show};

/// The program is done in seconds; a flood on a busy machine takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// `peerup-mallory` on a host, trusted by one node.
pub struct Mallory {
    node: Node,
    address: String,
    victim: String,
    third: String,
}

impl Mallory {
    /// Makes `victim` trust the key of `node` and give it the overlay address `address`. `underlay` is where the
    /// victim listens, `third` the overlay address of another peer of the victim.
    pub fn trusted(node: Node, address: &str, victim: &Node, underlay: &str, third: &str) -> Result<Self> {
        let keys = victim.dir().join("authorized_keys");
        let line = format!("{}  ip={address}  # mallory\n", node.id()?);
        let before = victim.host().read(&keys)?;
        victim.host().write(&keys, before + &line)?;
        let known = || victim.status().is_ok_and(|status| status.peer(address).is_ok());
        victim.host().wait_until("mallory is trusted", Duration::from_secs(5), known)?;
        let victim = format!("{underlay}/p2p/{}", victim.id()?);
        Ok(Self { node, address: address.to_owned(), victim, third: third.to_owned() })
    }

    /// Commits one mischief and says what the victim made of it.
    pub fn commit(&self, mischief: &str) -> Result<Reaction> {
        let output = self.cmd(mischief)?.run()?;
        let said: Vec<&str> = output.stdout.lines().collect();
        ensure!(said.contains(&"committed"), "{output}");
        match said.last() {
            Some(&"closed") => Ok(Reaction::Closed),
            Some(&"answered") => Ok(Reaction::Answered),
            _ => Err(unexpected(&output)),
        }
    }

    fn cmd(&self, mischief: &str) -> Result<Cmd> {
        let key = self.node.dir().join("identity.key").display().to_string();
        let cmd = self.node.host().cmd(&binary()?.display().to_string());
        let cmd = cmd.args([&key, &self.victim, &self.address, &self.third, mischief]);
        Ok(cmd.deadline(DEADLINE).show(Show::CommandAndOutput))
    }
}

/// What the victim made of a mischief.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It closed the stream or the connection.
    Closed,
    /// It still answers honest packets on the same connection.
    Answered,
}

fn unexpected(output: &Output) -> anyhow::Error {
    anyhow::anyhow!("what mallory says is not understood: {output}")
}

/// `PEERUP_MALLORY_BIN`, or the one built into the same target directory.
fn binary() -> Result<PathBuf> {
    let Some(named) = std::env::var_os("PEERUP_MALLORY_BIN") else {
        return crate::beside_this_program("peerup-mallory")
            .context("`cargo build -p peerup-mallory` makes it, PEERUP_MALLORY_BIN names another");
    };
    let path = std::path::absolute(PathBuf::from(named))?;
    ensure!(path.is_file(), "PEERUP_MALLORY_BIN: no file {}", path.display());
    Ok(path)
}
