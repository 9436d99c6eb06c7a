//! What Prometheus expects to know of every process (`process_*`), read from `/proc/self`.

use std::fs;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

/// proc(5) counts CPU time in these, on every Linux that peerup runs on.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE: i64 = 4096;

pub struct ProcessMetrics {
    cpu: Counter<f64, std::sync::atomic::AtomicU64>,
    resident: Gauge,
    open_fds: Gauge,
}

impl ProcessMetrics {
    /// `started_unix` is when the process began, in seconds.
    pub fn register(registry: &mut Registry, started_unix: u64) -> Self {
        let registry = registry.sub_registry_with_prefix("process");
        let this = Self { cpu: Counter::default(), resident: Gauge::default(), open_fds: Gauge::default() };
        let start: Gauge = Gauge::default();
        start.set(i64::try_from(started_unix).unwrap_or(i64::MAX));
        registry.register_with_unit("cpu", "User and system CPU time", Unit::Seconds, this.cpu.clone());
        registry.register_with_unit("resident_memory", "Resident memory", Unit::Bytes, this.resident.clone());
        registry.register("open_fds", "Open file descriptors", this.open_fds.clone());
        registry.register_with_unit("start_time", "Start since the epoch", Unit::Seconds, start);
        this
    }

    /// A value that the kernel does not tell keeps its last one.
    pub fn read(&self) {
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat))
        {
            self.cpu.inner().store(seconds.to_bits(), std::sync::atomic::Ordering::Relaxed);
        }
        if let Some(pages) =
            fs::read_to_string("/proc/self/statm").ok().and_then(|statm| resident_pages(&statm))
        {
            self.resident.set(pages * PAGE);
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            self.open_fds.set(i64::try_from(entries.count()).unwrap_or(i64::MAX));
        }
    }
}

/// utime and stime are fields 14 and 15; the name in field 2 may contain anything but ends with the last parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn resident_pages(statm: &str) -> Option<i64> {
    statm.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_process_name() {
        let stat = "1 (a) b) S 0 1 1 0 -1 4194560 10 0 0 0 150 50 0 0 20 0 1 0 5";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("1 (x) S"), None);
        assert_eq!(resident_pages("500 123 7"), Some(123));
    }
}
