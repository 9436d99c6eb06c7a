//! A real sshd on a host, and the ssh client that may log in there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::anchor::{SSH_UID, SSH_USER, is_root};
use crate::host::Host;
use crate::process::{Cmd, Process, Show};

/// An sshd with its own host key, which lets one client host in.
pub struct Sshd {
    _process: Process,
    client: Host,
    client_config: PathBuf,
}

impl Sshd {
    pub fn start(server: &Host, client: &Host) -> Result<Self> {
        let (server_dir, client_dir) = (server.dir().join("sshd"), client.dir().join("ssh"));
        server.ask(&keygen(&server_dir, "host_key"))?;
        client.ask(&keygen(&client_dir, "id"))?;
        let public = client.read(&client_dir.join("id.pub"))?;
        server.write(&server_dir.join("authorized_keys"), public)?;
        server.write(&server_dir.join("config"), server_config(&server_dir))?;
        let client_config = client_dir.join("config");
        client.write(&client_config, client_config_text(&client_dir))?;
        let process = sshd(server, &server_dir)?;
        process.wait_for_line("Server listening", Duration::from_secs(10)).context("starting sshd")?;
        Ok(Self { _process: process, client: client.clone(), client_config })
    }

    /// `ssh ADDRESS COMMAND` on the client.
    pub fn ssh(&self, address: &str, command: &str) -> Cmd {
        self.client.cmd("ssh").args(self.options()).args([address, command])
    }

    /// `scp FILE ADDRESS:FILE` on the client.
    pub fn scp(&self, file: &str, address: &str, target: &str) -> Cmd {
        self.client.cmd("scp").args(self.options()).args([file.to_owned(), format!("{address}:{target}")])
    }

    fn options(&self) -> [String; 2] {
        ["-F".into(), self.client_config.display().to_string()]
    }
}

/// A root sshd changes users, which a laboratory with a single mapped id cannot: there it runs as a plain
/// user of a nested user namespace.
fn sshd(server: &Host, dir: &std::path::Path) -> Result<Process> {
    let config = dir.join("config").display().to_string();
    let words = ["/usr/sbin/sshd", "-D", "-e", "-f", &config];
    if is_root() {
        let shadow = dir.join("shadow");
        server.write(&shadow, "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\n")?;
        server.plumb(&format!("mount --bind {} /etc/shadow", shadow.display()))?;
        return server.cmd(words[0]).args(words[1..].iter().copied()).show(Show::Nothing).spawn();
    }
    let nested = ["--user".to_owned(), format!("--map-user={SSH_UID}"), format!("--map-group={SSH_UID}")];
    server.cmd("unshare").args(nested).args(words).show(Show::Nothing).spawn()
}

fn keygen(dir: &std::path::Path, name: &str) -> String {
    let dir = dir.display();
    format!("mkdir -p -m 700 {dir} && ssh-keygen -q -t ed25519 -N '' -C lab -f {dir}/{name}")
}

fn server_config(dir: &std::path::Path) -> String {
    let dir = dir.display();
    format!(
        "Port 22
HostKey {dir}/host_key
AuthorizedKeysFile {dir}/authorized_keys
PidFile none
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
"
    )
}

fn client_config_text(dir: &std::path::Path) -> String {
    let user = if is_root() { "root" } else { SSH_USER };
    let dir = dir.display();
    format!(
        "User {user}
IdentityFile {dir}/id
UserKnownHostsFile {dir}/known_hosts
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking accept-new
BatchMode yes
ConnectTimeout 15
LogLevel ERROR
"
    )
}
