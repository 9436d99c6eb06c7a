//! The relay a user runs on a VPS.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::peerup;
use crate::host::Host;
use crate::logs;
use crate::process::{Cmd, Process, Show};
use crate::tools::usage::Memory;

const START: Duration = Duration::from_secs(10);

/// `peerup relay serve` on a host.
pub struct Relay {
    host: Host,
    address: String,
    pub id: String,
    serving: Option<Process>,
    /// What earlier runs said.
    before: String,
    show: Show,
}

impl Relay {
    /// Sets a relay up in `~/relay` and serves; `address` is its public IPv4 address.
    pub fn start(host: &Host, address: &str, show: Show) -> Result<Self> {
        let (address, id) = (address.to_owned(), String::new());
        let mut relay = Self { host: host.clone(), address, id, serving: None, before: String::new(), show };
        host.ask(&format!("mkdir -p -m 700 {}", relay.dir().display()))?;
        relay.relay(&["setup", "--non-interactive", "--dir", &relay.dir().display().to_string()])?.run()?;
        relay.serve()?;
        Ok(relay)
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn dir(&self) -> PathBuf {
        self.host.dir().join("home/relay")
    }

    pub fn config(&self) -> PathBuf {
        self.dir().join("relay-server.yaml")
    }

    pub fn serve(&mut self) -> Result<()> {
        let config = self.config().display().to_string();
        let serving = self.relay(&["serve", "--config", &config])?.show(quieter(self.show)).spawn()?;
        let line = serving.wait_for_line("Relay Peer ID:", START).context("starting the relay")?;
        self.id = line.rsplit(' ').next().unwrap_or_default().to_owned();
        self.serving = Some(serving);
        Ok(())
    }

    /// `kill -9` of the relay; `serve` starts it again.
    pub fn kill(&mut self) {
        self.before = self.output();
        self.serving = None;
    }

    /// What the relay said since it was set up.
    pub fn output(&self) -> String {
        let latest = self.serving.as_ref().map(Process::output).unwrap_or_default();
        self.before.clone() + &latest
    }

    pub fn is_running(&self) -> bool {
        self.serving.as_ref().is_some_and(Process::is_running)
    }

    pub fn authorize(&self, peer: &str, comment: &str) -> Result<()> {
        let config = self.config().display().to_string();
        self.relay(&["authorize", peer, comment, "--config", &config])?.run()?;
        Ok(())
    }

    /// Codes of a new group, one for each machine.
    pub fn pair(&self, count: usize) -> Result<Vec<String>> {
        let (config, count) = (self.config().display().to_string(), count.to_string());
        let made = self.relay(&["pair", "--count", &count, "--json", "--config", &config])?.run()?;
        let made: serde_json::Value = serde_json::from_str(&made.stdout)?;
        let codes = made["codes"].as_array().context("no codes")?;
        codes.iter().map(|code| Ok(code.as_str().context("no text")?.to_owned())).collect()
    }

    pub fn deauthorize(&self, peer: &str) -> Result<()> {
        let config = self.config().display().to_string();
        self.relay(&["deauthorize", peer, "--config", &config])?.run()?;
        Ok(())
    }

    /// Resident memory of the server in MiB.
    pub fn rss_mib(&self) -> Result<f64> {
        let mut programs = self.host.programs().into_iter();
        let (pid, _) = programs.find(|(_, line)| line.contains(" relay serve ")).context("no relay runs")?;
        Ok(Memory::of(pid)?.now_mib)
    }

    /// The address that `peerup init --relay` takes.
    pub fn multiaddr(&self) -> String {
        format!("/ip4/{}/tcp/7777/p2p/{}", self.address, self.id)
    }

    fn relay(&self, words: &[&str]) -> Result<Cmd> {
        Ok(peerup(&self.host, ["relay"].iter().chain(words).copied())?.show(self.show))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        logs::keep(self.host.name(), "relay", &self.output());
    }
}

/// A server's chatter would run through everything that follows.
fn quieter(show: Show) -> Show {
    match show {
        Show::Nothing => Show::Nothing,
        Show::Command | Show::CommandAndOutput => Show::Command,
    }
}
