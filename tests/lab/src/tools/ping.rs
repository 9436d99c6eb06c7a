//! ping: round trips and loss, read from its summary.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::process::{Cmd, Output};

/// What a run of ping measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pings {
    pub sent: u32,
    pub received: u32,
    /// NaN when nothing came back.
    pub avg_ms: f64,
    pub min_ms: f64,
}

impl Pings {
    pub fn lost(&self) -> u32 {
        self.sent - self.received
    }

    pub fn parse(output: &Output) -> Result<Self> {
        if output.stderr.contains("connect: ") {
            // Refused by the routing table: nothing was even sent.
            return Ok(Self { sent: 0, received: 0, avg_ms: f64::NAN, min_ms: f64::NAN });
        }
        Self::parse_text(&output.stdout).with_context(|| format!("no ping summary in {output}"))
    }

    fn parse_text(text: &str) -> Option<Self> {
        // `200 packets transmitted, 200 received, 0% packet loss, time 4012ms`
        let counts = text.lines().find(|line| line.contains("packets transmitted"))?;
        let mut numbers = counts.split(", ").map(|part| part.split_whitespace().next()?.parse().ok());
        let (sent, received) = (numbers.next()??, numbers.next()??);
        // `rtt min/avg/max/mdev = 0.025/0.040/0.055/0.015 ms`
        let times = text.lines().find_map(|line| line.strip_prefix("rtt ")?.split(" = ").nth(1));
        let mut times = times.into_iter().flat_map(|times| times.split('/')).map(|time| time.parse().ok());
        let (min_ms, avg_ms) = (times.next().flatten(), times.next().flatten());
        let (min_ms, avg_ms) = (min_ms.unwrap_or(f64::NAN), avg_ms.unwrap_or(f64::NAN));
        Some(Self { sent, received, avg_ms, min_ms })
    }
}

/// The sequence numbers below the highest answered one that were not answered. For a ping that was stopped: what
/// was under way at that moment counts neither way.
pub fn gaps(output: &Output) -> Vec<u32> {
    let replies = output.stdout.lines().filter(|line| line.contains(" bytes from "));
    let numbers = replies.filter_map(|line| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok());
    let answered: BTreeSet<u32> = numbers.collect();
    let last = answered.last().copied().unwrap_or(0);
    (1..last).filter(|number| !answered.contains(number)).collect()
}

/// `ping -c COUNT -i INTERVAL ADDRESS`; each reply may take two seconds.
pub fn ping(from: &Host, address: &str, count: u32, interval: Duration) -> Cmd {
    let interval_s = format!("{}", interval.as_secs_f64());
    let cmd = from.cmd("ping").args(["-c", &count.to_string(), "-i", &interval_s, "-W", "2", address]);
    cmd.deadline(interval * count + Duration::from_secs(15))
}

/// Runs ping to its end, whatever it lost.
pub fn pings(from: &Host, address: &str, count: u32, interval: Duration) -> Result<Pings> {
    Pings::parse(&ping(from, address, count, interval).try_run()?)
}

/// Pings five times a second until the first reply or refusal.
pub fn first_ping(from: &Host, address: &str, deadline: Duration) -> Cmd {
    let seconds = deadline.as_secs().max(1).to_string();
    let cmd = from.cmd("ping").args(["-c", "1", "-i", "0.2", "-w", &seconds, address]);
    cmd.deadline(deadline + Duration::from_secs(5))
}

/// Waits for the first reply and says how long it took. A refusal ("no route", "unreachable") ends a ping, not
/// the waiting.
pub fn first_reply(from: &Host, address: &str, deadline: Duration) -> Result<Duration> {
    crate::wait_until(&format!("{}: a reply from {address}", from.name()), deadline, || {
        first_ping(from, address, deadline).try_run().is_ok_and(|output| output.code == Some(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_with_and_without_replies_is_read() {
        let good = "200 packets transmitted, 198 received, 1% packet loss, time 4012ms\n\
                    rtt min/avg/max/mdev = 0.025/0.040/0.055/0.015 ms\n";
        let pings = Pings::parse_text(good).unwrap();
        assert_eq!((pings.lost(), pings.avg_ms, pings.min_ms), (2, 0.040, 0.025));
        let none = "3 packets transmitted, 0 received, +3 errors, 100% packet loss, time 2012ms\n";
        let pings = Pings::parse_text(none).unwrap();
        assert_eq!(pings.lost(), 3);
        assert!(pings.avg_ms.is_nan());
    }

    #[test]
    fn gaps_are_what_a_stopped_ping_lost() {
        let reply = |number| format!("64 bytes from 10.64.0.2: icmp_seq={number} ttl=64 time=0.5 ms\n");
        let stdout: String = [1, 2, 4, 3, 7].map(reply).concat();
        let (line, stderr, took) = (String::new(), String::new(), Duration::ZERO);
        let output = Output { line, code: Some(0), stdout, stderr, took };
        assert_eq!(gaps(&output), [5, 6]);
    }
}
