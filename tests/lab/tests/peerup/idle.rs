//! What an idle pair costs: written down, and bounded so that a polling loop shows.

use std::time::Duration;

use peerup_lab::clock;
use peerup_lab::peerup::{Node, Pair};

/// Long enough for keep-alives and probes to have had their turn.
const WATCHED: Duration = Duration::from_secs(20);

#[test]
fn an_idle_daemon_hardly_runs() {
    let pair = Pair::direct("idle", crate::homes).unwrap();
    // Punching, identify and the last probes of the busy phase end first.
    clock::pause(Duration::from_secs(10));
    let before = [cpu(&pair.a), cpu(&pair.b)];
    clock::pause(WATCHED);
    for (node, before) in [&pair.a, &pair.b].into_iter().zip(before) {
        let share = (cpu(node) - before) / WATCHED.as_secs_f64();
        let rss = rss_mib(node);
        println!("idle {}: {:.2} % of a CPU, {rss:.1} MiB resident", node.name(), share * 100.0);
        assert!(share < 0.02, "{} uses {:.1} % of a CPU", node.name(), share * 100.0);
        assert!(rss < 150.0, "{} has {rss} MiB resident", node.name());
    }
}

/// CPU seconds the daemon has used; the kernel counts in hundredths.
fn cpu(node: &Node) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.daemon_pid().unwrap())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
    // proc(5): utime is field 14 and stime field 15, counted from 1; these begin at field 3.
    (ticks(11) + ticks(12)) / 100.0
}

pub fn rss_mib(node: &Node) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.daemon_pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}
