//! A host: what runs on it and which cables it has.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::anchor::{Anchor, HostNamespaces, STATE_DIR};
use crate::nat::Nat;
use crate::process::{Cmd, Output, Process, Show, process_dirs};
use crate::segment::Segment;
use crate::wire::{DEVICE_QUEUE, Impairment, TapEnd, Wire};

/// A machine of the laboratory; clones name the same machine.
#[derive(Clone)]
pub struct Host {
    pub(crate) inner: Arc<HostInner>,
}

pub(crate) struct HostInner {
    name: String,
    anchor: Arc<Anchor>,
    namespaces: HostNamespaces,
    next_link: AtomicU32,
    wires: Mutex<Vec<Wire>>,
}

/// One network interface of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    /// The other end of the cable, in the laboratory's switch room.
    pub(crate) port: String,
}

impl Host {
    pub(crate) fn start(anchor: Arc<Anchor>, name: &str) -> Result<Self> {
        let namespaces = anchor.host(name).with_context(|| format!("making host {name}"))?;
        let inner = HostInner {
            name: name.to_owned(),
            anchor,
            namespaces,
            next_link: AtomicU32::new(0),
            wires: Mutex::new(Vec::new()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Attaches the host to a segment with the given addresses ("203.0.113.3 2001:db8::3").
    pub fn on(self, segment: &Segment, addresses: &str) -> Result<Self> {
        self.attach(segment, addresses)?;
        Ok(self)
    }

    /// As [`Host::on`], over a cable with the given faults.
    pub fn on_impaired(self, segment: &Segment, addresses: &str, impairment: Impairment) -> Result<Self> {
        let link = self.new_link();
        let port = segment.next_port();
        let anchor = &self.inner.anchor;
        let left = TapEnd::new(self.net_namespace(), &link);
        let right = TapEnd::new(anchor.net_namespace(), &port);
        let wire = Wire::start(anchor, &left, &right, &impairment)?;
        anchor.plumb(&format!("ip link set {port} master {} {DEVICE_QUEUE} up", segment.bridge()))?;
        self.plumb(&format!("ip link set {link} {DEVICE_QUEUE}"))?;
        self.keep_wire(wire);
        self.configure(&link, &segment.with_prefixes(addresses)?)?;
        Ok(self)
    }

    /// Attaches the host to the inside of a NAT, which becomes its default gateway.
    pub fn behind(self, nat: &Nat) -> Result<Self> {
        nat.adopt(&self)?;
        Ok(self)
    }

    /// Plugs a cable from this host into a segment and gives this end its addresses.
    pub fn attach(&self, segment: &Segment, addresses: &str) -> Result<Link> {
        let name = self.new_link();
        let port = segment.next_port();
        let (bridge, pid) = (segment.bridge(), self.inner.namespaces.pid());
        self.inner.anchor.plumb(&format!(
            "ip link add {port} type veth peer name {name} netns {pid}
             ip link set {port} master {bridge} up"
        ))?;
        self.configure(&name, &segment.with_prefixes(addresses)?)?;
        Ok(Link { name, port })
    }

    pub(crate) fn new_link(&self) -> String {
        format!("eth{}", self.inner.next_link.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a cable whose ends are links of this host and of another.
    pub(crate) fn plumb_to(&self, other: &Self, here: &str, there: &str) -> Result<()> {
        let (this, other) = (self.inner.namespaces.pid(), other.inner.namespaces.pid());
        let script =
            format!("ip link add name {here} netns {this} type veth peer name {there} netns {other}");
        self.inner.anchor.plumb(&script).map(drop)
    }

    pub(crate) fn keep_wire(&self, wire: Wire) {
        self.inner.wires.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(wire);
    }

    /// Brings a link up with `address/length` pairs.
    pub(crate) fn configure(&self, link: &str, addresses: &[ipnet::IpNet]) -> Result<()> {
        let mut script = format!("ip link set {link} up\n");
        for address in addresses {
            // A tentative IPv6 address would answer only a second later.
            let nodad = if address.addr().is_ipv6() { "nodad" } else { "" };
            script += &format!("ip addr add {address} dev {link} {nodad}\n");
        }
        self.plumb(&script).map(drop)
    }

    pub fn default_route(&self, gateway: IpAddr) -> Result<()> {
        self.plumb(&format!("ip route add default via {gateway}")).map(drop)
    }

    /// What TCP uses here. Cubic is asked for; a machine whose default is another one may not allow it, because
    /// namespaces choose among `net.ipv4.tcp_allowed_congestion_control` only.
    pub fn congestion_control(&self) -> Result<String> {
        Ok(self.plumb("cat /proc/sys/net/ipv4/tcp_congestion_control")?.trim().to_owned())
    }

    /// A program to run here: `host.cmd("ping").args(…)`.
    pub fn cmd(&self, program: &str) -> Cmd {
        let command = Cmd::new(self.name(), self.inner.namespaces.words(), program);
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let home = self.dir().join("home");
        let command = command.env("PATH", path).env("HOME", home.display().to_string());
        let command = command.env("USER", "root").env("LANG", "C.UTF-8").env("RUST_BACKTRACE", "1");
        std::env::var("PEERUP_LOG")
            .into_iter()
            .fold(command, |command, level| command.env("PEERUP_LOG", level))
    }

    /// Runs a program here to its end and insists on exit code 0.
    pub fn run<W: Into<String>>(&self, words: impl IntoIterator<Item = W>) -> Result<Output> {
        self.words(words).run()
    }

    /// Starts a program here that runs until the handle is dropped.
    pub fn spawn<W: Into<String>>(&self, words: impl IntoIterator<Item = W>) -> Result<Process> {
        self.words(words).spawn()
    }

    fn words<W: Into<String>>(&self, words: impl IntoIterator<Item = W>) -> Cmd {
        let mut words = words.into_iter().map(Into::into);
        let program = words.next().unwrap_or_default();
        self.cmd(&program).args(words)
    }

    /// A shell script of the laboratory itself, unprinted.
    pub(crate) fn plumb(&self, script: &str) -> Result<String> {
        let done = self.inner.namespaces.plumb(script);
        done.with_context(|| format!("on host {}", self.name()))
    }

    /// Asks with a shell script, unprinted: for looking at links, routes and files.
    pub fn ask(&self, script: &str) -> Result<String> {
        self.cmd("sh").args(["-c", script]).show(Show::Nothing).run().map(|output| output.stdout)
    }

    /// The host's private directory, as programs on the host name it.
    pub fn dir(&self) -> PathBuf {
        Path::new(STATE_DIR).join(self.name())
    }

    /// A file of the host, as this process names it.
    pub fn outside(&self, path: &Path) -> PathBuf {
        let relative = path.strip_prefix("/").unwrap_or(path);
        self.inner.namespaces.root().join(relative)
    }

    pub fn read(&self, path: &Path) -> Result<String> {
        let outside = self.outside(path);
        std::fs::read_to_string(&outside)
            .with_context(|| format!("{}: reading {}", self.name(), path.display()))
    }

    pub fn write(&self, path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
        let outside = self.outside(path);
        std::fs::write(&outside, bytes)
            .with_context(|| format!("{}: writing {}", self.name(), path.display()))
    }

    pub(crate) fn net_namespace(&self) -> PathBuf {
        self.inner.namespaces.net_namespace()
    }

    pub(crate) fn anchor(&self) -> &Arc<Anchor> {
        &self.inner.anchor
    }

    /// Programs running in this host's network namespace: process id and command line.
    pub fn programs(&self) -> Vec<(Pid, String)> {
        let Ok(own) = std::fs::read_link(self.net_namespace()) else { return Vec::new() };
        let here = |dir: &PathBuf| std::fs::read_link(dir.join("ns/net")).is_ok_and(|net| net == own);
        process_dirs().into_iter().filter(here).filter_map(|dir| program(&dir)).collect()
    }

    /// `kill -9` of every program here whose command line contains `needle`; says how many there were.
    pub fn kill_9(&self, needle: &str) -> usize {
        self.signal(needle, Signal::SIGKILL)
    }

    /// Sends a signal to every program here whose command line contains `needle`; says how many there were.
    pub fn signal(&self, needle: &str, signal: Signal) -> usize {
        let entry = |line: &str| line.starts_with("nsenter ") || line.starts_with("setpriv ");
        let programs = self.programs().into_iter();
        let meant = programs.filter(|(_, line)| line.contains(needle) && !entry(line));
        meant.filter(|&(pid, _)| kill(pid, signal).is_ok()).count()
    }

    /// Waits for outside state that nobody announces (a link, a route, a process).
    pub fn wait_until(&self, what: &str, deadline: Duration, done: impl FnMut() -> bool) -> Result<Duration> {
        crate::wait_until(&format!("{}: {what}", self.name()), deadline, done)
    }
}

fn program(dir: &Path) -> Option<(Pid, String)> {
    let pid = dir.file_name()?.to_str()?.parse().ok()?;
    let line = std::fs::read(dir.join("cmdline")).ok()?;
    let words: Vec<_> = line.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
    Some((Pid::from_raw(pid), words.join(" ").trim_end().to_owned()))
}
