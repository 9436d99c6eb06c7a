//! What a node tells.

use std::{collections::BTreeMap, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use super::{doubling, process::ProcessMetrics, set_total, text};

macro_rules! labels {
    ($($name:ident { $($label:ident: $kind:ty),* })*) => {
        $(#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $kind),* })*
    };
}

labels! {
    Decision { decision: &'static str }
    Outcome { result: &'static str }
    Route { method: String, path: String, status: u16 }
    Dial { path_type: &'static str, result: &'static str }
    PathType { path_type: &'static str }
    Connected { path_type: &'static str, transport: &'static str, ip_version: &'static str }
    Change { change_type: &'static str }
    Family4Or6 { ip_version: &'static str }
    Moved { direction: &'static str, path_type: &'static str }
    Reason { reason: &'static str }
    Switch { to: &'static str, reason: &'static str }
    Proxied { direction: &'static str, service: String }
    Service { service: String }
}

/// Bytes and packets that crossed the overlay, of one kind of path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
}

/// Peers with the same kind of path: `DIRECT`/`PEER-RELAYED`/`RELAYED`, `quic`/`tcp`, `ipv4`/`ipv6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectedPeers {
    pub path_type: &'static str,
    pub transport: &'static str,
    pub ip_version: &'static str,
    pub peers: i64,
}

/// The sessions of one service on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    pub service: String,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub connections: u64,
    pub active: i64,
}

/// What the node counts anyway.
#[derive(Debug, Clone, Default)]
pub struct NodeSnapshot {
    pub connected: Vec<ConnectedPeers>,
    /// By path type.
    pub carried: BTreeMap<&'static str, Carried>,
    pub drops: Vec<(&'static str, u64)>,
    /// Packets that were told that they met congestion.
    pub marked: u64,
    pub auth_denied: u64,
    pub swarm_restarts: u64,
    pub panics: u64,
    /// Bytes and circuits that this node relays for its peers.
    pub relayed_bytes: u64,
    pub relayed_circuits: i64,
    pub interface_addresses_v4: i64,
    pub interface_addresses_v6: i64,
    pub served: Vec<Served>,
}

pub struct NodeMetrics {
    registry: Registry,
    process: ProcessMetrics,
    decisions: Family<Decision, Counter>,
    punches: Family<Outcome, Counter>,
    punch_times: Family<Outcome, Histogram>,
    requests: Family<Route, Counter>,
    request_times: Family<Route, Histogram>,
    dials: Family<Dial, Counter>,
    dial_times: Family<PathType, Histogram>,
    connected: Family<Connected, Gauge>,
    changes: Family<Change, Counter>,
    stun: Family<Outcome, Counter>,
    interfaces: Family<Family4Or6, Gauge>,
    packets: Family<Moved, Counter>,
    bytes: Family<Moved, Counter>,
    drops: Family<Reason, Counter>,
    marked: Counter,
    switches: Family<Switch, Counter>,
    probes: Family<PathType, Histogram>,
    relayed_bytes: Counter,
    relayed_circuits: Gauge,
    restarts: Counter,
    panics: Counter,
    proxy_bytes: Family<Proxied, Counter>,
    proxy_connections: Family<Service, Counter>,
    proxy_active: Family<Service, Gauge>,
    proxy_times: Family<Service, Histogram>,
}

impl NodeMetrics {
    pub fn new(version: &str, started_unix: u64) -> Self {
        let mut registry = Registry::default();
        let process = ProcessMetrics::register(&mut registry, started_unix);
        let mut this = Self {
            registry,
            process,
            decisions: Family::default(),
            punches: Family::default(),
            punch_times: Family::new_with_constructor(|| Histogram::new(doubling(0.01, 10))),
            requests: Family::default(),
            request_times: Family::new_with_constructor(|| Histogram::new(doubling(0.005, 12))),
            dials: Family::default(),
            dial_times: Family::new_with_constructor(|| Histogram::new(doubling(0.1, 10))),
            connected: Family::default(),
            changes: Family::default(),
            stun: Family::default(),
            interfaces: Family::default(),
            packets: Family::default(),
            bytes: Family::default(),
            drops: Family::default(),
            marked: Counter::default(),
            switches: Family::default(),
            probes: Family::new_with_constructor(|| Histogram::new(doubling(0.0005, 14))),
            relayed_bytes: Counter::default(),
            relayed_circuits: Gauge::default(),
            restarts: Counter::default(),
            panics: Counter::default(),
            proxy_bytes: Family::default(),
            proxy_connections: Family::default(),
            proxy_active: Family::default(),
            proxy_times: Family::new_with_constructor(|| Histogram::new(doubling(1.0, 12))),
        };
        this.register(version);
        this
    }

    fn register(&mut self, version: &str) {
        let own = self.registry.sub_registry_with_prefix("peerup");
        own.register("build", "Build", Info::new([("version", version.to_owned())]));
        own.register("auth_decisions", "Inbound connections by decision", self.decisions.clone());
        own.register("holepunch", "Hole punches by result", self.punches.clone());
        own.register_with_unit(
            "holepunch_duration",
            "From the request to the result",
            Unit::Seconds,
            self.punch_times.clone(),
        );
        own.register("daemon_requests", "Requests at the control socket", self.requests.clone());
        own.register_with_unit(
            "daemon_request_duration",
            "Time to answer a request at the control socket",
            Unit::Seconds,
            self.request_times.clone(),
        );
        own.register("path_dial", "Dials by result", self.dials.clone());
        own.register_with_unit(
            "path_dial_duration",
            "From the dial to the connection",
            Unit::Seconds,
            self.dial_times.clone(),
        );
        own.register("connected_peers", "Peers with a path in use", self.connected.clone());
        own.register("network_change", "Changes of this host's network", self.changes.clone());
        own.register("stun_probe", "STUN requests by result", self.stun.clone());
        own.register("interface_count", "Global addresses of this host", self.interfaces.clone());
        own.register("packets", "Inner packets carried", self.packets.clone());
        own.register("bytes", "Inner bytes carried", self.bytes.clone());
        own.register("drops", "Packets that went nowhere, by reason", self.drops.clone());
        own.register("congestion_marks", "Packets marked by ECN in place of a drop", self.marked.clone());
        own.register("path_changes", "Changes of the path in use", self.switches.clone());
        own.register_with_unit("probe_rtt", "Round trips of probes", Unit::Seconds, self.probes.clone());
        own.register("relay_bytes", "Bytes relayed for peers", self.relayed_bytes.clone());
        own.register("relay_circuits_relayed", "Circuits relayed for peers", self.relayed_circuits.clone());
        own.register("swarm_restarts", "Restarts of libp2p after a panic", self.restarts.clone());
        own.register("panics", "Panics of any task", self.panics.clone());
        own.register("proxy_bytes", "Bytes of service sessions", self.proxy_bytes.clone());
        own.register("proxy_connections", "Service sessions begun", self.proxy_connections.clone());
        own.register("proxy_active_connections", "Service sessions open", self.proxy_active.clone());
        own.register_with_unit(
            "proxy_duration",
            "Length of service sessions",
            Unit::Seconds,
            self.proxy_times.clone(),
        );
    }

    /// For what libp2p registers of its own.
    pub fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    pub fn admitted(&self) {
        self.decisions.get_or_create(&Decision { decision: "allow" }).inc();
    }

    pub fn punched(&self, success: bool, took: Option<Duration>) {
        let outcome = Outcome { result: word(success) };
        self.punches.get_or_create(&outcome).inc();
        if let Some(took) = took {
            self.punch_times.get_or_create(&outcome).observe(took.as_secs_f64());
        }
    }

    /// `path` is the route, not the request's text: its labels are few.
    pub fn requested(&self, method: &str, path: &str, status: u16, took: Duration) {
        let route = Route { method: method.to_owned(), path: path.to_owned(), status };
        self.requests.get_or_create(&route).inc();
        self.request_times.get_or_create(&route).observe(took.as_secs_f64());
    }

    pub fn dialed(&self, path_type: &'static str, took: Duration) {
        self.dials.get_or_create(&Dial { path_type, result: "success" }).inc();
        self.dial_times.get_or_create(&PathType { path_type }).observe(took.as_secs_f64());
    }

    pub fn dial_failed(&self) {
        self.dials.get_or_create(&Dial { path_type: "none", result: "failure" }).inc();
    }

    pub fn network_changed(&self, change_type: &'static str) {
        self.changes.get_or_create(&Change { change_type }).inc();
    }

    pub fn stun_probed(&self, success: bool) {
        self.stun.get_or_create(&Outcome { result: word(success) }).inc();
    }

    pub fn path_changed(&self, to: &'static str, reason: &'static str) {
        self.switches.get_or_create(&Switch { to, reason }).inc();
    }

    pub fn probed(&self, path_type: &'static str, rtt: Duration) {
        self.probes.get_or_create(&PathType { path_type }).observe(rtt.as_secs_f64());
    }

    pub fn session_ended(&self, service: &str, lasted: Duration) {
        let service = Service { service: service.to_owned() };
        self.proxy_times.get_or_create(&service).observe(lasted.as_secs_f64());
    }

    /// The page: what was recorded, and the snapshot.
    pub fn page(&self, snapshot: &NodeSnapshot) -> String {
        self.process.read();
        self.show(snapshot);
        text(&self.registry)
    }

    fn show(&self, snapshot: &NodeSnapshot) {
        self.connected.clear();
        for row in &snapshot.connected {
            let ConnectedPeers { path_type, transport, ip_version, peers } = *row;
            self.connected.get_or_create(&Connected { path_type, transport, ip_version }).set(peers);
        }
        for (&path_type, carried) in &snapshot.carried {
            let both =
                [("rx", carried.rx_packets, carried.rx_bytes), ("tx", carried.tx_packets, carried.tx_bytes)];
            for (direction, packets, bytes) in both {
                let moved = Moved { direction, path_type };
                set_total(&self.packets.get_or_create(&moved), packets);
                set_total(&self.bytes.get_or_create(&moved), bytes);
            }
        }
        for &(reason, packets) in &snapshot.drops {
            set_total(&self.drops.get_or_create(&Reason { reason }), packets);
        }
        set_total(&self.decisions.get_or_create(&Decision { decision: "deny" }), snapshot.auth_denied);
        set_total(&self.marked, snapshot.marked);
        set_total(&self.restarts, snapshot.swarm_restarts);
        set_total(&self.panics, snapshot.panics);
        set_total(&self.relayed_bytes, snapshot.relayed_bytes);
        self.relayed_circuits.set(snapshot.relayed_circuits);
        for (ip_version, count) in
            [("ipv4", snapshot.interface_addresses_v4), ("ipv6", snapshot.interface_addresses_v6)]
        {
            self.interfaces.get_or_create(&Family4Or6 { ip_version }).set(count);
        }
        for served in &snapshot.served {
            self.show_service(served);
        }
    }

    fn show_service(&self, served: &Served) {
        for (direction, bytes) in [("rx", served.rx_bytes), ("tx", served.tx_bytes)] {
            let proxied = Proxied { direction, service: served.service.clone() };
            set_total(&self.proxy_bytes.get_or_create(&proxied), bytes);
        }
        let service = Service { service: served.service.clone() };
        set_total(&self.proxy_connections.get_or_create(&service), served.connections);
        self.proxy_active.get_or_create(&service).set(served.active);
    }
}

fn word(success: bool) -> &'static str {
    if success { "success" } else { "failure" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_and_what_is_counted_elsewhere_stands_on_one_page() {
        let metrics = NodeMetrics::new("1.2.3", 1_700_000_000);
        metrics.admitted();
        metrics.punched(true, Some(Duration::from_millis(40)));
        metrics.requested("GET", "/v1/auth/{peer}", 200, Duration::from_millis(3));
        let carried = Carried { rx_bytes: 7, tx_bytes: 9, ..Carried::default() };
        let page = metrics.page(&NodeSnapshot {
            carried: BTreeMap::from([("DIRECT", carried)]),
            drops: vec![("spoofed", 3)],
            marked: 5,
            auth_denied: 2,
            ..NodeSnapshot::default()
        });
        for line in [
            "peerup_build_info{version=\"1.2.3\"} 1",
            "peerup_auth_decisions_total{decision=\"allow\"} 1",
            "peerup_auth_decisions_total{decision=\"deny\"} 2",
            "peerup_holepunch_total{result=\"success\"} 1",
            "peerup_daemon_requests_total{method=\"GET\",path=\"/v1/auth/{peer}\",status=\"200\"} 1",
            "peerup_bytes_total{direction=\"rx\",path_type=\"DIRECT\"} 7",
            "peerup_bytes_total{direction=\"tx\",path_type=\"DIRECT\"} 9",
            "peerup_drops_total{reason=\"spoofed\"} 3",
            "peerup_congestion_marks_total 5",
            "process_start_time_seconds 1700000000",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn a_kind_of_path_that_nobody_uses_any_more_is_not_shown() {
        let metrics = NodeMetrics::new("1", 0);
        let row = ConnectedPeers { path_type: "RELAYED", transport: "tcp", ip_version: "ipv4", peers: 1 };
        let with = NodeSnapshot { connected: vec![row], ..NodeSnapshot::default() };
        assert!(metrics.page(&with).contains("peerup_connected_peers{"));
        assert!(!metrics.page(&NodeSnapshot::default()).contains("peerup_connected_peers{"));
    }
}
