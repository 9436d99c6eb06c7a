//! iperf3: throughput between two hosts, read from its JSON.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::host::Host;
use crate::process::{Cmd, Output, Process, Show};
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
    /// What arrived.
    pub bytes: u64,
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

/// A TCP measurement with more to choose than [`Iperf::tcp`] has.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub streams: u32,
    /// The server sends.
    pub reverse: bool,
    pub congestion: &'static str,
    pub seconds: u32,
}

/// Starts a client whose end is read by [`read`].
pub fn start(client: &Host, address: &str, shape: &Shape) -> Result<Process> {
    let streams = shape.streams.to_string();
    let cmd = client.cmd("iperf3").args(["-J", "-c", address, "-C", shape.congestion, "-P", &streams]);
    let cmd = if shape.reverse { cmd.arg("-R") } else { cmd };
    timed(cmd, shape.seconds).show(Show::Nothing).spawn()
}

/// What a client of [`start`] said at its end.
pub fn read(output: &Output) -> Result<Figures> {
    ensure!(output.code == Some(0), "{}", said_error(output));
    figures(&serde_json::from_str(&output.stdout).context("iperf3's JSON")?, 0)
}

/// With `-J` iperf3 puts its complaint into the JSON.
fn said_error(output: &Output) -> String {
    let error = serde_json::from_str::<Value>(&output.stdout).ok();
    let error = error.and_then(|report| Some(report["error"].as_str()?.to_owned()));
    error.map_or_else(|| output.to_string(), |error| format!("iperf3: {error}"))
}

/// What a rate of UDP datagrams came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Udp {
    pub sent_mbit: f64,
    /// Share of datagrams that iperf3 did not get, 0..1, whoever lost them.
    pub loss: f64,
}

/// Datagrams of `length` bytes at `mbit`, received into a socket buffer of `window` bytes.
pub fn udp(client: &Host, address: &str, mbit: f64, length: u32, window: usize) -> Result<Udp> {
    let (rate, length_text) = (format!("{:.0}K", mbit * 1000.0), length.to_string());
    let window = window.to_string();
    let cmd =
        client.cmd("iperf3").args(["-c", address, "-u", "-b", &rate, "-l", &length_text, "-w", &window]);
    let report = report(timed(cmd, 1).show(Show::Nothing))?;
    udp_figures(&report["end"]["sum"], length).with_context(|| format!("no counts in {}", report["end"]))
}

fn udp_figures(sum: &Value, length: u32) -> Option<Udp> {
    let (packets, seconds) = (sum["packets"].as_f64()?, sum["seconds"].as_f64()?);
    let sent_mbit = packets * f64::from(length) * 8.0 / seconds / 1e6;
    Some(Udp { sent_mbit, loss: udp_loss(sum, 0)? })
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
    let bytes = received["bytes"].as_u64().with_context(|| format!("no bytes in {end}"))?;
    let retransmits = end["sum_sent"]["retransmits"].as_u64().unwrap_or(0);
    let loss =
        if is_tcp { 0.0 } else { udp_loss(&end["sum"], overflowed).context("no count of datagrams")? };
    Ok(Figures { mbit: bits * (1.0 - udp_loss_in_rate(end, loss)) / 1e6, bytes, loss, retransmits })
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

    #[test]
    fn a_udp_rate_is_what_was_sent_in_the_time_it_took() {
        let sum = serde_json::json!({ "lost_packets": 1, "packets": 1000, "seconds": 2.0 });
        assert_eq!(udp_figures(&sum, 1250), Some(Udp { sent_mbit: 5.0, loss: 0.001 }));
    }

    #[test]
    fn what_iperf3_complains_of_is_the_error() {
        let stdout = r#"{"start":{},"error":"unable to connect to server"}"#.to_owned();
        let (line, stderr, took) = (String::new(), String::new(), Duration::ZERO);
        let error = read(&Output { line, code: Some(1), stdout, stderr, took }).unwrap_err().to_string();
        assert_eq!(error, "iperf3: unable to connect to server");
    }
}
