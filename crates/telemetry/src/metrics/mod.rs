//! Metrics in the Prometheus text format, in a registry of our own: nothing is global, and where metrics are off
//! nothing exists that could cost something.
//!
//! What the program counts anyway (packets, drops) is read when somebody asks; what only passes by (a dial, a hole
//! punch) is recorded through handles that are an `Option` where it passes. Names are part of the interface: the
//! dashboard in `docs/grafana` uses them, and a test holds it to that.

mod node;
mod process;
mod relay;

pub use node::{Carried, ConnectedPeers, NodeMetrics, NodeSnapshot, Served};
pub use relay::{RelayMetrics, RelaySnapshot};

use prometheus_client::{encoding::text::encode, metrics::counter::Counter, registry::Registry};

/// The first bound of a histogram of times and how many times it doubles, as the Go original has them.
fn doubling(first: f64, count: u16) -> impl Iterator<Item = f64> {
    prometheus_client::metrics::histogram::exponential_buckets(first, 2.0, count)
}

/// Sets a counter to a total that is kept elsewhere.
fn set_total(counter: &Counter, total: u64) {
    counter.inner().store(total, std::sync::atomic::Ordering::Relaxed);
}

fn text(registry: &Registry) -> String {
    let mut page = String::new();
    encode(&mut page, registry).expect("a String takes everything");
    page
}
