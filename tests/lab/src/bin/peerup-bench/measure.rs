//! One measurement of one subject: real tools between two hosts, and the kernel's counts before and after.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use peerup_lab::impair::Counts;
use peerup_lab::tools::flows::{Flow, flows};
use peerup_lab::tools::iperf::{self, Iperf, Shape};
use peerup_lab::tools::ping::{gaps, ping, round_trips};
use peerup_lab::tools::usage::{Memory, cpu_seconds, machine_seconds};
use peerup_lab::{COUNTS_EVERY, Output, Process, Show, clock};
use serde::{Deserialize, Serialize};

use crate::record::Metric;
use crate::search::Search;
use crate::stats::{mean, percentile};
use crate::subject::Running;

/// Between two echo requests.
const PING_INTERVAL: Duration = Duration::from_millis(10);
const IDLE_PINGS: u32 = 300;

/// A flow's beginning is not its load.
const BEFORE_PINGS: Duration = Duration::from_millis(500);

const UDP_LENGTH: u32 = 1200;
const UDP_LOSS: f64 = 0.005;
/// Share of the asked rate that has to be sent: what the sender cannot send was not carried.
const UDP_SENT: f64 = 0.95;
/// A second of load on two busy cores keeps the receiver away for milliseconds; this many bytes wait for it, where
/// the machine allows it.
const UDP_WINDOW: usize = 2 << 20;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Figure {
    /// One TCP connection, processor time per GB, and echo beside it
    #[value(name = "tcp1")]
    Tcp1,
    /// Four TCP connections
    #[value(name = "tcp4")]
    Tcp4,
    /// One TCP connection, sent by the server
    Reverse,
    /// Echo on an idle link
    Rtt,
    /// The highest rate of 1200-byte datagrams below 0.5 % loss
    Udp,
    /// From the start of the second daemon to the first reply
    Start,
}

/// Numbers, and the connections that were seen in the middle.
#[derive(Debug, Default)]
pub struct Measured {
    pub values: Vec<(Metric, f64)>,
    pub inner: Vec<Flow>,
    pub outer: Vec<Flow>,
}

impl Figure {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub fn measure(self, subject: &mut Running, seconds: u32) -> Result<Measured> {
        let shape = |streams, reverse| Shape {
            streams,
            reverse,
            congestion: subject.subject.inner_congestion(),
            seconds,
        };
        match self {
            Self::Tcp1 => loaded(subject, &shape(1, false)),
            Self::Tcp4 => plain(subject, &shape(4, false), Metric::Tcp4),
            Self::Reverse => plain(subject, &shape(1, true), Metric::Reverse),
            Self::Rtt => idle(subject),
            Self::Udp => udp(subject),
            Self::Start => {
                let took = subject.restart()?;
                Ok(Measured { values: vec![(Metric::Start, took.as_secs_f64())], ..Measured::default() })
            }
        }
    }
}

/// One TCP run and what it costs.
fn loaded(subject: &Running, shape: &Shape) -> Result<Measured> {
    let before = Usage::of(subject)?;
    let (mut client, _server) = begin(subject, shape)?;
    clock::pause(BEFORE_PINGS);
    let time = Duration::from_secs(u64::from(shape.seconds)).saturating_sub(BEFORE_PINGS * 2);
    let count = u32::try_from(time.as_millis() / PING_INTERVAL.as_millis())?;
    let echo = ping(&subject.a, subject.address, count, PING_INTERVAL).show(Show::Nothing).spawn()?;
    clock::pause(time / 2);
    let (inner, outer) = seen(subject)?;
    let figures = iperf::read(&end(&mut client, shape)?)?;
    let after = Usage::of(subject)?;
    let mut values = after.per_gb(&before, figures.bytes);
    values.push((Metric::Tcp1, figures.mbit));
    values.push((Metric::Retransmits, figures.retransmits as f64));
    values.extend(under_load(echo)?);
    if let Some(peak) = memory(subject, |memory| memory.peak_mib)? {
        values.push((Metric::RssPeak, peak));
    }
    Ok(Measured { values, inner, outer })
}

fn plain(subject: &Running, shape: &Shape, metric: Metric) -> Result<Measured> {
    let (mut client, _server) = begin(subject, shape)?;
    let figures = iperf::read(&end(&mut client, shape)?)?;
    Ok(Measured { values: vec![(metric, figures.mbit)], ..Measured::default() })
}

fn begin(subject: &Running, shape: &Shape) -> Result<(Process, Process)> {
    let server = Iperf::on(&subject.b).serve()?;
    Ok((iperf::start(&subject.a, subject.address, shape)?, server))
}

fn end(client: &mut Process, shape: &Shape) -> Result<Output> {
    // Beside the run itself: two exchanges over a line that may be full, slow and lossy.
    client.wait(Duration::from_secs(u64::from(shape.seconds) + 45))
}

fn seen(subject: &Running) -> Result<(Vec<Flow>, Vec<Flow>)> {
    let mut inner = flows(&subject.a, &format!("dst {}", subject.address))?;
    // The other connection is the one on which iperf3 agrees with its server.
    inner.truncate(1);
    let outer = subject.outer.map(|address| flows(&subject.a, &format!("dst {address}")));
    Ok((inner, outer.transpose()?.unwrap_or_default()))
}

/// Takes the echo away with the flow, whatever is still on its way.
fn under_load(mut echo: Process) -> Result<Vec<(Metric, f64)>> {
    echo.signal(peerup_lab::Signal::SIGINT);
    let output = echo.wait(Duration::from_secs(5))?;
    let times = round_trips(&output);
    let (avg, p50, p99) = averages(&times).context("no echo came back beside the flow")?;
    let lost = gaps(&output).len() as f64;
    let lost = lost / (lost + times.len() as f64);
    Ok(vec![
        (Metric::LoadedAvg, avg),
        (Metric::LoadedP50, p50),
        (Metric::LoadedP99, p99),
        (Metric::LoadedLoss, lost * 100.0),
    ])
}

