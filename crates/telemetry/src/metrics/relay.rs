//! What a relay tells.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

use super::{process::ProcessMetrics, set_total, text};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    decision: &'static str,
}

/// What the relay counts anyway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelaySnapshot {
    pub connected_peers: i64,
    pub reservations: u64,
    pub circuits_opened: u64,
    pub circuits_active: i64,
    /// Reservations and circuits that were refused or cut.
    pub refused: u64,
    pub auth_allowed: u64,
    pub auth_denied: u64,
    pub swarm_restarts: u64,
    pub panics: u64,
}

pub struct RelayMetrics {
    registry: Registry,
    process: ProcessMetrics,
    connected: Gauge,
    reservations: Counter,
    circuits: Counter,
    active: Gauge,
    refused: Counter,
    decisions: Family<Decision, Counter>,
    restarts: Counter,
    panics: Counter,
}

impl RelayMetrics {
    pub fn new(version: &str, started_unix: u64) -> Self {
        let mut registry = Registry::default();
        let process = ProcessMetrics::register(&mut registry, started_unix);
        let mut this = Self {
            registry,
            process,
            connected: Gauge::default(),
            reservations: Counter::default(),
            circuits: Counter::default(),
            active: Gauge::default(),
            refused: Counter::default(),
            decisions: Family::default(),
            restarts: Counter::default(),
            panics: Counter::default(),
        };
        this.register(version);
        this
    }

    fn register(&mut self, version: &str) {
        let own = self.registry.sub_registry_with_prefix("peerup");
        own.register("build", "Build", Info::new([("version", version.to_owned())]));
        own.register("auth_decisions", "Inbound connections by decision", self.decisions.clone());
        own.register("swarm_restarts", "Restarts of libp2p after a panic", self.restarts.clone());
        own.register("panics", "Panics of any task", self.panics.clone());
        let relay = own.sub_registry_with_prefix("relay");
        relay.register("connected_peers", "Hosts connected", self.connected.clone());
        relay.register("reservations", "Reservations granted", self.reservations.clone());
        relay.register("circuits", "Circuits opened", self.circuits.clone());
        relay.register("circuits_active", "Circuits open", self.active.clone());
        relay.register("refused", "Reservations and circuits refused or cut", self.refused.clone());
    }

    /// For what libp2p registers of its own.
    pub fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    pub fn page(&self, snapshot: &RelaySnapshot) -> String {
        self.process.read();
        self.connected.set(snapshot.connected_peers);
        self.active.set(snapshot.circuits_active);
        set_total(&self.reservations, snapshot.reservations);
        set_total(&self.circuits, snapshot.circuits_opened);
        set_total(&self.refused, snapshot.refused);
        for (decision, total) in [("allow", snapshot.auth_allowed), ("deny", snapshot.auth_denied)] {
            set_total(&self.decisions.get_or_create(&Decision { decision }), total);
        }
        set_total(&self.restarts, snapshot.swarm_restarts);
        set_total(&self.panics, snapshot.panics);
        text(&self.registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_of_a_relay_are_shown_as_they_stand() {
        let metrics = RelayMetrics::new("1.2.3", 0);
        let page =
            metrics.page(&RelaySnapshot { circuits_opened: 5, circuits_active: 2, ..Default::default() });
        assert!(page.contains("peerup_relay_circuits_total 5\n"), "{page}");
        assert!(page.contains("peerup_relay_circuits_active 2\n"), "{page}");
    }
}
