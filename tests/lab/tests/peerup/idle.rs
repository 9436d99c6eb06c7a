//! What an idle pair costs: written down, and bounded so that a polling loop shows.

use std::time::Duration;

use peerup_lab::clock;
use peerup_lab::peerup::Pair;

/// Long enough for keep-alives and probes to have had their turn.
const WATCHED: Duration = Duration::from_secs(20);

#[test]
fn an_idle_daemon_hardly_runs() {
    let pair = Pair::direct("idle", crate::homes).unwrap();
    // Punching, identify and the last probes of the busy phase end first.
    clock::pause(Duration::from_secs(10));
    let before = [&pair.a, &pair.b].map(|node| node.cpu_seconds().unwrap());
    clock::pause(WATCHED);
    for (node, before) in [&pair.a, &pair.b].into_iter().zip(before) {
        let share = (node.cpu_seconds().unwrap() - before) / WATCHED.as_secs_f64();
        let rss = node.rss_mib().unwrap();
        println!("idle {}: {:.2} % of a CPU, {rss:.1} MiB resident", node.name(), share * 100.0);
        assert!(share < 0.02, "{} uses {:.1} % of a CPU", node.name(), share * 100.0);
        assert!(rss < 150.0, "{} has {rss} MiB resident", node.name());
    }
}
