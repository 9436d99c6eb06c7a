//! Dependencies point down: words ← machines ← shells ← processes ← command (docs/ARCHITECTURE.md).

use std::collections::BTreeMap;

use peerup_tidy::{Workspace, assert_none};

/// Every package of the workspace and its layer. A new room is added here and in docs/ARCHITECTURE.md.
const LAYERS: &[(&str, u8)] = &[
    ("peerup-types", 0),
    ("peerup-wire", 0),
    ("peerup-config", 0),
    ("peerup-packet", 0),
    ("peerup-path", 1),
    ("peerup-reach", 1),
    ("peerup-lane", 1),
    ("peerup-trust", 1),
    ("peerup-membership", 1),
    ("peerup-router", 1),
    ("peerup-userspace", 1),
    ("peerup-services", 1),
    ("peerup-node", 1),
    ("peerup-transport", 2),
    ("peerup-swarm", 2),
    ("peerup-control", 2),
    ("peerup-tun", 2),
    ("peerup-netcfg", 2),
    ("peerup-netmon", 2),
    ("peerup-portmap", 2),
    ("peerup-service", 2),
    ("peerup-userns", 2),
    ("peerup-clock", 2),
    ("peerup-socket", 2),
    ("peerup-telemetry", 2),
    ("peerup-relay", 3),
    ("peerup-daemon", 3),
    ("peerup", 4),
    ("peerup-lab", 5),
    ("peerup-mallory", 5),
    ("peerup-cli-tests", 5),
    ("peerup-replay", 5),
    ("peerup-tidy", 5),
    ("peerup-sim", 5),
];

const WORDS: u8 = 0;
const MACHINES: u8 = 1;
const SHELLS: u8 = 2;
const TESTS: u8 = 5;

/// Arrows between rooms of one layer, each with its reason.
const SIDEWAYS: &[(&str, &str, &str)] = &[
    ("peerup-wire", "peerup-types", "types are the words of the other words"),
    ("peerup-config", "peerup-types", "types are the words of the other words"),
    ("peerup-packet", "peerup-types", "types are the words of the other words"),
    ("peerup-node", "peerup-path", "node composes the machines"),
    ("peerup-node", "peerup-membership", "node composes the machines"),
    ("peerup-node", "peerup-router", "node composes the machines"),
    ("peerup-transport", "peerup-socket", "a transport asks the kernel about its own connections"),
    ("peerup-swarm", "peerup-transport", "the swarm runs on transports of our own"),
    ("peerup-daemon", "peerup-relay", "a daemon can serve as peer relay with the relay's quota machine"),
];

/// What would bring I/O, a runtime or an operating system into a room that decides.
const FORBIDDEN_BELOW_SHELLS: &[&str] = &["tokio", "libp2p", "libp2p-swarm", "rtnetlink", "tun-rs", "nix"];

#[test]
fn every_package_has_a_layer() {
    let workspace = Workspace::load();
    let layers = layers();
    let unknown: Vec<String> = workspace
        .members()
        .keys()
        .filter(|name| !layers.contains_key(*name))
        .map(|n| n.to_string())
        .collect();
    assert_none("packages without a layer in tests/tidy/tests/layering.rs", &unknown);
}

#[test]
fn words_and_machines_reach_no_runtime_no_swarm_and_no_operating_system() {
    let workspace = Workspace::load();
    let layers = layers();
    let mut offences = Vec::new();
    for (name, package) in workspace.members() {
        if layers.get(name).is_none_or(|layer| *layer > MACHINES) {
            continue;
        }
        let reachable = workspace.reachable(package);
        for forbidden in FORBIDDEN_BELOW_SHELLS {
            if let Some(chain) = reachable.get(forbidden) {
                offences.push(format!("{name} reaches {}", chain.join(" -> ")));
            }
        }
    }
    assert_none("rooms that decide depend on rooms that act", &offences);
}

#[test]
fn arrows_point_down() {
    let workspace = Workspace::load();
    let layers = layers();
    let mut offences = Vec::new();
    for (name, package) in workspace.members() {
        for dependency in workspace.direct_dependencies(package) {
            let (Some(&from), Some(&to)) = (layers.get(name), layers.get(dependency)) else { continue };
            if !is_allowed((name, from), (dependency, to)) {
                offences.push(format!("{name} (layer {from}) names {dependency} (layer {to})"));
            }
        }
    }
    assert_none("dependencies that do not point down", &offences);
}

#[test]
fn every_sideways_arrow_joins_rooms_of_one_layer() {
    let layers = layers();
    let offences: Vec<String> = SIDEWAYS
        .iter()
        .filter(|(from, to, _)| layers[from] != layers[to])
        .map(|(from, to, _)| format!("{from} -> {to} is no sideways arrow"))
        .collect();
    assert_none("exceptions that are none", &offences);
}

fn layers() -> BTreeMap<&'static str, u8> {
    LAYERS.iter().copied().collect()
}

fn is_allowed((from_name, from): (&str, u8), (to_name, to): (&str, u8)) -> bool {
    let is_exception = SIDEWAYS.iter().any(|(a, b, _)| (*a, *b) == (from_name, to_name));
    is_exception
        || match from {
            // A shell meets a machine only in a process.
            SHELLS => to == WORDS,
            TESTS => true,
            _ => to < from,
        }
}
