//! Impaired wires: two TAP devices joined by a program that delays, loses and reorders frames.
//!
//! The kernels this runs on need not have netem, so the impairment is a program of this package
//! (`peerup-lab-tool wire`); its decisions are the machine in [`crate::impair`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::anchor::Anchor;
use crate::process::{Cmd, Process, Show};

/// What a wire does to frames, in each direction. The default is a perfect wire without a rate limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Impairment {
    /// One-way delay.
    pub delay_ms: f64,
    /// Each frame is delayed by up to this much more; the order is kept.
    pub jitter_ms: f64,
    /// Share of frames lost, 0..1.
    pub loss: f64,
    /// Share of frames that arrive [`crate::impair::REORDER_GAP`] late, overtaken by their successors, 0..1.
    pub reorder: f64,
    /// Transmission rate in Mbit/s; 0 is unlimited.
    pub rate_mbit: f64,
    /// Bytes that may wait for transmission on a rate-limited wire; more are dropped.
    pub queue_bytes: usize,
    /// Same seed and same frames, same fate.
    pub seed: u64,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            delay_ms: 0.0,
            jitter_ms: 0.0,
            loss: 0.0,
            reorder: 0.0,
            rate_mbit: 0.0,
            queue_bytes: 256 << 10,
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

/// A running wire; the devices vanish with it.
pub struct Wire {
    _program: Process,
}

impl Wire {
    pub(crate) fn start(anchor: &Anchor, left: &TapEnd, right: &TapEnd, faults: &Impairment) -> Result<Self> {
        let tool = tool()?;
        let command = Cmd::new("lab", anchor.outside_words(), &tool.display().to_string()).arg("wire");
        let command = command.args(left.words()).args(right.words()).args(numbers(faults));
        let command = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").show(Show::Nothing);
        let program = command.spawn()?;
        program.wait_for_line("ready", Duration::from_secs(5)).context("starting an impaired wire")?;
        Ok(Self { _program: program })
    }
}

/// The impairment as the tool's arguments.
fn numbers(faults: &Impairment) -> [String; 7] {
    let Impairment { delay_ms, jitter_ms, loss, reorder, rate_mbit, queue_bytes, seed } = faults;
    [
        format!("{delay_ms}"),
        format!("{jitter_ms}"),
        format!("{loss}"),
        format!("{reorder}"),
        format!("{rate_mbit}"),
        format!("{queue_bytes}"),
        format!("{seed}"),
    ]
}

impl Impairment {
    /// Reads what [`numbers`] wrote.
    pub fn from_words(words: &[String]) -> Result<Self> {
        let [delay, jitter, loss, reorder, rate, queue, seed] = words else {
            anyhow::bail!("an impairment is seven numbers, not {words:?}");
        };
        Ok(Self {
            delay_ms: delay.parse()?,
            jitter_ms: jitter.parse()?,
            loss: loss.parse()?,
            reorder: reorder.parse()?,
            rate_mbit: rate.parse()?,
            queue_bytes: queue.parse()?,
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
        assert_eq!(Impairment::from_words(&numbers(&faults)).unwrap(), faults);
    }
}
