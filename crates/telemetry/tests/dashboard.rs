//! The dashboard asks for names and labels that exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use peerup_telemetry::metrics::{
    Carried, ConnectedPeers, NodeMetrics, NodeSnapshot, RelayMetrics, RelaySnapshot, Served,
};
use serde_json::Value;

const DASHBOARD: &str = include_str!("../../../docs/grafana/peerup.json");

#[test]
fn every_query_of_the_dashboard_names_series_and_labels_that_are_exported() {
    let exported = exported();
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        queries.extend(targets.iter().map(|target| {
            let text = |key: &str| target[key].as_str().unwrap().to_owned();
            (text("expr"), text("legendFormat"))
        }));
    }
    assert!(queries.len() > 20, "{} queries", queries.len());
    for (expr, legend) in &queries {
        let names: Vec<String> = words(expr).filter(|word| is_metric(word)).collect();
        assert!(!names.is_empty(), "{expr}");
        for name in names {
            let labels = exported.get(&name).unwrap_or_else(|| panic!("{name} is not exported: {expr}"));
            for label in asked(expr, legend) {
                assert!(labels.contains(&label), "{name} has no label {label}: {expr}");
            }
        }
    }
}

#[test]
fn every_series_of_our_own_has_a_panel() {
    let asked: BTreeSet<String> = words(DASHBOARD).filter(|word| is_metric(word)).collect();
    let base = |name: &str| {
        let ends = ["_bucket", "_sum", "_count"];
        ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    let asked: BTreeSet<String> = asked.iter().map(|name| base(name)).collect();
    let missing: BTreeSet<_> = exported()
        .into_keys()
        .filter(|name| name.starts_with("peerup_"))
        .map(|name| base(&name))
        .filter(|name| !asked.contains(name))
        .collect();
    // Shown by others of the same kind. (The end of `interface_count` is part of its name.)
    let known = ["peerup_holepunch_duration_seconds", "peerup_interface", "peerup_relay_circuits_relayed"];
    let missing: Vec<_> = missing.iter().filter(|name| !known.contains(&name.as_str())).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

/// Every series that a node or a relay can show, with its labels.
fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let node = NodeMetrics::new("1", 0);
    let moment = Duration::from_millis(1);
    node.admitted();
    node.punched(true, Some(moment));
    node.requested("GET", "/v1/status", 200, moment);
    node.dialed("direct", moment);
    node.network_changed("ipv4");
    node.stun_probed(true);
    node.path_changed("direct", "a better path is ready");
    node.probed("direct", moment);
    node.session_ended("ssh", moment);
    let connected = ConnectedPeers { path_type: "direct", transport: "quic", ip_version: "ipv4", peers: 1 };
    let page = node.page(&NodeSnapshot {
        connected: vec![connected],
        carried: BTreeMap::from([("direct", Carried::default())]),
        drops: vec![("spoofed", 1)],
        served: vec![Served { service: "ssh".into(), ..Served::default() }],
        ..NodeSnapshot::default()
    });
    let relay = RelayMetrics::new("1", 0).page(&RelaySnapshot::default());
    let mut series: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in page.lines().chain(relay.lines()).filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a value stands behind each name"));
        let labels =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let names = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        series.entry(name.to_owned()).or_default().extend(names);
    }
    series
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map(str::to_owned)
}

fn is_metric(word: &str) -> bool {
    ["peerup_", "process_"].iter().any(|prefix| word.starts_with(prefix))
}

/// Labels that a query selects or groups by, and those that its legend shows.
fn asked(expr: &str, legend: &str) -> BTreeSet<String> {
    let between = |text: &str, open: &str, close: char| -> Vec<String> {
        text.split(open).skip(1).filter_map(|rest| Some(rest.split_once(close)?.0.to_owned())).collect()
    };
    let grouped = between(expr, "by (", ')');
    let selected =
        between(expr, "{", '}').into_iter().filter_map(|text| Some(text.split_once('=')?.0.to_owned()));
    let shown = between(legend, "{{", '}');
    let grouped = grouped.iter().flat_map(|labels| labels.split(", ")).map(str::to_owned);
    grouped.chain(selected).chain(shown).collect()
}
