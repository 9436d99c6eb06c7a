//! A user without any privilege on a laboratory host.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::anchor::is_root;
use crate::host::Host;
use crate::process::{Cmd, Show};

/// The user's id, and that of the group.
pub const USER_ID: u32 = 1000;

/// An account with a home, no capabilities, and no way to gain any.
#[derive(Clone)]
pub struct User {
    host: Host,
}

impl User {
    /// Makes the account.
    pub fn on(host: &Host) -> Result<Self> {
        let user = Self { host: host.clone() };
        let home = user.home();
        let home = home.display();
        // A laboratory of a user has a single id, which is this one's too, seen from inside.
        let owner = if is_root() { USER_ID } else { 0 };
        host.plumb(&format!(
            "mkdir -m 700 {home}
             chown {owner}:{owner} {home}
             echo user:x:{USER_ID}:{USER_ID}::{home}:/bin/sh >> /etc/passwd
             echo '{USER_ID} {USER_ID}' > /proc/sys/net/ipv4/ping_group_range 2>/dev/null || true"
        ))?;
        Ok(user)
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn home(&self) -> PathBuf {
        self.host.dir().join("user")
    }

    /// A program that this user runs.
    pub fn cmd(&self, program: &str) -> Cmd {
        let home = self.home().display().to_string();
        let id = USER_ID.to_string();
        let cmd = match is_root() {
            true => self.host.cmd("setpriv").args(["--reuid", &id, "--regid", &id, "--clear-groups"]).args([
                "--inh-caps=-all",
                "--ambient-caps=-all",
                "--bounding-set=-all",
            ]),
            false => self.host.cmd("unshare").args([
                "--user".to_owned(),
                format!("--map-user={id}"),
                format!("--map-group={id}"),
            ]),
        };
        cmd.arg("--").arg(program).env("HOME", home).env("USER", "user")
    }

    /// Asks with a shell script, unprinted.
    pub fn ask(&self, script: &str) -> Result<String> {
        self.cmd("sh").args(["-c", script]).show(Show::Nothing).run().map(|output| output.stdout)
    }

    /// Opens a TUN node of this host's own to everybody, as desktop distributions have it. Only a real root can make
    /// one; elsewhere the machine's own has to be open already.
    pub fn open_tun(&self) -> Result<()> {
        if !is_root() {
            return crate::require_tun();
        }
        let dir = tempdir(self.host.name())?;
        let node = dir.join("tun");
        let made = Command::new("mknod").args(["-m", "666"]).arg(&node).args(["c", "10", "200"]).status()?;
        ensure!(made.success(), "mknod {}", node.display());
        let mounted = self.host.plumb(&format!("mount --bind {} /dev/net/tun", node.display()));
        let _ = std::fs::remove_dir_all(&dir);
        mounted.map(drop).context("an open TUN node")
    }
}

fn tempdir(name: &str) -> Result<PathBuf> {
    let dir = Path::new("/tmp").join(format!("peerup-lab-tun-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}
