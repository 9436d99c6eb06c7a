//! The configuration of a node: `config.yaml`.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path, time::Duration};

use ipnet::Ipv4Net;
use peerup_types::{CarrierChoice, DnsLabel, Multiaddr, PeerId};

use crate::{
    VERSION,
    address::PeerAddr,
    api::Api,
    common::{Identity, Security, Telemetry, check_version},
    error::{ConfigError, Problem},
    ports::PortRange,
    relaying::Relaying,
    resolved::Resolved,
    section::{Named, Section},
    socks::Socks,
    tree::Node,
    value::{self, HostPort, InterfaceName, ProtocolId, Switch, format_duration},
    vpn::{self, VpnMode},
};

/// Everything a node can be told. Each section is documented at its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// `node.name`: what this machine calls itself when pairing.
    pub name: Option<DnsLabel>,
    pub identity: Identity,
    pub network: Network,
    pub relay: RelayClient,
    pub discovery: Discovery,
    pub security: Security,
    pub protocols: Protocols,
    pub services: BTreeMap<DnsLabel, Service>,
    /// TCP ports of this machine that authorized peers may open by number.
    pub service_ports: Vec<PortRange>,
    pub names: BTreeMap<DnsLabel, PeerId>,
    pub telemetry: Telemetry,
    pub api: Api,
    pub vpn: Vpn,
    pub socks: Socks,
}

/// `network:` the underlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub listen_addresses: Vec<Multiaddr>,
    /// Where others reach this machine although none of its interfaces has that address (1:1 NAT).
    pub external_addresses: Vec<Multiaddr>,
    /// Behave as behind a NAT whatever AutoNAT finds.
    pub force_private_reachability: bool,
    pub resource_limits_enabled: bool,
    /// Ask the router to forward the listen port.
    pub port_mapping: Switch,
    /// STUN servers to ask how the NAT maps; none by default, since each learns this machine's address.
    pub stun_servers: Vec<HostPort>,
    /// `relay_*`: what this node carries for its peers.
    pub relaying: Relaying,
}

/// `relay:` the relays this node uses. None are needed on a LAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayClient {
    pub addresses: Vec<PeerAddr>,
    pub reservation_interval: Duration,
}

/// One relay and the ways to reach it, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayPeer {
    pub peer: PeerId,
    pub addresses: Vec<Multiaddr>,
}

/// `discovery:` the private DHT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    pub rendezvous: String,
    /// Separates the DHT and the IPv6 addresses of one network from all others; `None` is the global network.
    pub network: Option<DnsLabel>,
    /// Servers of the DHT besides the relays.
    pub bootstrap_peers: Vec<PeerAddr>,
    /// Find peers on the same LAN by multicast.
    pub mdns: Switch,
}

/// `protocols:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocols {
    pub ping_pong: PingPong,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PingPong {
    pub enabled: bool,
    pub id: ProtocolId,
}

/// `services.<name>:` a TCP service offered to peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Absent means off, so that a half-written entry opens nothing.
    pub enabled: bool,
    pub local_address: HostPort,
    /// A protocol ID that is answered besides `/peerup/<name>/1.0.0`.
    pub protocol: Option<ProtocolId>,
    /// `None`: every authorized peer.
    pub allowed_peers: Option<Vec<PeerId>>,
}

/// `vpn:` the overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vpn {
    pub enabled: bool,
    pub mode: VpnMode,
    pub carrier: CarrierChoice,
    pub interface: InterfaceName,
    pub cidr: Ipv4Net,
    /// Set by hand; otherwise claimed while pairing.
    pub address: Option<Ipv4Addr>,
    pub mtu: u16,
    /// Without an interface: whether peers reach what listens on this machine. With one, a firewall decides that.
    pub inbound: bool,
}

