//! What is compared: the bare link, other overlays where they are installed, and peerup with each of its carriers.

mod nebula;
mod peerup;
mod wireguard;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::unistd::Pid;
use peerup_lab::tools::links::set_offloads;
use peerup_lab::{Host, Lab, Process, Show, Wire, clock};
use serde::{Deserialize, Serialize};

use crate::profile::Profile;

/// Addresses of the two ends of the underlay.
const A: &str = "198.51.100.1";
const B: &str = "198.51.100.2";

/// The same ends inside an overlay that has no say in them.
const INSIDE_A: &str = "10.99.0.1";
const INSIDE_B: &str = "10.99.0.2";

/// A link with two crossings of 300 ms and a handshake of several packets that may get lost.
const FIRST_REPLY: Duration = Duration::from_secs(40);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// No overlay
    Raw,
    /// No overlay, and TCP with BBR: the reference on bad links
    RawBbr,
    /// boringtun-cli of crates.io
    Boringtun,
    /// gotatun-cli of crates.io
    Gotatun,
    /// wireguard-go; Debian's is of 2022 and without GSO
    WireguardGo,
    /// nebula of Debian
    Nebula,
    /// As it comes: it chooses its carriers
    Peerup,
    /// Streams, and no UDP between the hosts: TCP+TLS
    PeerupTcp,
    /// No TCP between the hosts: QUIC's stream, and its datagrams
    PeerupQuic,
    /// QUIC datagrams
    PeerupDatagram,
    /// Through a relay, as two hosts that cannot see each other
    PeerupRelay,
}

impl Subject {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What the hosts' own TCP runs, inside the overlay.
    pub fn inner_congestion(self) -> &'static str {
        if self == Self::RawBbr { "bbr" } else { "cubic" }
    }

    pub fn is_peerup(self) -> bool {
        self >= Self::Peerup
    }

    /// Whether it tells something on this profile: BBR where links are bad, the relay where nothing else is in the way.
    pub fn fits(self, profile: Profile) -> bool {
        match self {
            Self::RawBbr => profile.impairment().is_some(),
            Self::PeerupRelay => profile == Profile::Cable,
            _ => true,
        }
    }

    /// The program and its version, or why it is left out.
    pub fn find(self, programs: &Programs) -> Result<Found> {
        let (name, version) = match self {
            Self::Raw | Self::RawBbr => return Ok(Found { program: PathBuf::new(), version: kernel()? }),
            Self::Boringtun => ("boringtun-cli", "--version"),
            Self::Gotatun => ("gotatun", "--version"),
            Self::WireguardGo => ("wireguard-go", "--version"),
            Self::Nebula => ("nebula", "-version"),
            _ => {
                let program = peerup_lab::peerup::binary()?;
                return Ok(Found { version: first_line(&program, "--version")?, program });
            }
        };
        let program = programs.find(name)?;
        Ok(Found { version: first_line(&program, version)?, program })
    }

    /// Makes two hosts, the link between them and the overlay over it, and waits for the first reply.
    pub fn set_up(self, profile: Profile, found: &Found) -> Result<Running> {
        let mut lab = Lab::new(&format!("bench-{}-{}", profile.name(), self.name()))?;
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        if self == Self::PeerupRelay {
            return self.over_a_relay(lab, a, b);
        }
        let ends = ((&a, &*format!("{A}/24")), (&b, &*format!("{B}/24")));
        let wire = match profile.impairment() {
            Some(impairment) => Some(lab.wire(ends.0, ends.1, &impairment)?),
            None => {
                lab.cable(ends.0, ends.1)?;
                None
            }
        };
        if !profile.offloads() {
            [&a, &b].into_iter().try_for_each(|host| set_offloads(host, "eth0", false))?;
        }
        let program = found.program.display().to_string();
        let overlay: Box<dyn Overlay> = match self {
            Self::Raw | Self::RawBbr => Box::new(NoOverlay),
            Self::Boringtun | Self::Gotatun => {
                let words = ["--foreground", "--disable-drop-privileges", "wg0"];
                Box::new(wireguard::WireGuard::start(&a, &b, &program, &words)?)
            }
            Self::WireguardGo => Box::new(wireguard::WireGuard::start(&a, &b, &program, &["-f", "wg0"])?),
            Self::Nebula => Box::new(nebula::Nebula::start(&a, &b, &program)?),
            _ => Box::new(peerup::Peerup::direct(self, &a, &b)?),
        };
        let (back, address) = self.addresses();
        let outer = self.is_peerup().then_some(B);
        Running { subject: self, a, b, address, back, outer, wire, overlay, _lab: lab }.reached()
    }

    /// The two hosts, as they reach each other through the overlay.
    fn addresses(self) -> (&'static str, &'static str) {
        match self {
            Self::Raw | Self::RawBbr => (A, B),
            _ if self.is_peerup() => (peerup_lab::peerup::INVITER, peerup_lab::peerup::JOINER),
            _ => (INSIDE_A, INSIDE_B),
        }
    }

    fn over_a_relay(self, mut lab: Lab, a: Host, b: Host) -> Result<Running> {
        let overlay = Box::new(peerup::Peerup::relayed(&mut lab, &a, &b)?);
        let ((back, address), outer) = (self.addresses(), Some(peerup::RELAY));
        Running { subject: self, a, b, address, back, outer, wire: None, overlay, _lab: lab }.reached()
    }
}

