//! What a node's configuration accepts, what it means, and what its errors say.

use std::{path::Path, time::Duration};

use peerup_config::{ConfigError, NodeConfig, Position, Problem, Switch};
use proptest::prelude::*;

const RELAY_ID: &str = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";
const PEER_ID: &str = "12D3KooWC7cDcNR4J3NC9y1gTkqafZKmnjCUvrRMxU2LMugGJGgy";

const FULL: &str = "\
version: 1
node:
  name: laptop
identity:
  key_file: keys/identity.key
network:
  listen_addresses: [/ip4/0.0.0.0/tcp/4001]
  external_addresses:
  - /ip4/203.0.113.9/udp/4001/quic-v1
  force_private_reachability: yes
  resource_limits_enabled: on
  port_mapping: off
  stun_servers: [stun.example.org, '[2001:db8::1]:3479']
relay:
  addresses:
    - /ip4/203.0.113.50/tcp/7777/p2p/12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx
    - /ip4/198.51.100.7/tcp/7777/p2p/12D3KooWC7cDcNR4J3NC9y1gTkqafZKmnjCUvrRMxU2LMugGJGgy
    - /ip4/203.0.113.50/udp/7777/quic-v1/p2p/12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx
    - /ip4/203.0.113.50/tcp/7777/p2p/12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx
  reservation_interval: 1h30m
discovery:
  rendezvous: our place
  network: my-crew
  bootstrap_peers:
    - /dns4/dht.example.org/tcp/4001/p2p/12D3KooWC7cDcNR4J3NC9y1gTkqafZKmnjCUvrRMxU2LMugGJGgy
security:
  authorized_keys_file: /etc/peerup/authorized_keys
  enable_connection_gating: off
protocols:
  ping_pong:
    enabled: false
    id: /pong/2.0.0
services:
  ssh:
    enabled: true
    local_address: localhost:22
    protocol: \"\"
    allowed_peers: [12D3KooWC7cDcNR4J3NC9y1gTkqafZKmnjCUvrRMxU2LMugGJGgy]
  web: {local_address: '[::1]:80', protocol: /web/1}
names:
  home: 12D3KooWC7cDcNR4J3NC9y1gTkqafZKmnjCUvrRMxU2LMugGJGgy
  007: 12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx
telemetry:
  metrics:
    enabled: true
    listen_address: \"[::1]:9091\"
  audit:
    enabled: true
api:
  group: netadmin
vpn:
  enabled: false
  interface: tun7
  cidr: 10.99.0.0/24
  address: 10.99.0.7
  mtu: 1420
  inbound: false
";

fn parse(text: &str) -> Result<NodeConfig, ConfigError> {
    NodeConfig::parse(text, Path::new("/home/a/.config/peerup"))
}

fn refused(text: &str) -> ConfigError {
    parse(text).expect_err(text)
}

#[test]
fn a_version_line_alone_is_a_complete_configuration() {
    let config = parse("version: 1\n").unwrap();
    assert_eq!(config, parse("").unwrap());
    assert_eq!(config.resolved().to_string(), DEFAULTS);
    assert!(config.relays().is_empty());
}

const DEFAULTS: &str = "\
version: 1
node:
  name: null
identity:
  key_file: /home/a/.config/peerup/identity.key
network:
  listen_addresses:
    - /ip4/0.0.0.0/tcp/0
    - /ip4/0.0.0.0/udp/0/quic-v1
    - /ip6/::/tcp/0
    - /ip6/::/udp/0/quic-v1
  external_addresses: []
  force_private_reachability: false
  resource_limits_enabled: false
  port_mapping: auto
  stun_servers: []
  relay_service: auto
  relay_reservations: 128
  relay_circuits: 128
  relay_rate: 16MB
relay:
  addresses: []
  reservation_interval: 2m
discovery:
  rendezvous: peerup-default-network
  network: null
  bootstrap_peers: []
  mdns: auto
security:
  authorized_keys_file: /home/a/.config/peerup/authorized_keys
  enable_connection_gating: true
protocols:
  ping_pong:
    enabled: true
    id: /pingpong/1.0.0
services: {}
service_ports: []
names: {}
telemetry:
  metrics:
    enabled: false
    listen_address: 127.0.0.1:9091
  audit:
    enabled: false
api:
  group: null
vpn:
  enabled: true
  mode: auto
  carrier: auto
  interface: peerup0
  cidr: 10.64.0.0/16
  address: null
  mtu: 1380
  inbound: true
socks:
  listen: null
  allow_outside: false
";

