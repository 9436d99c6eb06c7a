//! Impaired wires: two TAP devices joined by a program that delays, loses and reorders frames.
//!
//! The kernels this runs on need not have netem, so the impairment is a program of this package
//! (`peerup-lab-tool wire`); its decisions are the machine in [`crate::impair`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::anchor::Anchor;
use crate::impair::Counts;
use crate::process::{Cmd, Process, Show};

/// What a wire does to frames, in each direction. The default is a perfect wire without a rate limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Impairment {
    /// One-way delay; below zero, the jitter lets some frames through at once.
    pub delay_ms: f64,
    /// Each frame is delayed by up to this much more, uniformly.
    pub jitter_ms: f64,
    /// Each frame takes its own time, as with netem, and may overtake others; else the order is kept.
    pub overtaking: bool,
    /// Share of frames lost, 0..1.
    pub loss: f64,
    /// Share of frames that arrive [`crate::impair::REORDER_GAP`] late, overtaken by their successors, 0..1.
    pub reorder: f64,
    /// Transmission rate in Mbit/s; 0 is unlimited.
    pub rate_mbit: f64,
    /// Bytes that may wait for transmission on a rate-limited wire; more are dropped.
    pub queue_bytes: usize,
    /// Carries the kernels' super-packets whole, so that a fast wire costs little. Not for a wire that loses,
    /// reorders or has a rate: there each packet has its own fate.
    pub super_packets: bool,
    /// Same seed and same frames, same fate.
    pub seed: u64,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            delay_ms: 0.0,
            jitter_ms: 0.0,
            overtaking: false,
            loss: 0.0,
            reorder: 0.0,
            rate_mbit: 0.0,
            queue_bytes: 256 << 10,
            super_packets: false,
            seed: 1,
        }
    }
}

/// One end of a wire: a TAP device in a network namespace.
pub(crate) struct TapEnd {
    net: PathBuf,
    device: String,
}

impl TapEnd {
    pub(crate) fn new(net: PathBuf, device: &str) -> Self {
        Self { net, device: device.to_owned() }
    }

    fn words(&self) -> [String; 2] {
        [self.net.display().to_string(), self.device.clone()]
    }
}

/// A running wire; the devices vanish with its last handle.
#[derive(Clone)]
pub struct Wire {
    program: Arc<Process>,
}

impl Wire {
    pub(crate) fn start(anchor: &Anchor, left: &TapEnd, right: &TapEnd, faults: &Impairment) -> Result<Self> {
        let tool = tool()?;
        let command = Cmd::new("lab", anchor.outside_words(), &tool.display().to_string()).arg("wire");
        let command = command.args(left.words()).args(right.words()).args(words(faults));
        let command = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").show(Show::Nothing);
        let program = command.spawn()?;
        program.wait_for_line("ready", Duration::from_secs(5)).context("starting an impaired wire")?;
        Ok(Self { program: Arc::new(program) })
    }

    /// What became of the frames from left to right and from right to left, as of [`COUNTS_EVERY`] ago at most.
    pub fn counts(&self) -> Result<[Counts; 2]> {
        let output = self.program.output();
        let line = output.lines().rfind(|line| line.starts_with("counts "));
        line.map_or(Some([Counts::default(); 2]), counts_from).with_context(|| format!("counts: {line:?}"))
    }
}

/// Frames that wait in a device until the wire's program reads them: none is lost while it waits for a processor.
/// (Only netlink lets a user namespace set this.)
pub(crate) const DEVICE_QUEUE: &str = "txqueuelen 10000";

/// How often a wire says what it did, while it does something.
pub const COUNTS_EVERY: Duration = Duration::from_millis(200);

/// The line a wire says.
pub fn counts_line(counts: [Counts; 2]) -> String {
    let words = counts.map(|Counts { carried, lost, dropped }| format!("{carried} {lost} {dropped}"));
    format!("counts {}", words.join(" "))
}

fn counts_from(line: &str) -> Option<[Counts; 2]> {
    let numbers: Option<Vec<u64>> = line.split(' ').skip(1).map(|word| word.parse().ok()).collect();
    let [a, b, c, d, e, f] = numbers?[..] else { return None };
    let counts = |carried, lost, dropped| Counts { carried, lost, dropped };
    Some([counts(a, b, c), counts(d, e, f)])
}

/// The impairment as the tool's arguments.
fn words(faults: &Impairment) -> [String; 9] {
    let Impairment {
        delay_ms,
        jitter_ms,
        overtaking,
        loss,
        reorder,
        rate_mbit,
        queue_bytes,
        super_packets,
        seed,
    } = faults;
    let numbers = [delay_ms, jitter_ms, loss, reorder, rate_mbit].map(f64::to_string);
    let [delay_ms, jitter_ms, loss, reorder, rate_mbit] = numbers;
    let (overtaking, super_packets) = (overtaking.to_string(), super_packets.to_string());
    let (queue_bytes, seed) = (queue_bytes.to_string(), seed.to_string());
    [delay_ms, jitter_ms, overtaking, loss, reorder, rate_mbit, queue_bytes, super_packets, seed]
}

impl Impairment {
    /// Reads what [`words`] wrote.
    pub fn from_words(words: &[String]) -> Result<Self> {
        let [delay, jitter, overtaking, loss, reorder, rate, queue, super_packets, seed] = words else {
            anyhow::bail!("an impairment is nine words, not {words:?}");
        };
        Ok(Self {
            delay_ms: delay.parse()?,
            jitter_ms: jitter.parse()?,
            overtaking: overtaking.parse()?,
            loss: loss.parse()?,
            reorder: reorder.parse()?,
            rate_mbit: rate.parse()?,
            queue_bytes: queue.parse()?,
            super_packets: super_packets.parse()?,
            seed: seed.parse()?,
        })
    }
}

/// The laboratory's tool: beside this program, or one directory up when this program is a test.
pub fn tool() -> Result<PathBuf> {
    beside_this_program("peerup-lab-tool").context("`cargo build -p peerup-lab` makes it")
}

/// A program built into the same target directory as this one.
pub fn beside_this_program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let dirs = own.ancestors().skip(1).take(2).map(Path::to_owned);
    let found = dirs.map(|dir| dir.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("no {name} beside {}", own.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impairment_survives_the_command_line() {
        let faults = Impairment { delay_ms: 12.5, loss: 0.01, rate_mbit: 50.0, ..Impairment::default() };
        assert_eq!(Impairment::from_words(&words(&faults)).unwrap(), faults);
        let faults = Impairment { overtaking: true, ..faults };
        assert_eq!(Impairment::from_words(&words(&faults)).unwrap(), faults);
    }

    #[test]
    fn counts_survive_the_line_they_are_said_in() {
        let counts = [(1, 2, 3), (4, 5, 6)].map(|(carried, lost, dropped)| Counts { carried, lost, dropped });
        assert_eq!(counts_from(&counts_line(counts)), Some(counts));
        assert_eq!(counts_from("counts 1 2"), None);
    }
}