/// Where programs are looked for.
pub struct Programs {
    pub dirs: Vec<PathBuf>,
}

impl Programs {
    fn find(&self, name: &str) -> Result<PathBuf> {
        let found = self.dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file());
        found.with_context(|| format!("{name} is not installed (scripts/bench.sh --install brings it)"))
    }
}

/// A program that takes part.
#[derive(Clone, Debug)]
pub struct Found {
    pub program: PathBuf,
    pub version: String,
}

fn first_line(program: &std::path::Path, word: &str) -> Result<String> {
    let output = std::process::Command::new(program).arg(word).output();
    let output = output.with_context(|| format!("asking {} for its version", program.display()))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned();
    if said.is_empty() {
        bail!("{} {word} says nothing", program.display());
    }
    Ok(said)
}

fn kernel() -> Result<String> {
    Ok(format!("Linux {}", std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim()))
}

/// A subject on its link, ready to be measured. It ends with this value.
pub struct Running {
    pub subject: Subject,
    pub a: Host,
    pub b: Host,
    /// Host `b` as host `a` reaches it through the overlay.
    pub address: &'static str,
    /// Host `a` as host `b` reaches it.
    back: &'static str,
    /// Where the overlay's own TCP connections go to, if it has any.
    pub outer: Option<&'static str>,
    pub wire: Option<Wire>,
    overlay: Box<dyn Overlay>,
    _lab: Lab,
}

impl Running {
    fn reached(self) -> Result<Self> {
        self.first_reply(&self.a, self.address)?;
        self.overlay.settle()?;
        Ok(self)
    }

    /// Sends every 10 ms until the first reply; how long it took. While nobody was met there may be no route yet.
    fn first_reply(&self, from: &Host, to: &str) -> Result<Duration> {
        peerup_lab::wait_until(&format!("{}: a reply from {to}", from.name()), FIRST_REPLY, || {
            let ping = from.cmd("ping").args(["-c", "1", "-i", "0.01", "-w", "20", to]);
            ping.show(Show::Nothing).try_run().is_ok_and(|output| output.code == Some(0))
        })
    }

    /// The two daemons.
    pub fn daemons(&self) -> Result<Vec<Pid>> {
        self.overlay.daemons()
    }

    pub fn relay(&self) -> Result<Option<Pid>> {
        self.overlay.relay()
    }

    /// What the packets ride on, in the overlay's own words.
    pub fn carrier(&self) -> Result<String> {
        self.overlay.carrier()
    }

    /// Ends the daemon of `b` and starts it again; how long its first reply took, from the start. `b` asks, because
    /// `a` may still hold keys that `b` has lost.
    pub fn restart(&mut self) -> Result<Duration> {
        self.overlay.stop()?;
        let began = clock::now();
        self.overlay.start()?;
        self.first_reply(&self.b, self.back)?;
        let took = began.elapsed();
        self.overlay.settle()?;
        self.first_reply(&self.a, self.address)?;
        Ok(took)
    }
}

/// What a tunnel has to answer for its being measured.
trait Overlay {
    fn daemons(&self) -> Result<Vec<Pid>>;

    fn relay(&self) -> Result<Option<Pid>> {
        Ok(None)
    }

    /// Waits until it works as it is meant to work.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    fn carrier(&self) -> Result<String> {
        Ok("UDP".to_owned())
    }

    /// Ends the daemon of host `b`.
    fn stop(&mut self) -> Result<()>;

    /// Starts the daemon of host `b`.
    fn start(&mut self) -> Result<()>;
}

struct NoOverlay;

impl Overlay for NoOverlay {
    fn daemons(&self) -> Result<Vec<Pid>> {
        Ok(Vec::new())
    }

    fn carrier(&self) -> Result<String> {
        Ok(String::new())
    }

    fn stop(&mut self) -> Result<()> {
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The process of a program on each of the hosts.
fn one_on_each(hosts: [&Host; 2], program: &str) -> Result<Vec<Pid>> {
    let of = |host: &Host| {
        let line = format!("{program} ");
        let found = host.programs().into_iter().find(|(_, its)| its.starts_with(&line));
        found.map(|(pid, _)| pid).with_context(|| format!("{program} does not run on {}", host.name()))
    };
    hosts.into_iter().map(of).collect()
}

/// Kills a program and waits until it is gone: its successor wants its sockets.
fn end(process: &mut Option<Process>) -> Result<()> {
    let Some(mut ended) = process.take() else { return Ok(()) };
    ended.kill();
    ended.wait(Duration::from_secs(5)).map(drop)
}
