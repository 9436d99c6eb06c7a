//! What passes on a wire, as bytes: to show that something does, or does not.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::host::Host;
use crate::process::{Process, Show};

/// A running capture of one link (or `any`).
pub struct Capture {
    tcpdump: Process,
}

impl Capture {
    /// `filter` in tcpdump's language; empty captures everything.
    pub fn start(host: &Host, link: &str, filter: &str) -> Result<Self> {
        let words = ["-i", link, "-w", "-", "-U", "--immediate-mode", "-s", "0", "-Z", "root"];
        let tcpdump = host.cmd("tcpdump").args(words).args(filter.split_whitespace());
        let tcpdump = tcpdump.show(Show::Nothing).spawn()?;
        tcpdump.wait_for_line("listening on", Duration::from_secs(10)).context("starting tcpdump")?;
        Ok(Self { tcpdump })
    }

    /// Ends the capture and hands out all frames, in pcap form.
    pub fn stop(mut self) -> Result<Frames> {
        self.tcpdump.signal(Signal::SIGINT);
        self.tcpdump.wait(Duration::from_secs(10)).context("ending tcpdump")?;
        Ok(Frames { pcap: self.tcpdump.stdout_bytes() })
    }
}

/// Captured frames.
pub struct Frames {
    pcap: Vec<u8>,
}

impl Frames {
    pub fn len(&self) -> usize {
        self.pcap.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pcap.is_empty()
    }

    /// Whether the bytes occur in one of the frames.
    pub fn contain(&self, bytes: &[u8]) -> bool {
        self.pcap.windows(bytes.len()).any(|window| window == bytes)
    }
}
