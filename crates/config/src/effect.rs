//! When a changed key counts: at once in the running process, or when it starts again.
//!
//! A key counts at once where the process can follow it without dropping a session that the change does not
//! concern. The others make up what the process is built on; a process on probation
//! ([`commit`](crate::commit)) starts itself again for them, any other waits until somebody does.

use crate::resolved::Resolved;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    AtOnce,
    AtRestart,
}

use Counts::{AtOnce, AtRestart};

/// Keys of a node. `*` stands for everything below.
pub const NODE: &[(&str, Counts)] = &[
    ("version", AtRestart),
    ("api.*", AtRestart),
    ("node.name", AtOnce),
    ("identity.key_file", AtRestart),
    ("network.listen_addresses", AtRestart),
    ("network.external_addresses", AtOnce),
    ("network.force_private_reachability", AtOnce),
    ("network.resource_limits_enabled", AtRestart),
    ("network.port_mapping", AtRestart),
    ("network.stun_servers", AtOnce),
    ("network.relay_service", AtOnce),
    ("network.relay_reservations", AtRestart),
    ("network.relay_circuits", AtRestart),
    ("network.relay_rate", AtRestart),
    ("relay.addresses", AtOnce),
    ("relay.reservation_interval", AtRestart),
    ("discovery.*", AtRestart),
    ("security.authorized_keys_file", AtOnce),
    ("security.enable_connection_gating", AtRestart),
    ("protocols.*", AtRestart),
    ("services.*", AtOnce),
    ("service_ports", AtOnce),
    ("names.*", AtOnce),
    ("telemetry.*", AtRestart),
    ("vpn.enabled", AtOnce),
    ("vpn.mode", AtRestart),
    ("vpn.carrier", AtOnce),
    ("vpn.interface", AtOnce),
    ("vpn.cidr", AtRestart),
    ("vpn.address", AtOnce),
    ("vpn.mtu", AtOnce),
    ("vpn.inbound", AtOnce),
    ("socks.listen", AtRestart),
    ("socks.allow_outside", AtRestart),
];

/// Keys of a relay server.
pub const RELAY: &[(&str, Counts)] = &[
    ("version", AtRestart),
    ("identity.key_file", AtRestart),
    ("network.listen_addresses", AtRestart),
    ("network.external_addresses", AtRestart),
    ("discovery.network", AtRestart),
    ("security.authorized_keys_file", AtRestart),
    ("security.enable_connection_gating", AtOnce),
    ("relay.vouching", AtOnce),
    ("resources.*", AtRestart),
    ("health.*", AtRestart),
    ("telemetry.*", AtRestart),
];

/// Keys of a node that decide whether this machine can be reached through the overlay, and at which address.
const REACH: &[&str] = &[
    "identity.key_file",
    "network.listen_addresses",
    "relay.addresses",
    "discovery.network",
    "security.*",
    "vpn.enabled",
    "vpn.mode",
    "vpn.interface",
    "vpn.cidr",
    "vpn.address",
];

/// Changed keys of a node that can end a connection through the overlay, now or at the next start.
pub fn cutting(old: &Resolved, new: &Resolved) -> Vec<String> {
    let cuts = |key: &String| REACH.iter().any(|pattern| covers(pattern, key));
    changed(old, new).into_iter().filter(cuts).collect()
}

/// The keys whose values differ.
pub fn changed(old: &Resolved, new: &Resolved) -> Vec<String> {
    let mut keys = Vec::new();
    collect("", Some(old), Some(new), &mut keys);
    keys
}

/// The changed keys that wait for a restart. A key that no table names waits: nobody follows it.
pub fn waiting(table: &[(&str, Counts)], old: &Resolved, new: &Resolved) -> Vec<String> {
    let waits = |key: &String| counts(table, key) != Some(AtOnce);
    changed(old, new).into_iter().filter(waits).collect()
}

