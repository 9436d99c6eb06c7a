//! ping: round trips and loss, read from its summary.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::host::Host;
use crate::process::{Cmd, Output};

/// What a run of ping measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Pings {
    pub sent: u32,
    pub received: u32,
    /// NaN when nothing came back.
    pub avg_ms: f64,
    pub min_ms: f64,
    /// The last reply before the first gap, with its Unix time: where to look in the logs.
    pub before_gap: String,
    /// Sequence numbers without a reply.
    pub missing: Vec<u32>,
}

impl Pings {
    pub fn lost(&self) -> u32 {
        self.sent - self.received
    }

    /// Insists on a reply to each.
    pub fn all_answered(&self) -> Result<()> {
        ensure!(self.sent > 0, "nothing was sent");
        let Self { sent, missing, before_gap, .. } = self;
        ensure!(missing.is_empty(), "lost {missing:?} of {sent}, the first one after {before_gap:?}");
        Ok(())
    }

    /// Reads the output of a [`ping`] that was to send `count`.
    pub fn parse(output: &Output, count: u32) -> Result<Self> {
        if is_unrouted(output) {
            let (before_gap, missing) = (String::new(), Vec::new());
            return Ok(Self {
                sent: 0,
                received: 0,
                avg_ms: f64::NAN,
                min_ms: f64::NAN,
                before_gap,
                missing,
            });
        }
        Self::parse_text(&output.stdout, count).with_context(|| format!("no ping summary in {output}"))
    }

    fn parse_text(text: &str, count: u32) -> Option<Self> {
        text.lines().find(|line| line.contains("packets transmitted"))?;
        let answered = answered(text);
        let missing: Vec<u32> = (1..=count).filter(|number| !answered.contains(number)).collect();
        let received = count - u32::try_from(missing.len()).ok()?;
        let last = missing.first().map(|first| format!("icmp_seq={} ", first - 1));
        let before_gap = text.lines().find(|line| last.as_ref().is_some_and(|last| line.contains(last)));
        let before_gap = before_gap.unwrap_or_default().to_owned();
        // `rtt min/avg/max/mdev = 0.025/0.040/0.055/0.015 ms`
        let times = text.lines().find_map(|line| line.strip_prefix("rtt ")?.split(" = ").nth(1));
        let mut times = times.into_iter().flat_map(|times| times.split('/')).map(|time| time.parse().ok());
        let (min_ms, avg_ms) = (times.next().flatten(), times.next().flatten());
        let (min_ms, avg_ms) = (min_ms.unwrap_or(f64::NAN), avg_ms.unwrap_or(f64::NAN));
        Some(Self { sent: count, received, avg_ms, min_ms, before_gap, missing })
    }
}

/// The sequence numbers below the highest answered one that were not answered. For a ping that was stopped: what
/// was under way at that moment counts neither way.
pub fn gaps(output: &Output) -> Vec<u32> {
    let answered = answered(&output.stdout);
    let last = answered.last().copied().unwrap_or(0);
    (1..last).filter(|number| !answered.contains(number)).collect()
}

/// The sequence numbers of replies.
fn answered(text: &str) -> BTreeSet<u32> {
    let replies = text.lines().filter(|line| line.contains(" bytes from "));
    replies.filter_map(|line| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok()).collect()
}

/// The round trip of each reply, in milliseconds.
pub fn round_trips(output: &Output) -> Vec<f64> {
    let replies = output.stdout.lines().filter(|line| line.contains(" bytes from "));
    replies.filter_map(|line| line.split("time=").nth(1)?.split(' ').next()?.parse().ok()).collect()
}

/// The longest time between two replies of a [`ping`], by the clock that `-D` prints.
pub fn longest_silence(output: &Output) -> Duration {
    let replies = output.stdout.lines().filter(|line| line.contains(" bytes from "));
    let times: Vec<f64> =
        replies.filter_map(|line| line.strip_prefix('[')?.split(']').next()?.parse().ok()).collect();
    let silences = times.windows(2).map(|pair| (pair[1] - pair[0]).max(0.0));
    Duration::from_secs_f64(silences.fold(0.0, f64::max))
}

/// Pings until `count` replies arrived, or until the last of `count` had two seconds.
///
/// With `-c` alone ping waits for the last replies only as long as two of the round trips it has seen, so that
/// a reply that is late would count as lost. With `-w` too it waits, and sends more meanwhile.
pub fn ping(from: &Host, address: &str, count: u32, interval: Duration) -> Cmd {
    let interval_s = format!("{}", interval.as_secs_f64());
    // On a busy machine the intervals come out longer than asked for.
    let patience = (interval * count * 2).as_secs() + 3;
    let numbers =
        ["-c".to_owned(), count.to_string(), "-i".into(), interval_s, "-w".into(), patience.to_string()];
    let cmd = from.cmd("ping").arg("-D").args(numbers).arg(address);
    cmd.deadline(Duration::from_secs(patience + 15))
}

