//! iperf3: throughput between two hosts, read from its JSON.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::host::Host;
use crate::process::{Cmd, Process, Show};

/// The receiving host of measurements. Each gets a server of its own: one that has just served a client may
/// still call itself busy to the next.
pub struct Iperf {
    host: Host,
}

/// What one run measured.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub mbit: f64,
    /// Share of datagrams lost, 0..1 (UDP only).
    pub loss: f64,
    pub retransmits: u64,
}

impl Iperf {
    pub fn on(host: &Host) -> Self {
        Self { host: host.clone() }
    }

    /// A server for one client.
    pub fn serve(&self) -> Result<Process> {
        let server =
            self.host.cmd("iperf3").args(["-s", "-1", "--forceflush"]).show(Show::Nothing).spawn()?;
        server.wait_for_line("Server listening", Duration::from_secs(10)).context("starting iperf3")?;
        Ok(server)
    }

    /// TCP for `seconds`, with cubic whatever the machine's default is.
    pub fn tcp(&self, client: &Host, address: &str, seconds: u32) -> Result<Figures> {
        let _server = self.serve()?;
        figures(tcp(client, address, seconds))
    }

    /// UDP at `mbit` for `seconds`.
    pub fn udp(&self, client: &Host, address: &str, mbit: u32, seconds: u32) -> Result<Figures> {
        let _server = self.serve()?;
        let rate = format!("{mbit}M");
        let client = client.cmd("iperf3").args(["-c", address, "-u", "-l", "1200", "-b", &rate]);
        figures(timed(client, seconds))
    }
}

/// The TCP client's command line, without `-J`.
pub fn tcp(client: &Host, address: &str, seconds: u32) -> Cmd {
    let cmd = client.cmd("iperf3").args(["-c", address, "-C", "cubic"]);
    timed(cmd, seconds)
}

fn timed(cmd: Cmd, seconds: u32) -> Cmd {
    cmd.args(["-t", &seconds.to_string()]).deadline(Duration::from_secs(u64::from(seconds) + 20))
}

fn figures(client: Cmd) -> Result<Figures> {
    let output = client.arg("-J").run()?;
    let report: Value = serde_json::from_str(&output.stdout).context("iperf3's JSON")?;
    let end = &report["end"];
    let received = if end["sum_received"].is_object() { &end["sum_received"] } else { &end["sum"] };
    let bits = received["bits_per_second"].as_f64().with_context(|| format!("no rate: {output}"))?;
    let loss = end["sum"]["lost_percent"].as_f64().unwrap_or(0.0) / 100.0;
    let retransmits = end["sum_sent"]["retransmits"].as_u64().unwrap_or(0);
    Ok(Figures { mbit: bits * (1.0 - udp_loss_in_rate(end, loss)) / 1e6, loss, retransmits })
}

/// iperf3's UDP summary counts sent bytes; what arrived is that less the loss.
fn udp_loss_in_rate(end: &Value, loss: f64) -> f64 {
    if end["sum_received"].is_object() { 0.0 } else { loss }
}
