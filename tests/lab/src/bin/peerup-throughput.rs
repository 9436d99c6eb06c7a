//! How much of the wire peerup leaves to one TCP connection: through the tunnel and through a proxy, as shares of what the
//! same two hosts carry without it, measured in turns in one run.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "this program prints its result")]

use std::time::Duration;

use anyhow::{Context, Result};
use peerup_lab::Process;
use peerup_lab::peerup::{JOINER, Node, Pair};
use peerup_lab::tools::iperf::Iperf;

/// Of each measurement.
const SECONDS: u32 = 5;
const ROUNDS: usize = 5;
/// iperf3's own.
const PORT: &str = "5201";
const LOCAL: &str = "5301";

fn main() -> Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(ROUNDS), |text| text.parse())?;
    let pair = Pair::direct("throughput", |lab, internet, number| {
        let name = if number == 1 { "a" } else { "b" };
        lab.host(name)?.on(internet, &format!("203.0.113.2{number}"))
    })?;
    pair.b.peerup(["service", "add", "iperf", PORT])?;
    let _proxy = proxy(&pair.a)?;
    let mut table = Vec::new();
    for round in 1..=rounds {
        let row = measure(&pair).with_context(|| format!("round {round}"))?;
        println!("round {round}: {row}");
        table.push(row);
    }
    println!("| | Mbit/s | of raw | of the tunnel |\n|---|---|---|---|");
    let (raw, tunnel, proxy) =
        (median(&table, |row| row.raw), median(&table, |row| row.tunnel), median(&table, |row| row.proxy));
    for (name, rate) in [("raw", raw), ("tunnel", tunnel), ("proxy", proxy)] {
        println!("| {name} | {rate:.0} | {:.2} | {:.2} |", rate / raw, rate / tunnel);
    }
    Ok(())
}

fn proxy(node: &Node) -> Result<Process> {
    let mut proxy = node.cmd(["proxy", "b", "iperf", LOCAL])?.deadline(Duration::from_secs(3600)).spawn()?;
    proxy.close_stdin();
    proxy.wait_for_line(LOCAL, Duration::from_secs(20))?;
    Ok(proxy)
}

struct Row {
    raw: f64,
    tunnel: f64,
    proxy: f64,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "raw {:.0}, tunnel {:.0}, proxy {:.0} Mbit/s", self.raw, self.tunnel, self.proxy)
    }
}

fn measure(pair: &Pair) -> Result<Row> {
    let (a, iperf) = (pair.a.host(), Iperf::on(pair.b.host()));
    let raw = iperf.tcp(a, "203.0.113.22", SECONDS)?.mbit;
    let tunnel = iperf.tcp(a, JOINER, SECONDS)?.mbit;
    let proxy = iperf.tcp_to_port(a, "127.0.0.1", LOCAL, SECONDS)?.mbit;
    Ok(Row { raw, tunnel, proxy })
}

fn median(rows: &[Row], value: impl Fn(&Row) -> f64) -> f64 {
    let mut values: Vec<f64> = rows.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
