//! iperf3: throughput between two hosts, read from its JSON.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::host::Host;
use crate::process::{Cmd, Process, Show};
use crate::tools::links::snmp;

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
        figures(&report(tcp(client, address, seconds))?, 0)
    }

    /// As [`Iperf::tcp`], to another port: a proxy's.
    pub fn tcp_to_port(&self, client: &Host, address: &str, port: &str, seconds: u32) -> Result<Figures> {
        let _server = self.serve()?;
        figures(&report(tcp(client, address, seconds).args(["-p", port]))?, 0)
    }

    /// UDP at `mbit` for `seconds`.
    ///
    /// A datagram that reached the host and found iperf3's socket full is no loss of the network's: on a busy
    /// machine iperf3 is not scheduled for longer than its receive buffer holds.
    pub fn udp(&self, client: &Host, address: &str, mbit: u32, seconds: u32) -> Result<Figures> {
        let _server = self.serve()?;
        let before = self.overflowed()?;
        let rate = format!("{mbit}M");
        let client = client.cmd("iperf3").args(["-c", address, "-u", "-l", "1200", "-b", &rate]);
        let report = report(timed(client, seconds))?;
        let overflowed = self.overflowed()? - before;
        figures(&report, overflowed)
    }

    /// Datagrams that found their socket full.
    fn overflowed(&self) -> Result<u64> {
        snmp(&self.host, "Udp", "RcvbufErrors")
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

fn report(client: Cmd) -> Result<Value> {
    let output = client.arg("-J").run()?;
    serde_json::from_str(&output.stdout).context("iperf3's JSON")
}

fn figures(report: &Value, overflowed: u64) -> Result<Figures> {
    let end = &report["end"];
    let is_tcp = end["sum_sent"]["retransmits"].is_u64();
    let received = if end["sum_received"].is_object() { &end["sum_received"] } else { &end["sum"] };
    let bits = received["bits_per_second"].as_f64().with_context(|| format!("no rate in {end}"))?;
    let retransmits = end["sum_sent"]["retransmits"].as_u64().unwrap_or(0);
    let loss =
        if is_tcp { 0.0 } else { udp_loss(&end["sum"], overflowed).context("no count of datagrams")? };
    Ok(Figures { mbit: bits * (1.0 - udp_loss_in_rate(end, loss)) / 1e6, loss, retransmits })
}

fn udp_loss(sum: &Value, overflowed: u64) -> Option<f64> {
    let (lost, sent) = (sum["lost_packets"].as_u64()?, sum["packets"].as_u64()?);
    Some(lost.saturating_sub(overflowed) as f64 / sent as f64)
}

/// iperf3's UDP summary counts sent bytes; what arrived is that less the loss.
fn udp_loss_in_rate(end: &Value, loss: f64) -> f64 {
    if end["sum_received"].is_object() { 0.0 } else { loss }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_receiver_itself_dropped_is_no_loss() {
        let sum = serde_json::json!({ "lost_packets": 136, "packets": 4166 });
        assert_eq!(udp_loss(&sum, 136), Some(0.0));
        assert_eq!(udp_loss(&sum, 0), Some(136.0 / 4166.0));
        assert_eq!(udp_loss(&serde_json::json!({}), 0), None);
    }
}
