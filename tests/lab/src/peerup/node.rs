//! A peerup node on a host, driven by its command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Status, User, binary, peerup};
use crate::host::Host;
use crate::process::{Cmd, Output, Process, Show};
use crate::tools::usage::{self, Memory};

/// How long a command may take that talks to somebody else.
const COMMAND: Duration = Duration::from_secs(40);

/// The node of a host's only user.
#[derive(Clone)]
pub struct Node {
    host: Host,
    show: Show,
    user: Option<User>,
}

impl Node {
    pub fn new(host: Host, show: Show) -> Self {
        Self { host, show, user: None }
    }

    /// The node of a user without privileges.
    pub fn of_user(user: User, show: Show) -> Self {
        Self { host: user.host().clone(), show, user: Some(user) }
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn name(&self) -> &str {
        self.host.name()
    }

    /// Where the node keeps everything.
    pub fn dir(&self) -> PathBuf {
        let home = self.user.as_ref().map_or_else(|| self.host.dir().join("home"), User::home);
        home.join(".config/peerup")
    }

    /// `peerup WORDS…`.
    pub fn cmd<W: Into<String>>(&self, words: impl IntoIterator<Item = W>) -> Result<Cmd> {
        let cmd = match &self.user {
            None => peerup(&self.host, words)?,
            Some(user) => user.cmd(&binary()?.display().to_string()).args(words),
        };
        Ok(cmd.deadline(COMMAND).show(self.show))
    }

    /// Runs `peerup WORDS…` and insists on exit code 0.
    pub fn peerup<W: Into<String>>(&self, words: impl IntoIterator<Item = W>) -> Result<Output> {
        self.cmd(words)?.run()
    }

    pub fn init(&self, relay: &str) -> Result<()> {
        self.peerup(["init", "--non-interactive", "--name", self.name(), "--relay", relay])?;
        Ok(())
    }

    /// Sets the node up for a network that has only multicast DNS.
    pub fn init_without_relay(&self) -> Result<()> {
        self.peerup(["init", "--non-interactive", "--name", self.name()])?;
        Ok(())
    }

    /// This node's peer ID.
    pub fn id(&self) -> Result<String> {
        Ok(self.peerup(["whoami"])?.stdout.trim().to_owned())
    }

    /// Fixes the overlay address in the config that `init` wrote.
    pub fn fix_address(&self, address: &str) -> Result<()> {
        let file = self.dir().join("config.yaml");
        let text = self.host.read(&file)?;
        ensure!(text.contains("\nvpn:\n"), "no vpn section in {text}");
        self.host.write(&file, text.replacen("\nvpn:\n", &format!("\nvpn:\n  address: {address}\n"), 1))
    }

    /// Opens an invitation, which lasts until somebody joined.
    pub fn invite(&self) -> Result<Invitation> {
        let mut process = self.cmd(["invite", "--non-interactive", "--name", self.name()])?.spawn()?;
        process.close_stdin();
        let code =
            process.wait_for_first_line(Duration::from_secs(20)).context("waiting for the invite code")?;
        ensure!(!code.trim().is_empty(), "the invite code is an empty line");
        Ok(Invitation { process, code: code.trim().to_owned() })
    }

    pub fn join(&self, code: &str) -> Result<Output> {
        self.join_cmd(code)?.run()
    }

    pub fn join_cmd(&self, code: &str) -> Result<Cmd> {
        let cmd = self.cmd(["join", "--non-interactive", "--name", self.name()])?;
        Ok(cmd.env("PEERUP_INVITE_CODE", code))
    }

    pub fn up(&self) -> Result<Output> {
        self.peerup(["up"])
    }

    pub fn down(&self) -> Result<Output> {
        self.peerup(["down"])
    }

    pub fn status(&self) -> Result<Status> {
        let output = self.cmd(["status", "--json"])?.show(Show::Nothing).try_run()?;
        // Degraded (3) is an answer too.
        ensure!(matches!(output.code, Some(0 | 3)), "{output}");
        Status::parse(&output.stdout)
    }

    /// The class of the path to a peer; empty while there is none or no daemon answers.
    pub fn class(&self, peer: &str) -> String {
        self.status().and_then(|status| status.class(peer)).unwrap_or_default()
    }

    /// Direct connections to peers over QUIC.
    pub fn quic_connections(&self) -> Result<usize> {
        let paths: serde_json::Value = serde_json::from_str(&self.peerup(["paths", "--json"])?.stdout)?;
        let paths = paths.as_array().context("no list of paths")?.iter();
        Ok(paths.filter(|path| path["path_type"] == "DIRECT" && path["transport"] == "quic").count())
    }

    /// Waits until the path to a peer is of this class; says how long it took.
    pub fn wait_for_class(&self, peer: &str, class: &str, deadline: Duration) -> Result<Duration> {
        let what = format!("the path to {peer} is {class}");
        let waited = self.host.wait_until(&what, deadline, || self.class(peer) == class);
        waited.with_context(|| match self.status() {
            Ok(status) => format!("status: {}", status.0),
            Err(error) => format!("status: {error:#}"),
        })
    }

    /// `kill -9` of the daemon, until it is gone.
    pub fn kill_daemon(&self) -> Result<()> {
        let pid = self.daemon_pid()?;
        kill(pid, Signal::SIGKILL)?;
        // An ending process loses its command line first and its locks last; its entry in /proc outlives both.
        let entry = PathBuf::from(format!("/proc/{pid}"));
        self.host.wait_until("the daemon is gone", Duration::from_secs(3), || !entry.exists()).map(drop)
    }

    /// Waits until no peerup runs on the host; a daemon that refuses to start ends a moment after it said so.
    pub fn wait_for_no_daemon(&self) -> Result<Duration> {
        let gone = || self.daemons().is_ok_and(|daemons| daemons.is_empty());
        self.host.wait_until("no daemon runs", Duration::from_secs(3), gone)
    }

    /// The daemon's process id.
    pub fn daemon_pid(&self) -> Result<Pid> {
        let daemons = self.daemons()?;
        let [pid] = daemons[..] else { bail!("{} runs {} daemons", self.name(), daemons.len()) };
        Ok(pid)
    }

    fn daemons(&self) -> Result<Vec<Pid>> {
        let program = format!("{} ", binary()?.display());
        let programs = self.host.programs().into_iter();
        Ok(programs.filter(|(_, line)| line.starts_with(&program)).map(|(pid, _)| pid).collect())
    }

    /// Asks the daemon to log what became of packets that went nowhere (it does on SIGHUP, and when it stops).
    pub fn report_drops(&self) {
        if let Ok(daemon) = self.daemon_pid() {
            let _ = kill(daemon, Signal::SIGHUP);
        }
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(self.daemon_pid()?, signal)?)
    }

    /// CPU seconds the daemon has used; the kernel counts in hundredths.
    pub fn cpu_seconds(&self) -> Result<f64> {
        usage::cpu_seconds(self.daemon_pid()?)
    }

    /// Resident memory of the daemon in MiB.
    pub fn rss_mib(&self) -> Result<f64> {
        Ok(Memory::of(self.daemon_pid()?)?.now_mib)
    }

    pub fn log(&self) -> String {
        self.host.read(&self.dir().join("peerup.log")).unwrap_or_default()
    }
}

/// An open invitation.
pub struct Invitation {
    process: Process,
    pub code: String,
}

impl Invitation {
    /// Waits until `invite` ends by itself.
    pub fn end(mut self, deadline: Duration) -> Result<Output> {
        self.process.wait(deadline)
    }

    /// Waits until somebody joined.
    pub fn joined(self) -> Result<()> {
        let output = self.end(Duration::from_secs(15))?;
        ensure!(output.code == Some(0), "{output}");
        Ok(())
    }

    pub fn is_open(&self) -> bool {
        self.process.is_running()
    }
}