fn averages(times: &[f64]) -> Option<(f64, f64, f64)> {
    Some((mean(times)?, percentile(times, 50.0)?, percentile(times, 99.0)?))
}

fn idle(subject: &Running) -> Result<Measured> {
    let echo = ping(&subject.a, subject.address, IDLE_PINGS, PING_INTERVAL).show(Show::Nothing);
    let times = round_trips(&echo.try_run()?);
    let (avg, p50, p99) = averages(&times).context("no echo came back")?;
    let mut values = vec![(Metric::IdleAvg, avg), (Metric::IdleP50, p50), (Metric::IdleP99, p99)];
    if let Some(now) = memory(subject, |memory| memory.now_mib)? {
        values.push((Metric::RssIdle, now));
    }
    Ok(Measured { values, ..Measured::default() })
}

/// The larger one of the two daemons; `None` without daemons.
fn memory(subject: &Running, which: impl Fn(&Memory) -> f64) -> Result<Option<f64>> {
    let memories = subject.daemons()?.into_iter().map(Memory::of).collect::<Result<Vec<_>>>()?;
    Ok(memories.iter().map(which).max_by(f64::total_cmp))
}

fn udp(subject: &Running) -> Result<Measured> {
    let window = UDP_WINDOW.min(largest_window()?);
    let mut search = Search::default();
    while let Some(rate) = search.next() {
        let _server = Iperf::on(&subject.b).serve()?;
        let figures = iperf::udp(&subject.a, subject.address, rate, UDP_LENGTH, window)?;
        search.tried(rate, figures.loss < UDP_LOSS && figures.sent_mbit >= UDP_SENT * rate);
    }
    let best = search.best().context("not even the lowest rate passes")?;
    Ok(Measured { values: vec![(Metric::Udp, best)], ..Measured::default() })
}

/// What a program may ask for, of both buffers; iperf3 refuses to work with less than it asked for.
fn largest_window() -> Result<usize> {
    let of = |name: &str| -> Result<usize> {
        Ok(std::fs::read_to_string(format!("/proc/sys/net/core/{name}"))?.trim().parse()?)
    };
    Ok(of("rmem_max")?.min(of("wmem_max")?))
}

/// What had been used, and what the wire had done, at one moment.
struct Usage {
    daemons: f64,
    relay: Option<f64>,
    machine: f64,
    wire: Option<[Counts; 2]>,
}

impl Usage {
    fn of(subject: &Running) -> Result<Self> {
        let seconds = |pids: Vec<_>| pids.into_iter().map(cpu_seconds).sum::<Result<f64>>();
        let wire = subject.wire.as_ref().map(|wire| {
            clock::pause(COUNTS_EVERY * 2);
            wire.counts()
        });
        Ok(Self {
            daemons: seconds(subject.daemons()?)?,
            relay: subject.relay()?.map(cpu_seconds).transpose()?,
            machine: machine_seconds()?,
            wire: wire.transpose()?,
        })
    }

    fn per_gb(&self, before: &Self, bytes: u64) -> Vec<(Metric, f64)> {
        let per_gb = |seconds: f64| seconds / (bytes as f64 / 1e9);
        let mut values = vec![(Metric::MachineCpu, per_gb(self.machine - before.machine))];
        if self.daemons > 0.0 {
            values.push((Metric::DaemonCpu, per_gb(self.daemons - before.daemons)));
        }
        if let (Some(after), Some(before)) = (self.relay, before.relay) {
            values.push((Metric::RelayCpu, per_gb(after - before)));
        }
        if let (Some(after), Some(before)) = (self.wire, before.wire) {
            values.push((Metric::QueueDrops, dropped_percent(&after[0], &before[0])));
        }
        values
    }
}

/// Of the frames towards the receiver.
fn dropped_percent(after: &Counts, before: &Counts) -> f64 {
    let dropped = (after.dropped - before.dropped) as f64;
    let all = dropped + (after.carried - before.carried) as f64 + (after.lost - before.lost) as f64;
    if all > 0.0 { 100.0 * dropped / all } else { 0.0 }
}

/// Carries something for a moment, so that nobody is measured while it is still finding its way.
pub fn warm_up(subject: &Running) -> Result<()> {
    let congestion = subject.subject.inner_congestion();
    let shape = Shape { streams: 1, reverse: false, congestion, seconds: 2 };
    let (mut client, _server) = begin(subject, &shape)?;
    let figures = iperf::read(&end(&mut client, &shape)?)?;
    ensure!(figures.bytes > 0, "nothing was carried");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_divided_by_what_arrived() {
        let usage = |daemons, relay, machine| Usage { daemons, relay, machine, wire: None };
        let values = usage(3.0, Some(2.0), 9.0).per_gb(&usage(1.0, Some(1.5), 5.0), 500_000_000);
        let expected = [(Metric::MachineCpu, 8.0), (Metric::DaemonCpu, 4.0), (Metric::RelayCpu, 1.0)];
        assert_eq!(values, expected);
        assert_eq!(usage(0.0, None, 6.0).per_gb(&usage(0.0, None, 5.0), 1_000_000_000).len(), 1);
    }

    #[test]
    fn drops_are_a_share_of_what_was_sent() {
        let before = Counts { carried: 100, lost: 10, dropped: 5 };
        let after = Counts { carried: 170, lost: 20, dropped: 25 };
        assert_eq!(dropped_percent(&after, &before), 20.0);
        assert_eq!(dropped_percent(&before, &before), 0.0);
    }
}
