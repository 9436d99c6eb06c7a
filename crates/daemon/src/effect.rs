//! Keys that are read and checked, and that change nothing in this release: told once at the start, so that nobody
//! waits for an effect.

use std::path::Path;

use peerup_config::NodeConfig;

pub fn report(config: &NodeConfig) {
    let keys = without_effect(config);
    if !keys.is_empty() {
        tracing::info!(keys = keys.join(", "), "accepted without effect in this release");
    }
}

/// The keys without effect that are set to something else than their default.
fn without_effect(config: &NodeConfig) -> Vec<&'static str> {
    let default =
        NodeConfig::parse("version: 1", Path::new("/")).expect("a version alone is a configuration");
    let (network, relay, discovery) = (&config.network, &config.relay, &config.discovery);
    let changed = [
        (
            "network.resource_limits_enabled",
            network.resource_limits_enabled != default.network.resource_limits_enabled,
        ),
        ("relay.reservation_interval", relay.reservation_interval != default.relay.reservation_interval),
        ("discovery.rendezvous", discovery.rendezvous != default.discovery.rendezvous),
        // The gate stands whatever the file says: an open node would be an open network.
        (
            "security.enable_connection_gating",
            config.security.enable_connection_gating != default.security.enable_connection_gating,
        ),
    ];
    changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_only_says_what_counts_is_not_remarked_on() {
        for text in [
            "version: 1",
            "vpn: {mtu: 1400}\nnetwork: {port_mapping: off}\nrelay: {reservation_interval: 2m}",
        ] {
            assert_eq!(of(text), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn every_key_without_effect_is_named_when_it_is_set() {
        let text = "
network: {resource_limits_enabled: true}
relay: {reservation_interval: 10m}
discovery: {rendezvous: mine}
security: {enable_connection_gating: false}
";
        assert_eq!(
            of(text),
            [
                "network.resource_limits_enabled",
                "relay.reservation_interval",
                "discovery.rendezvous",
                "security.enable_connection_gating",
            ]
        );
    }

    fn of(text: &str) -> Vec<&'static str> {
        without_effect(&NodeConfig::parse(text, Path::new("/etc/peerup")).unwrap())
    }
}