/// The smallest link IPv6 may run on (RFC 8200 §5).
const MIN_MTU: u64 = 1280;
/// Jumbo frames; larger packets travel as super-packets.
const MAX_MTU: u64 = 9000;
/// Fits one QUIC datagram on a path of 1,500 bytes with room for IPv6, UDP and QUIC.
const DEFAULT_MTU: u16 = 1380;

const LISTEN: [&str; 4] =
    ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/tcp/0", "/ip6/::/udp/0/quic-v1"];

const ROOT_KEYS: &[&str] = &[
    "version",
    "node",
    "identity",
    "network",
    "relay",
    "discovery",
    "security",
    "protocols",
    "services",
    "service_ports",
    "names",
    "telemetry",
    "api",
    "vpn",
    "socks",
];

impl NodeConfig {
    /// `base_dir` is the directory of the configuration file; relative paths start there.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Self, ConfigError> {
        let tree = Node::parse(text)?;
        // The version comes first: a newer file may well have keys that are unknown here.
        check_version(&Section::versioned(&tree)?)?;
        let root = Section::root(&tree, ROOT_KEYS)?;
        Ok(Self {
            name: root.section("node", &["name"])?.value("name", value::label)?,
            identity: Identity::read(&root, base_dir, "identity.key")?,
            network: Network::read(&root)?,
            relay: RelayClient::read(&root)?,
            discovery: Discovery::read(&root)?,
            security: Security::read(&root, base_dir, "authorized_keys")?,
            protocols: Protocols::read(&root)?,
            services: services(&root)?,
            service_ports: root.list("service_ports", str::parse)?.unwrap_or_default(),
            names: names(&root)?,
            telemetry: Telemetry::read(&root)?,
            api: Api::read(&root)?,
            vpn: Vpn::read(&root)?,
            socks: Socks::read(&root)?,
        })
    }

    /// Relays in the order of the file, each once with all its addresses.
    pub fn relays(&self) -> Vec<RelayPeer> {
        RelayPeer::group(&self.relay.addresses)
    }

    /// Everything, defaults included.
    pub fn resolved(&self) -> Resolved {
        let name = |(name, peer): (&DnsLabel, &PeerId)| (name.to_string(), Resolved::text(peer));
        let service = |(name, service): (&DnsLabel, &Service)| (name.to_string(), service.resolved());
        Resolved::section([
            ("version", u64::from(VERSION).into()),
            ("node", Resolved::section([("name", Resolved::optional(self.name.as_ref()))])),
            ("identity", self.identity.resolved()),
            ("network", self.network.resolved()),
            ("relay", self.relay.resolved()),
            ("discovery", self.discovery.resolved()),
            ("security", self.security.resolved()),
            ("protocols", self.protocols.resolved()),
            ("services", Resolved::Section(self.services.iter().map(service).collect())),
            ("service_ports", Resolved::texts(&self.service_ports)),
            ("names", Resolved::Section(self.names.iter().map(name).collect())),
            ("telemetry", self.telemetry.resolved()),
            ("api", self.api.resolved()),
            ("vpn", self.vpn.resolved()),
            ("socks", self.socks.resolved()),
        ])
    }
}

impl Network {
    fn read(root: &Section<'_>) -> Result<Self, ConfigError> {
        let section = root.section(
            "network",
            &[
                "listen_addresses",
                "external_addresses",
                "force_private_reachability",
                "resource_limits_enabled",
                "port_mapping",
                "stun_servers",
                "relay_service",
                "relay_reservations",
                "relay_circuits",
                "relay_rate",
            ],
        )?;
        let flag = |key| Ok(section.value(key, value::boolean)?.unwrap_or(false));
        Ok(Self {
            listen_addresses: section
                .non_empty_list("listen_addresses", value::listen_address)?
                .unwrap_or_else(|| default_addresses(&LISTEN)),
            external_addresses: section
                .list("external_addresses", value::external_address)?
                .unwrap_or_default(),
            force_private_reachability: flag("force_private_reachability")?,
            resource_limits_enabled: flag("resource_limits_enabled")?,
            port_mapping: section.value("port_mapping", str::parse)?.unwrap_or_default(),
            stun_servers: section.list("stun_servers", value::stun_server)?.unwrap_or_default(),
            relaying: Relaying::read(&section)?,
        })
    }

