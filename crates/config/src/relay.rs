//! The configuration of a relay server: `relay-server.yaml`.
//!
//! Defaults differ from the Go original, whose limits suit file lookups rather than a VPN:
//! - a circuit lasts 24 h and carries any number of bytes (10 min and 64 MB cut off an ssh session);
//! - 512 circuits and 1,024 reservations (16 and 128): a full mesh of 32 nodes behind NATs needs 496 circuits;
//! - 64 reservations per IP address and 256 per network (8 and 32): a household, a campus or a mobile carrier
//!   shares few addresses, and only authorized peers get this far;
//! - QUIC beside TCP: what nodes learn about their UDP mapping from a relay is what hole punching runs on;
//! - relative paths start at the configuration's directory, not where the process happened to be started.

use std::{net::SocketAddr, path::Path, time::Duration};

use peerup_types::{DnsLabel, Multiaddr};

use crate::{
    VERSION,
    common::{Identity, Security, Telemetry, check_version, loopback},
    error::ConfigError,
    node::default_addresses,
    resolved::Resolved,
    section::Section,
    tree::Node,
    value::{self, format_duration, format_size_limit},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayConfig {
    pub identity: Identity,
    pub network: RelayNetwork,
    pub discovery: RelayDiscovery,
    pub security: Security,
    pub relay: RelayPolicy,
    pub resources: Resources,
    pub health: Health,
    pub telemetry: Telemetry,
}

/// `network:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayNetwork {
    pub listen_addresses: Vec<Multiaddr>,
    /// Empty: the public addresses of the interfaces.
    pub external_addresses: Vec<Multiaddr>,
}

/// `discovery:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayDiscovery {
    /// Must equal the nodes' `discovery.network`.
    pub network: Option<DnsLabel>,
}

/// `relay:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayPolicy {
    /// Whether an authorized node may bring in the machines it pairs with.
    pub vouching: bool,
}

/// `resources:` circuit-v2 limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    pub max_reservations: u32,
    pub max_circuits: u32,
    /// Bytes copied at a time; accepted for files of the Go original, libp2p sizes its own buffers.
    pub buffer_size: u32,
    pub max_reservations_per_ip: u32,
    pub max_reservations_per_asn: u32,
    pub reservation_ttl: Duration,
    pub session_duration: Duration,
    /// Per direction; `None` is unlimited.
    pub session_data_limit: Option<u64>,
}

/// `health:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub enabled: bool,
    pub listen_address: SocketAddr,
}

const LISTEN: [&str; 4] = [
    "/ip4/0.0.0.0/tcp/7777",
    "/ip4/0.0.0.0/udp/7777/quic-v1",
    "/ip6/::/tcp/7777",
    "/ip6/::/udp/7777/quic-v1",
];

const ROOT_KEYS: &[&str] =
    &["version", "identity", "network", "discovery", "security", "relay", "resources", "health", "telemetry"];

const RESOURCE_KEYS: &[&str] = &[
    "max_reservations",
    "max_circuits",
    "buffer_size",
    "max_reservations_per_ip",
    "max_reservations_per_asn",
    "reservation_ttl",
    "session_duration",
    "session_data_limit",
];

impl RelayConfig {
    /// `base_dir` is the directory of the configuration file; relative paths start there.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Self, ConfigError> {
        let tree = Node::parse(text)?;
        check_version(&Section::versioned(&tree)?)?;
        let root = Section::root(&tree, ROOT_KEYS)?;
        Ok(Self {
            identity: Identity::read(&root, base_dir, "relay_node.key")?,
            network: RelayNetwork::read(&root)?,
            discovery: RelayDiscovery {
                network: root.section("discovery", &["network"])?.value("network", value::label)?,
            },
            security: Security::read(&root, base_dir, "relay_authorized_keys")?,
            relay: RelayPolicy::read(&root)?,
            resources: Resources::read(&root)?,
            health: Health::read(&root)?,
            telemetry: Telemetry::read(&root)?,
        })
    }

    /// Everything, defaults included.
    pub fn resolved(&self) -> Resolved {
        let network = Resolved::optional(self.discovery.network.as_ref());
        Resolved::section([
            ("version", u64::from(VERSION).into()),
            ("identity", self.identity.resolved()),
            ("network", self.network.resolved()),
            ("discovery", Resolved::section([("network", network)])),
            ("security", self.security.resolved()),
            ("relay", Resolved::section([("vouching", self.relay.vouching.into())])),
            ("resources", self.resources.resolved()),
            ("health", self.health.resolved()),
            ("telemetry", self.telemetry.resolved()),
        ])
    }
}

