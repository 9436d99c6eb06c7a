//! Metrics, health checks and the audit log, asked for with curl; and their absence where nobody asked for them.

use std::time::Duration;

use peerup_lab::peerup::{JOINER, Node, Pair};
use peerup_lab::tools::ping::pings;
use peerup_lab::{Host, Show, clock};

use crate::services::proxy;

const TELEMETRY: &str = "\ntelemetry:\n  metrics: {enabled: true}\n  audit: {enabled: true}\n";

#[test]
fn prometheus_reads_a_node_and_a_relay_that_were_told_to_and_the_audit_log_names_who_came() {
    let mut pair = Pair::new("observability", Show::Command, crate::homes).unwrap();
    pair.pair().unwrap();
    let file = pair.a.dir().join("config.yaml");
    let text = pair.a.host().read(&file).unwrap();
    pair.a.host().write(&file, text + TELEMETRY).unwrap();
    let relay = pair.relay.config();
    let text = pair.relay.host().read(&relay).unwrap();
    pair.relay
        .host()
        .write(&relay, text.replace("health:\n  enabled: false", "health:\n  enabled: true") + TELEMETRY)
        .unwrap();
    pair.relay.kill();
    pair.relay.serve().unwrap();
    pair.up().unwrap();
    pair.wait_for_class("direct", Duration::from_secs(20)).unwrap();
    pings(pair.a.host(), JOINER, 20, Duration::from_millis(20)).unwrap().all_answered().unwrap();

    let page = curl(pair.a.host(), "http://127.0.0.1:9091/metrics");
    let rx = value(&page, "peerup_bytes_total{direction=\"rx\",path_type=\"direct\"}");
    assert!(rx >= 20.0 * 84.0, "{rx} bytes in {page}");
    assert!(page.contains("\nlibp2p_swarm_connections_established_total"), "{page}");
    // QUIC is ready first; TCP takes the reliable frames soon after.
    let connected = ["peerup_connected_peers{path_type=\"direct\",transport=\"", "\",ip_version=\"ipv4\"} 1"];
    let over = |transport: &str| page.lines().any(|line| line == connected.join(transport));
    assert!(over("tcp") != over("quic"), "{page}");

    assert!(page.contains("\npeerup_path_dial_total{"), "{page}");
    assert!(page.contains("\npeerup_path_dial_duration_seconds_bucket{"), "{page}");

    let page = curl(pair.relay.host(), "http://127.0.0.1:9091/metrics");
    assert!(page.contains("\nlibp2p_swarm_connections_established_total"), "{page}");
    assert!(value(&page, "peerup_relay_reservations_total") >= 2.0, "{page}");
    let health = curl(pair.relay.host(), "http://127.0.0.1:9090/healthz");
    assert!(health.starts_with("{\"status\":\"ok\""), "{health}");
    let elsewhere = pair
        .b
        .host()
        .ask("curl -s -m 3 -o /dev/null -w '%{http_code}' http://203.0.113.3:9090/healthz || true");
    assert_eq!(elsewhere.unwrap(), "000", "health checks listen on loopback");

    let b = pair.b.id().unwrap();
    assert_eq!(audited(&pair.a, &["auth_decision", &b, "allow"]), 1.., "{}", pair.a.log());
    pair.a.peerup(["service", "add", "db", "localhost:5432", "--allow", &pair.relay.id]).unwrap();
    let (_proxy, address) = proxy(&pair.b, "a", "db").unwrap();
    let refused = pair.b.host().ask(&format!("curl -s -m 10 http://{address}/ || echo refused")).unwrap();
    assert_eq!(refused.trim(), "refused");
    assert_eq!(audited(&pair.a, &["service_acl_denied", &b, "db"]), 1.., "{}", pair.a.log());
    pair.a.peerup(["auth", "remove", &b]).unwrap();
    assert_eq!(audited(&pair.a, &["auth_change", &b, "remove"]), 1.., "{}", pair.a.log());
    assert_eq!(audited(&pair.a, &["daemon_api_access", "DELETE"]), 1.., "{}", pair.a.log());

    // b was not told to.
    let silent = pair.b.host().ask("curl -s -m 3 http://127.0.0.1:9091/metrics || echo refused").unwrap();
    assert_eq!(silent.trim(), "refused");
    assert!(!pair.b.log().contains("\"audit\""), "{}", pair.b.log());
}

fn curl(host: &Host, url: &str) -> String {
    host.run(["curl", "-sSf", "-m", "5", url]).unwrap().stdout
}

/// A relay over both transports and families, its tests of the addresses here, circuits from both sides, and each
/// family over both transports, some of them from both sides.
const FEW: f64 = 18.0;

#[test]
fn two_neighbours_meet_with_few_connections() {
    let pair = Pair::new("few-connections", Show::Command, crate::neighbours).unwrap();
    pair.pair().unwrap();
    let file = pair.a.dir().join("config.yaml");
    let text = pair.a.host().read(&file).unwrap();
    pair.a.host().write(&file, text + TELEMETRY).unwrap();
    pair.up().unwrap();
    pair.wait_for_class("direct", Duration::from_secs(20)).unwrap();
    clock::pause(Duration::from_secs(5));
    let page = curl(pair.a.host(), "http://127.0.0.1:9091/metrics");
    let is_count = |line: &&str| line.starts_with("libp2p_swarm_connections_established_total{");
    let counts: Vec<&str> = page.lines().filter(is_count).collect();
    let made: f64 = counts.iter().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    println!("{made} connections:\n{}", counts.join("\n"));
    assert!((3.0..=FEW).contains(&made), "{made} connections");
}

fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().unwrap()
}

/// Whether the audit log has a line with all these words.
fn audited(node: &Node, words: &[&str]) -> std::ops::RangeFrom<usize> {
    let log = node.log();
    let lines = log.lines().filter(|line| line.starts_with("{\"audit\"") || line.contains("\"audit\":"));
    let found = lines.filter(|line| words.iter().all(|word| line.contains(word))).count();
    found.min(1)..
}