    fn resolved(&self) -> Resolved {
        let [service, reservations, circuits, rate] = self.relaying.resolved();
        Resolved::section([
            ("listen_addresses", Resolved::texts(&self.listen_addresses)),
            ("external_addresses", Resolved::texts(&self.external_addresses)),
            ("force_private_reachability", self.force_private_reachability.into()),
            ("resource_limits_enabled", self.resource_limits_enabled.into()),
            ("port_mapping", Resolved::text(self.port_mapping)),
            ("stun_servers", Resolved::texts(&self.stun_servers)),
            service,
            reservations,
            circuits,
            rate,
        ])
    }
}

pub fn default_addresses(texts: &[&str]) -> Vec<Multiaddr> {
    texts.iter().map(|text| text.parse().expect("the built-in addresses are multiaddrs")).collect()
}

impl RelayClient {
    fn read(root: &Section<'_>) -> Result<Self, ConfigError> {
        let section = root.section("relay", &["addresses", "reservation_interval"])?;
        Ok(Self {
            addresses: section.list("addresses", value::peer_addr)?.unwrap_or_default(),
            reservation_interval: section
                .value("reservation_interval", value::duration)?
                .unwrap_or(Duration::from_secs(120)),
        })
    }

    fn resolved(&self) -> Resolved {
        Resolved::section([
            ("addresses", Resolved::texts(&self.addresses)),
            ("reservation_interval", Resolved::text(format_duration(self.reservation_interval))),
        ])
    }
}

impl RelayPeer {
    fn group(addresses: &[PeerAddr]) -> Vec<Self> {
        let mut peers: Vec<Self> = Vec::new();
        for address in addresses {
            match peers.iter_mut().find(|known| known.peer == address.peer()) {
                Some(known) => known.add(address.address()),
                None => peers.push(Self { peer: address.peer(), addresses: vec![address.address().clone()] }),
            }
        }
        peers
    }

    fn add(&mut self, address: &Multiaddr) {
        if !self.addresses.contains(address) {
            self.addresses.push(address.clone());
        }
    }
}

impl Discovery {
    fn read(root: &Section<'_>) -> Result<Self, ConfigError> {
        let section = root.section("discovery", &["rendezvous", "network", "bootstrap_peers", "mdns"])?;
        Ok(Self {
            rendezvous: section
                .value("rendezvous", value::rendezvous)?
                .unwrap_or_else(|| "peerup-default-network".to_owned()),
            network: section.value("network", value::label)?,
            bootstrap_peers: section.list("bootstrap_peers", value::peer_addr)?.unwrap_or_default(),
            mdns: section.value("mdns", str::parse)?.unwrap_or_default(),
        })
    }

    fn resolved(&self) -> Resolved {
        Resolved::section([
            ("rendezvous", Resolved::text(&self.rendezvous)),
            ("network", Resolved::optional(self.network.as_ref())),
            ("bootstrap_peers", Resolved::texts(&self.bootstrap_peers)),
            ("mdns", Resolved::text(self.mdns)),
        ])
    }
}

impl Protocols {
    fn read(root: &Section<'_>) -> Result<Self, ConfigError> {
        let section = root.section("protocols", &["ping_pong"])?.section("ping_pong", &["enabled", "id"])?;
        let default_id = || "/pingpong/1.0.0".parse().expect("the built-in protocol ID is one");
        let ping_pong = PingPong {
            enabled: section.value("enabled", value::boolean)?.unwrap_or(true),
            id: section.value("id", str::parse)?.unwrap_or_else(default_id),
        };
        Ok(Self { ping_pong })
    }

