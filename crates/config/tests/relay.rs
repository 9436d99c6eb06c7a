//! What a relay's configuration accepts and what its defaults are.

use std::{path::Path, time::Duration};

use peerup_config::{ConfigError, Problem, RelayConfig};

fn parse(text: &str) -> Result<RelayConfig, ConfigError> {
    RelayConfig::parse(text, Path::new("/srv/relay"))
}

#[test]
fn the_defaults_suit_a_vpn() {
    let config = parse("version: 1").unwrap();
    let listen: Vec<_> = config.network.listen_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(
        listen,
        [
            "/ip4/0.0.0.0/tcp/7777",
            "/ip4/0.0.0.0/udp/7777/quic-v1",
            "/ip6/::/tcp/7777",
            "/ip6/::/udp/7777/quic-v1"
        ]
    );
    assert_eq!(config.resources.session_duration, Duration::from_secs(24 * 3600));
    assert_eq!(config.resources.session_data_limit, None);
    assert_eq!((config.resources.max_circuits, config.resources.max_reservations), (512, 1024));
    assert!(config.relay.vouching && config.security.enable_connection_gating && !config.health.enabled);
}

#[test]
fn relative_paths_start_at_the_configs_directory() {
    let config = parse("identity: {key_file: keys/relay.key}").unwrap();
    assert_eq!(config.identity.key_file, Path::new("/srv/relay/keys/relay.key"));
    assert_eq!(config.security.authorized_keys_file, Path::new("/srv/relay/relay_authorized_keys"));
}

#[test]
fn the_file_of_the_go_original_is_read() {
    let text = "\
version: 1
identity: {key_file: relay_node.key}
network:
  listen_addresses: [/ip4/0.0.0.0/tcp/7777, /ip6/::/tcp/7777, /ip4/0.0.0.0/tcp/443/ws]
discovery: {network: my-crew}
security: {authorized_keys_file: relay_authorized_keys, enable_connection_gating: true}
resources:
  max_reservations: 128
  max_circuits: 16
  buffer_size: 2048
  max_reservations_per_ip: 8
  max_reservations_per_asn: 32
  reservation_ttl: \"1h\"
  session_duration: \"10m\"
  session_data_limit: \"64MB\"
health: {enabled: true, listen_address: 127.0.0.1:9090}
telemetry: {metrics: {enabled: true, listen_address: 127.0.0.1:9091}, audit: {enabled: false}}
";
    let config = parse(text).unwrap();
    assert_eq!(config.resources.session_data_limit, Some(64 << 20));
    assert_eq!(config.resources.session_duration, Duration::from_secs(600));
    assert_eq!(config.resources.max_reservations_per_asn, 32);
    assert_eq!(parse(&config.resolved().to_string()).unwrap(), config);
}

#[test]
fn vouching_is_switched_in_words_people_use() {
    for (text, expected) in [("off", false), ("on", true), ("false", false), ("True", true)] {
        assert_eq!(parse(&format!("relay: {{vouching: {text}}}")).unwrap().relay.vouching, expected);
    }
}

#[test]
fn limits_of_nothing_and_unknown_keys_are_refused() {
    let problem = |text: &str| *parse(text).unwrap_err().problem;
    assert!(matches!(problem("resources: {max_circuits: 0}"), Problem::Integer { min: 1, .. }));
    assert!(matches!(problem("resources: {session_duration: 0s}"), Problem::DurationRange { .. }));
    assert!(matches!(problem("resources: {session_data_limit: lots}"), Problem::ByteSize { .. }));
    assert!(matches!(
        problem("resources: {max_circuit: 5}"),
        Problem::UnknownKey { nearest: Some("max_circuits"), .. }
    ));
    assert!(matches!(problem("vpn: {}"), Problem::UnknownKey { .. }));
    assert!(matches!(problem("version: 9"), Problem::VersionTooNew { found: 9, .. }));
}