#[test]
fn every_key_is_read_into_its_type() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.name.as_ref().unwrap().as_str(), "laptop");
    assert_eq!(config.identity.key_file, Path::new("/home/a/.config/peerup/keys/identity.key"));
    assert_eq!(config.security.authorized_keys_file, Path::new("/etc/peerup/authorized_keys"));
    assert!(!config.security.enable_connection_gating);
    assert!(config.network.force_private_reachability && config.network.resource_limits_enabled);
    assert_eq!((config.network.port_mapping, config.discovery.mdns), (Switch::Off, Switch::Auto));
    let servers: Vec<String> = config.network.stun_servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["stun.example.org:3478", "[2001:db8::1]:3479"]);
    assert_eq!(config.network.relaying.service, peerup_config::RelayService::Auto);
    assert_eq!(config.network.listen_addresses.len(), 1);
    assert_eq!(config.network.external_addresses.len(), 1);
    assert_eq!(config.relay.reservation_interval, Duration::from_secs(5400));
    assert_eq!(config.discovery.rendezvous, "our place");
    assert_eq!(config.discovery.network.as_ref().unwrap().as_str(), "my-crew");
    assert!(!config.protocols.ping_pong.enabled);
    let ssh = &config.services[&"ssh".parse().unwrap()];
    assert!(ssh.enabled && ssh.protocol.is_none());
    assert_eq!(ssh.allowed_peers.as_ref().unwrap().len(), 1);
    let web = &config.services[&"web".parse().unwrap()];
    assert!(!web.enabled && web.allowed_peers.is_none());
    assert_eq!(config.names[&"007".parse().unwrap()].to_string(), RELAY_ID);
    assert!(config.telemetry.audit.enabled && config.telemetry.metrics.listen_address.is_ipv6());
    assert_eq!(config.vpn.interface.as_str(), "tun7");
    assert_eq!(config.vpn.address, Some("10.99.0.7".parse().unwrap()));
    assert_eq!((config.vpn.enabled, config.vpn.mtu, config.vpn.inbound), (false, 1420, false));
}

#[test]
fn relays_come_in_the_order_of_the_file_each_once_with_all_its_addresses() {
    let config = parse(FULL).unwrap();
    let relays = config.relays();
    let texts: Vec<_> = relays.iter().map(|r| (r.peer.to_string(), r.addresses.len())).collect();
    assert_eq!(texts, [(RELAY_ID.to_owned(), 2), (PEER_ID.to_owned(), 1)]);
    assert_eq!(relays[0].addresses[1].to_string(), "/ip4/203.0.113.50/udp/7777/quic-v1");
    assert_eq!(config.discovery.bootstrap_peers[0].peer().to_string(), PEER_ID);
}

#[test]
fn the_resolved_dump_reads_back_as_the_same_configuration() {
    for text in ["version: 1", FULL] {
        let config = parse(text).unwrap();
        assert_eq!(parse(&config.resolved().to_string()).unwrap(), config);
    }
}