    fn resolved(&self) -> Resolved {
        let PingPong { enabled, id } = &self.ping_pong;
        let ping_pong = Resolved::section([("enabled", (*enabled).into()), ("id", Resolved::text(id))]);
        Resolved::section([("ping_pong", ping_pong)])
    }
}

fn services(root: &Section<'_>) -> Result<BTreeMap<DnsLabel, Service>, ConfigError> {
    let service = |entry: &Named<'_>| Ok((entry.name(value::service_name)?, Service::read(entry)?));
    root.named("services")?.iter().map(service).collect()
}

impl Service {
    fn read(entry: &Named<'_>) -> Result<Self, ConfigError> {
        let section = entry.section(&["enabled", "local_address", "protocol", "allowed_peers"])?;
        let local_address = section.value("local_address", str::parse)?;
        Ok(Self {
            enabled: section.value("enabled", value::boolean)?.unwrap_or(false),
            local_address: local_address.ok_or_else(|| entry.missing("local_address"))?,
            protocol: section.value("protocol", value::service_protocol)?.flatten(),
            allowed_peers: section.non_empty_list("allowed_peers", value::peer_id)?,
        })
    }

    fn resolved(&self) -> Resolved {
        Resolved::section([
            ("enabled", self.enabled.into()),
            ("local_address", Resolved::text(&self.local_address)),
            ("protocol", Resolved::optional(self.protocol.as_ref())),
            ("allowed_peers", self.allowed_peers.as_ref().map_or(Resolved::Absent, Resolved::texts)),
        ])
    }
}

fn names(root: &Section<'_>) -> Result<BTreeMap<DnsLabel, PeerId>, ConfigError> {
    let name = |entry: &Named<'_>| Ok((entry.name(value::label)?, entry.value(value::peer_id)?));
    root.named("names")?.iter().map(name).collect()
}

impl Vpn {
    fn read(root: &Section<'_>) -> Result<Self, ConfigError> {
        let section = root.section(
            "vpn",
            &["enabled", "mode", "carrier", "interface", "cidr", "address", "mtu", "inbound"],
        )?;
        let mtu = section.value("mtu", value::integer(MIN_MTU, MAX_MTU))?;
        let vpn = Self {
            enabled: section.value("enabled", value::boolean)?.unwrap_or(true),
            mode: section.value("mode", str::parse)?.unwrap_or_default(),
            carrier: section.value("carrier", vpn::carrier)?.unwrap_or_default(),
            interface: section.value("interface", str::parse)?.unwrap_or_else(default_interface),
            cidr: section.value("cidr", value::cidr)?.unwrap_or_else(Self::default_cidr),
            address: section.value("address", value::ipv4)?,
            mtu: mtu.map_or(DEFAULT_MTU, |mtu| mtu as u16),
            inbound: section.value("inbound", value::boolean)?.unwrap_or(true),
        };
        vpn.check_address().map_err(|problem| section.problem("address", problem))?;
        Ok(vpn)
    }

    /// `10.64.0.0/16`
    pub fn default_cidr() -> Ipv4Net {
        Ipv4Net::new_assert(Ipv4Addr::new(10, 64, 0, 0), 16)
    }

    fn check_address(&self) -> Result<(), Problem> {
        self.address.map_or(Ok(()), |address| value::address_in(self.cidr, address))
    }

    fn resolved(&self) -> Resolved {
        Resolved::section([
            ("enabled", self.enabled.into()),
            ("mode", Resolved::text(self.mode)),
            ("carrier", Resolved::text(self.carrier.as_str())),
            ("interface", Resolved::text(&self.interface)),
            ("cidr", Resolved::text(self.cidr)),
            ("address", Resolved::optional(self.address)),
            ("mtu", u64::from(self.mtu).into()),
            ("inbound", self.inbound.into()),
        ])
    }
}

fn default_interface() -> InterfaceName {
    "peerup0".parse().expect("the built-in interface name is one")
}