impl RelayNetwork {
    fn read(root: &Section<'_>) -> Result<Self, ConfigError> {
        let section = root.section("network", &["listen_addresses", "external_addresses"])?;
        Ok(Self {
            listen_addresses: section
                .non_empty_list("listen_addresses", value::listen_address)?
                .unwrap_or_else(|| default_addresses(&LISTEN)),
            external_addresses: section
                .list("external_addresses", value::external_address)?
                .unwrap_or_default(),
        })
    }

    fn resolved(&self) -> Resolved {
        Resolved::section([
            ("listen_addresses", Resolved::texts(&self.listen_addresses)),
            ("external_addresses", Resolved::texts(&self.external_addresses)),
        ])
    }
}

impl RelayPolicy {
    fn read(root: &Section<'_>) -> Result<Self, ConfigError> {
        let section = root.section("relay", &["vouching"])?;
        Ok(Self { vouching: section.value("vouching", value::boolean)?.unwrap_or(true) })
    }
}

impl Resources {
    fn read(root: &Section<'_>) -> Result<Self, ConfigError> {
        let section = root.section("resources", RESOURCE_KEYS)?;
        let count = |key, default: u32| -> Result<u32, ConfigError> {
            let value = section.value(key, value::integer(1, u32::MAX.into()))?;
            Ok(value.map_or(default, |n| n as u32))
        };
        let time = |key, default: u64| -> Result<Duration, ConfigError> {
            Ok(section.value(key, value::duration)?.unwrap_or(Duration::from_secs(default)))
        };
        Ok(Self {
            max_reservations: count("max_reservations", 1024)?,
            max_circuits: count("max_circuits", 512)?,
            buffer_size: count("buffer_size", 2048)?,
            max_reservations_per_ip: count("max_reservations_per_ip", 64)?,
            max_reservations_per_asn: count("max_reservations_per_asn", 256)?,
            reservation_ttl: time("reservation_ttl", 3600)?,
            session_duration: time("session_duration", 24 * 3600)?,
            session_data_limit: section.value("session_data_limit", value::size_limit)?.flatten(),
        })
    }

    fn resolved(&self) -> Resolved {
        let count = |n: u32| u64::from(n).into();
        Resolved::section([
            ("max_reservations", count(self.max_reservations)),
            ("max_circuits", count(self.max_circuits)),
            ("buffer_size", count(self.buffer_size)),
            ("max_reservations_per_ip", count(self.max_reservations_per_ip)),
            ("max_reservations_per_asn", count(self.max_reservations_per_asn)),
            ("reservation_ttl", Resolved::text(format_duration(self.reservation_ttl))),
            ("session_duration", Resolved::text(format_duration(self.session_duration))),
            ("session_data_limit", Resolved::text(format_size_limit(self.session_data_limit))),
        ])
    }
}

impl Health {
    fn read(root: &Section<'_>) -> Result<Self, ConfigError> {
        let section = root.section("health", &["enabled", "listen_address"])?;
        Ok(Self {
            enabled: section.value("enabled", value::boolean)?.unwrap_or(false),
            listen_address: section.value("listen_address", value::socket_addr)?.unwrap_or(loopback(9090)),
        })
    }

    fn resolved(&self) -> Resolved {
        Resolved::section([
            ("enabled", self.enabled.into()),
            ("listen_address", Resolved::text(self.listen_address)),
        ])
    }
}
