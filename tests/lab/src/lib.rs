//! A network laboratory: hosts, segments, NATs and bad cables in namespaces of their own.
//!
//! Tests and the demonstration run the real `peerup` on a real kernel, with real tools as witnesses. A [`Lab`]
//! owns everything it makes through one user, mount, network and pid namespace; when it is dropped, or its
//! process dies in any way, the kernel takes all of it down. No host state is touched, no clean-up can be missed.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use peerup_lab::{Lab, NatKind};
//! let mut lab = Lab::new("two-nats")?;
//! let internet = lab.segment("internet", "203.0.113.0/24 2001:db8::/64")?;
//! let relay = lab.host("relay")?.on(&internet, "203.0.113.3 2001:db8::3")?;
//! let nat = lab.nat("nat1", NatKind::EndpointIndependent, "192.168.1.0/24")?.on(&internet, "203.0.113.1")?;
//! let a = lab.host("a")?.behind(&nat)?;
//! a.run(["ping", "-c", "1", "203.0.113.3"])?;
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod anchor;
pub mod clock;
mod fault;
mod host;
pub mod impair;
mod logs;
mod nat;
pub mod peerup;
mod process;
mod segment;
pub mod tools;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

use anchor::Anchor;
pub use anchor::require_tun;
pub use fault::Cut;
pub use host::{Host, Link};
pub use logs::panics;
pub use nat::{Nat, NatKind};
pub use nix::sys::signal::Signal;
pub use process::{Cmd, Output, Process, Show, say, tail};
pub use segment::Segment;
pub use wire::{COUNTS_EVERY, Impairment, Wire, beside_this_program, counts_line, tool};

use wire::{DEVICE_QUEUE, TapEnd};

/// The step between two looks at state that nobody announces.
const LOOK: Duration = Duration::from_millis(50);

/// One laboratory. Hosts and segments named by its handles end with it.
pub struct Lab {
    anchor: Arc<Anchor>,
    segments: u32,
    /// A machine runs until the laboratory ends, also one that nobody names any more.
    hosts: Vec<Host>,
}

impl Lab {
    pub fn new(name: &str) -> Result<Self> {
        say(&format!("# laboratory {name}"));
        Ok(Self { anchor: Arc::new(Anchor::start()?), segments: 0, hosts: Vec::new() })
    }

    /// An Ethernet with the given prefixes ("203.0.113.0/24 2001:db8::/64").
    pub fn segment(&mut self, name: &str, prefixes: &str) -> Result<Segment> {
        self.segments += 1;
        Segment::start(&self.anchor, self.segments, name, prefixes)
    }

    pub fn host(&mut self, name: &str) -> Result<Host> {
        let host = Host::start(self.anchor.clone(), name)?;
        self.hosts.push(host.clone());
        Ok(host)
    }

    /// A NAT box with an inside of its own; `.on(…)` or `.behind(…)` gives it an outside.
    pub fn nat(&mut self, name: &str, kind: NatKind, inside: &str) -> Result<Nat> {
        let lan = self.segment(&format!("{name}-lan"), inside)?;
        Nat::start(self.host(name)?, lan, kind)
    }

    /// Joins two hosts by an impaired wire; addresses are `address/length`, space separated.
    pub fn wire(&mut self, a: (&Host, &str), b: (&Host, &str), impairment: &Impairment) -> Result<Wire> {
        let (left, right) = (a.0.new_link(), b.0.new_link());
        let ends = (TapEnd::new(a.0.net_namespace(), &left), TapEnd::new(b.0.net_namespace(), &right));
        let wire = Wire::start(a.0.anchor(), &ends.0, &ends.1, impairment)?;
        a.0.keep_wire(wire.clone());
        a.0.plumb(&format!("ip link set {left} {DEVICE_QUEUE}"))?;
        b.0.plumb(&format!("ip link set {right} {DEVICE_QUEUE}"))?;
        a.0.configure(&left, &networks(a.1)?)?;
        b.0.configure(&right, &networks(b.1)?)?;
        Ok(wire)
    }

    /// Joins two hosts by a cable without a switch between them; addresses as for [`Lab::wire`].
    pub fn cable(&mut self, a: (&Host, &str), b: (&Host, &str)) -> Result<()> {
        let (left, right) = (a.0.new_link(), b.0.new_link());
        a.0.plumb_to(b.0, &left, &right)?;
        a.0.configure(&left, &networks(a.1)?)?;
        b.0.configure(&right, &networks(b.1)?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in &self.hosts {
            let log = host.read(&host.dir().join("home/.config/peerup/peerup.log"));
            logs::keep(host.name(), "peerup", &log.unwrap_or_default());
        }
    }
}

fn networks(addresses: &str) -> Result<Vec<ipnet::IpNet>> {
    Ok(addresses.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

/// Looks again and again until `done`; says how long it took. Only for state that nobody announces.
pub fn wait_until(what: &str, deadline: Duration, mut done: impl FnMut() -> bool) -> Result<Duration> {
    let start = clock::now();
    loop {
        if done() {
            return Ok(start.elapsed());
        }
        if start.elapsed() > deadline {
            bail!("{what}: not within {deadline:?}");
        }
        clock::pause(LOOK);
    }
}
