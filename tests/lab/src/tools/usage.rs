//! What programs and the whole machine have used, as the kernel counts it.

use anyhow::{Context, Result};
use nix::unistd::Pid;

/// The unit of processor times in /proc; the same on all systems Linux runs on.
const TICKS_A_SECOND: f64 = 100.0;

/// CPU seconds a program has used, all its threads together; the kernel counts in hundredths.
pub fn cpu_seconds(pid: Pid) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    program_seconds(&stat).with_context(|| format!("/proc/{pid}/stat: {stat}"))
}

fn program_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    // proc(5): utime is field 14 and stime field 15, counted from 1; these begin at field 3.
    let mut ticks = fields.split_whitespace().skip(11).map(|field| field.parse::<f64>().ok());
    Some((ticks.next()?? + ticks.next()??) / TICKS_A_SECOND)
}

/// Seconds for which the machine's processors were busy, all of them together.
pub fn machine_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    busy_seconds(&stat).with_context(|| format!("/proc/stat: {stat}"))
}

fn busy_seconds(stat: &str) -> Option<f64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Option<Vec<f64>> = fields.map(|field| field.parse().ok()).collect();
    // proc(5): user, nice, system, idle, iowait, irq, softirq, and more that are counted among these.
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks?[..] else { return None };
    Some((user + nice + system + irq + softirq) / TICKS_A_SECOND)
}

/// Resident memory of a program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    pub now_mib: f64,
    /// The most it has had since it was started.
    pub peak_mib: f64,
}

impl Memory {
    pub fn of(pid: Pid) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        Self::parse(&status).with_context(|| format!("/proc/{pid}/status: {status}"))
    }

    fn parse(status: &str) -> Option<Self> {
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
        };
        Some(Self { now_mib: mib("VmRSS:")?, peak_mib: mib("VmHWM:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_brackets_and_spaces() {
        let stat = "17 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1";
        assert_eq!(program_seconds(stat), Some(3.0));
        assert_eq!(program_seconds("17 (a) S 1"), None);
    }

    #[test]
    fn idle_and_waiting_are_not_busy() {
        assert_eq!(busy_seconds("cpu  100 20 30 9999 888 4 6 0 0 0\ncpu0 1 1\n"), Some(1.6));
        assert_eq!(busy_seconds("intr 7\n"), None);
    }

    #[test]
    fn memory_is_read_as_of_now_and_at_its_peak() {
        let memory = Memory::parse("Name:\tx\nVmHWM:\t   4096 kB\nVmRSS:\t   2048 kB\n");
        assert_eq!(memory, Some(Memory { now_mib: 2.0, peak_mib: 4.0 }));
    }
}