pub fn counts(table: &[(&str, Counts)], key: &str) -> Option<Counts> {
    table.iter().find(|(pattern, _)| covers(pattern, key)).map(|(_, counts)| *counts)
}

fn covers(pattern: &str, key: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(section) => key.starts_with(section) || key == section.trim_end_matches('.'),
        None => key == pattern,
    }
}

fn collect(path: &str, old: Option<&Resolved>, new: Option<&Resolved>, keys: &mut Vec<String>) {
    if old == new {
        return;
    }
    let (Some(Resolved::Section(old)), Some(Resolved::Section(new))) = (old, new) else {
        keys.push(path.to_owned());
        return;
    };
    let value =
        |entries: &'_ [(String, Resolved)], key: &str| entries.iter().position(|(known, _)| known == key);
    let more = new.iter().filter(|(key, _)| value(old, key).is_none());
    for (key, _) in old.iter().chain(more) {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let at = |entries: &'_ [(String, Resolved)]| value(entries, key);
        collect(&path, at(old).map(|index| &old[index].1), at(new).map(|index| &new[index].1), keys);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{NodeConfig, RelayConfig};

    fn node(text: &str) -> Resolved {
        NodeConfig::parse(text, Path::new("/c")).unwrap().resolved()
    }

    fn leaves(path: &str, value: &Resolved, found: &mut Vec<String>) {
        match value {
            Resolved::Section(entries) if !entries.is_empty() => {
                for (key, value) in entries {
                    leaves(&format!("{path}.{key}"), value, found);
                }
            }
            _ => found.push(path.trim_start_matches('.').to_owned()),
        }
    }

    #[test]
    fn every_key_is_in_its_table_and_the_tables_name_no_other() {
        let relay = RelayConfig::parse("version: 1", Path::new("/c")).unwrap().resolved();
        for (table, config) in [(NODE, node("version: 1")), (RELAY, relay)] {
            let mut keys = Vec::new();
            leaves("", &config, &mut keys);
            for key in &keys {
                assert!(counts(table, key).is_some(), "{key} has no row");
            }
            for (pattern, counts) in table {
                let row = [(*pattern, *counts)];
                assert!(keys.iter().any(|key| super::counts(&row, key).is_some()), "{pattern} is no key");
            }
        }
    }

    #[test]
    fn what_can_cut_a_session_is_told_apart_from_what_cannot() {
        let old = node("version: 1");
        let new =
            node("vpn: {mtu: 1300, cidr: 10.2.0.0/16}\nnode: {name: a}\ntelemetry: {audit: {enabled: true}}");
        assert_eq!(cutting(&old, &new), ["vpn.cidr"]);
        let new =
            node("security: {authorized_keys_file: other}\nservices: {ssh: {local_address: 'localhost:22'}}");
        assert_eq!(cutting(&old, &new), ["security.authorized_keys_file"]);
        for pattern in REACH {
            let row = [(*pattern, AtOnce)];
            let named = NODE.iter().any(|(key, _)| counts(&row, key).is_some() || covers(key, pattern));
            assert!(named, "{pattern} is no key");
        }
    }

    #[test]
    fn what_changed_is_named_by_its_key_and_what_waits_is_told_apart() {
        let old =
            node("vpn: {mtu: 1400, cidr: 10.1.0.0/16}\nservices: {ssh: {local_address: 'localhost:22'}}");
        let new = node("vpn: {mtu: 1300, cidr: 10.2.0.0/16}\nnode: {name: a}\nnetwork: {port_mapping: off}");
        assert_eq!(
            changed(&old, &new),
            ["node.name", "network.port_mapping", "services.ssh", "vpn.cidr", "vpn.mtu"]
        );
        assert_eq!(waiting(NODE, &old, &new), ["network.port_mapping", "vpn.cidr"]);
        assert_eq!(waiting(NODE, &old, &old), Vec::<String>::new());
    }
}