/// Runs ping to its end, whatever it lost.
pub fn pings(from: &Host, address: &str, count: u32, interval: Duration) -> Result<Pings> {
    Pings::parse(&ping(from, address, count, interval).try_run()?, count)
}

/// Pings five times a second until the first reply or refusal.
pub fn first_ping(from: &Host, address: &str, deadline: Duration) -> Cmd {
    let seconds = deadline.as_secs().max(1).to_string();
    let cmd = from.cmd("ping").args(["-c", "1", "-i", "0.2", "-w", &seconds, address]);
    cmd.deadline(deadline + Duration::from_secs(5))
}

/// Waits for the first reply and says how long it took. A refusal by the network ("unreachable") ends a ping, not the
/// waiting; a refusal by this host's own routing table ends both, because who waits here was told that there is a route.
pub fn first_reply(from: &Host, address: &str, deadline: Duration) -> Result<Duration> {
    let mut unrouted = None;
    let what = format!("{}: a reply from {address}", from.name());
    let waited =
        crate::wait_until(&what, deadline, || match first_ping(from, address, deadline).try_run() {
            Ok(output) if is_unrouted(&output) => {
                unrouted = Some(output);
                true
            }
            Ok(output) => output.code == Some(0),
            Err(_) => false,
        })?;
    match unrouted {
        Some(output) => bail!("no route to {address}: {output}"),
        None => Ok(waited),
    }
}

/// Whether the host's own routing table refused the address: nothing was sent.
fn is_unrouted(output: &Output) -> bool {
    output.stderr.contains("connect: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_among_those_that_were_asked_for() {
        let good: String = [1, 2, 4, 5, 3, 3].map(reply).concat()
            + "7 packets transmitted, 5 received, +1 duplicates, 28% packet loss, time 4012ms\n\
               rtt min/avg/max/mdev = 0.025/0.040/0.055/0.015 ms\n";
        let pings = Pings::parse_text(&good, 5).unwrap();
        assert_eq!((pings.lost(), pings.avg_ms, pings.min_ms), (0, 0.040, 0.025));
        let gap = Pings::parse_text(&good.replace("seq=2 ", "seq=6 "), 5).unwrap();
        assert_eq!((gap.lost(), &gap.missing[..]), (1, &[2][..]));
        assert!(gap.before_gap.contains("icmp_seq=1 "), "{gap:?}");
        assert!(pings.all_answered().is_ok() && gap.all_answered().is_err());
        let none = "9 packets transmitted, 0 received, +3 errors, 100% packet loss, time 2012ms\n";
        let pings = Pings::parse_text(none, 3).unwrap();
        assert_eq!(pings.lost(), 3);
        assert!(pings.avg_ms.is_nan());
        assert!(Pings::parse_text(&reply(1), 3).is_none(), "a ping that was cut off has no summary");
    }

    #[test]
    fn gaps_are_what_a_stopped_ping_lost() {
        let stdout: String = [1, 2, 4, 3, 7].map(reply).concat();
        let (line, stderr, took) = (String::new(), String::new(), Duration::ZERO);
        let output = Output { line, code: Some(0), stdout, stderr, took };
        assert_eq!(gaps(&output), [5, 6]);
    }

    #[test]
    fn each_reply_has_its_round_trip() {
        let (line, stderr, took) = (String::new(), String::new(), Duration::ZERO);
        let stdout = reply(1) + "no answer yet for icmp_seq=2\n" + &reply(3).replace("0.5", "17");
        assert_eq!(round_trips(&Output { line, code: Some(0), stdout, stderr, took }), [0.5, 17.0]);
    }

    #[test]
    fn the_longest_silence_lies_between_two_replies() {
        let stdout = ["10.00", "10.25", "12.25", "12.50"].map(|at| format!("[{at}] {}", reply(1))).concat();
        let (line, stderr, took) = (String::new(), String::new(), Duration::ZERO);
        let output = Output { line, code: Some(0), stdout, stderr, took };
        assert_eq!(longest_silence(&output), Duration::from_secs(2));
    }

    fn reply(number: u32) -> String {
        format!("64 bytes from 10.64.0.2: icmp_seq={number} ttl=64 time=0.5 ms\n")
    }
}