#[test]
fn a_section_whose_lines_are_all_commented_out_is_all_defaults() {
    let text = "version: 1\nvpn:\n  # mtu: 1400\nnames:\nrelay: ~\nnetwork:\n  listen_addresses:\n";
    assert_eq!(parse(text).unwrap(), parse("version: 1").unwrap());
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_key() {
    let error = refused("version: 1\nrelay:\n  adresses: []\n");
    assert_eq!(
        error.to_string(),
        "line 3, column 3: `relay.adresses`: unknown key; did you mean `addresses`?"
    );
    assert_eq!(error.hint().unwrap(), "known here: addresses, reservation_interval");
    for (text, key, nearest) in [
        ("vpm: {}", "vpm", Some("vpn")),
        ("vpn: {interfaces: x}", "vpn.interfaces", Some("interface")),
        ("services: {ssh: {localaddress: 'a:1'}}", "services.ssh.localaddress", Some("local_address")),
        ("telemetry: {metrics: {enable: true}}", "telemetry.metrics.enable", Some("enabled")),
        ("colour: red", "colour", None),
    ] {
        let error = refused(text);
        assert_eq!(error.key, key);
        let Problem::UnknownKey { nearest: found, .. } = *error.problem else { panic!("{error}") };
        assert_eq!(found, nearest);
    }
}

#[test]
fn a_newer_version_is_named_even_when_its_keys_are_unknown_here() {
    let error = refused("shiny: true\nversion: 2\n");
    assert_eq!(
        error.to_string(),
        "line 2, column 10: `version`: version 2 is newer than this peerup understands (1)"
    );
    assert!(matches!(*refused("version: 0").problem, Problem::Integer { .. }));
    assert!(matches!(*refused("version: one").problem, Problem::Integer { .. }));
}

#[test]
fn a_bad_peer_id_is_named_with_its_line() {
    let error = refused(&format!("names:\n  home: {PEER_ID}\n  nas: 12D3KooWnot\n"));
    assert_eq!((error.key.as_str(), error.at), ("names.nas", Some(Position { line: 3, column: 8 })));
    assert_eq!(error.to_string(), "line 3, column 8: `names.nas`: `12D3KooWnot` is not a peer ID");
}

macro_rules! refusals {
    ($($text:expr => $problem:pat, $line:literal : $column:literal;)*) => {$(
        let error = refused(&$text);
        assert!(matches!(*error.problem, $problem), "{}\n{error}", $text);
        assert_eq!(error.at, Some(Position { line: $line, column: $column }), "{}\n{error}", $text);
    )*};
}

#[test]
fn a_value_that_cannot_work_is_refused_where_it_stands() {
    refusals! {
        "relay:\n  reservation_interval: 0s\n" => Problem::DurationRange { .. }, 2:25;
        "relay:\n  reservation_interval: -2m\n" => Problem::Duration { .. }, 2:25;
        "relay:\n  addresses:\n    - /ip4/1.2.3.4/tcp/7777\n" => Problem::Address(_), 3:7;
        "relay:\n  addresses: /ip4/1.2.3.4\n" => Problem::WrongShape { .. }, 2:14;
        "network:\n  listen_addresses: []\n" => Problem::EmptyList, 2:21;
        "network:\n  listen_addresses:\n  - \n" => Problem::WrongShape { .. }, 3:5;
        "network: {force_private_reachability: maybe}" => Problem::Bool { .. }, 1:39;
        "discovery: {mdns: maybe}" => Problem::Switch { .. }, 1:19;
        "network: {stun_servers: [':3478']}" => Problem::HostPort { .. }, 1:26;
        "network: {relay_service: maybe}" => Problem::RelayService { .. }, 1:26;
        "network: {relay_circuits: 0}" => Problem::Integer { .. }, 1:27;
        "discovery: {network: My Crew}" => Problem::Name { .. }, 1:22;
        "discovery: {rendezvous: ''}" => Problem::Rendezvous { .. }, 1:25;
        "names: {Home: x}" => Problem::Name { .. }, 1:9;
        "names: [home]" => Problem::WrongShape { .. }, 1:8;
        "names: {home: }" => Problem::WrongShape { .. }, 1:13;
        "identity: {key_file: ~/id.key}" => Problem::Tilde { .. }, 1:22;
        "services:\n  ssh: {enabled: true}" => Problem::Missing, 2:3;
        "services:\n  ssh:\n    local_address: '22'" => Problem::HostPort { .. }, 3:20;
        "services: {a: {local_address: 'b:1', allowed_peers: []}}" => Problem::EmptyList, 1:53;
        "services: {a: {local_address: 'b:1', allowed_peers: [me]}}" => Problem::PeerId { .. }, 1:54;
        "protocols: {ping_pong: {id: ping}}" => Problem::ProtocolId { .. }, 1:29;
        "telemetry: {metrics: {listen_address: ':9091'}}" => Problem::SocketAddr { .. }, 1:39;
        "vpn: {cidr: 10.64.0.2/16}" => Problem::CidrHostBits { .. }, 1:13;
        "vpn: {mtu: 1279}" => Problem::Integer { min: 1280, max: 9000, .. }, 1:12;
        "vpn: {mtu: 9001}" => Problem::Integer { .. }, 1:12;
        "api: {group: '1000'}" => Problem::Group { .. }, 1:14;
        "vpn: {interface: a-name-too-long-for-linux}" => Problem::Interface { .. }, 1:18;
        "vpn: {address: 10.65.0.1}" => Problem::AddressOutside { .. }, 1:16;
        "vpn: {address: 10.64.0.0}" => Problem::AddressReserved { .. }, 1:16;
        "vpn: {address: 10.64.255.255}" => Problem::AddressReserved { .. }, 1:16;
        "vpn: {address: fd00::1}" => Problem::Ipv4 { .. }, 1:16;
        "node: {name: laptop, name: tower}" => Problem::Duplicate { .. }, 1:22;
        "- version: 1" => Problem::WrongShape { .. }, 1:1;
    }
}

#[test]
fn names_of_peerups_own_protocols_are_no_service_names() {
    for name in ["invite", "relay-pair", "peer-notify", "rtt-probe", "kad", "tun", "vouch", "ping"] {
        refusals! {
            format!("services:\n  {name}: {{local_address: 'localhost:1'}}") => Problem::ReservedService { .. }, 2:3;
        }
    }
}

#[test]
fn a_name_that_is_no_label_is_answered_with_one_that_is() {
    assert_eq!(refused("names: {Home_Server: x}").hint().unwrap(), "write `home-server`");
}

proptest! {
    #[test]
    fn no_damage_to_a_file_makes_the_parser_panic(at in 0..FULL.len(), len in 0usize..40, junk in "\\PC{0,8}|[\\n :#\\[\\]{}'\"&*-]{0,6}") {
        let end = (at + len).min(FULL.len());
        let damaged = format!("{}{junk}{}", &FULL[..at], &FULL[end..]);
        if let Err(error) = parse(&damaged) {
            prop_assert!(!error.to_string().contains('\n'), "{error}");
            let _ = error.hint();
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }
}
