//! The files that `init` and `relay setup` write: what a person reads first.
//!
//! Every value a template mentions is the one in force, and what is only an example is a comment.

use std::fmt::Write;

use ipnet::Ipv4Net;
use peerup_types::{DnsLabel, Multiaddr};

use crate::{address::PeerAddr, node::Vpn, resolved::yaml_scalar};

/// A new node.
#[derive(Debug, Clone, Default)]
pub struct NodeTemplate {
    pub name: Option<DnsLabel>,
    pub relays: Vec<PeerAddr>,
    /// `None` is the global network.
    pub network: Option<DnsLabel>,
    /// `None` is the default range.
    pub cidr: Option<Ipv4Net>,
}

/// A new relay server.
#[derive(Debug, Clone, Default)]
pub struct RelayTemplate {
    /// `None` is the global network.
    pub network: Option<DnsLabel>,
    /// Empty: found out when the relay starts.
    pub external_addresses: Vec<Multiaddr>,
}

impl NodeTemplate {
    pub fn render(&self) -> String {
        let node = optional("node", "name", self.name.as_ref(), "laptop");
        let relays = list(&self.relays);
        let network = setting("  ", "network", self.network.as_ref(), "my-crew");
        let cidr = self.cidr.unwrap_or_else(Vpn::default_cidr);
        format!(
            "\
# peerup node. Check it with `peerup config validate`; `peerup config show` prints every setting
# with its default. Paths are relative to this file.
version: 1

# What this machine calls itself when it pairs.
{node}
# Relays carry traffic until two machines reach each other directly, and when they never do.
# On one LAN none is needed.
# `peerup relay add ADDRESS` adds one.
relay:
  addresses:{relays}

# The private network. This machine's own address is chosen while pairing; an `address:` line here
# fixes it.
vpn:
  enabled: true
  interface: peerup0
  cidr: {cidr}

# Machines find each other inside a network of this name only; relay and peers use the same one.
discovery:
{network}
identity:
  key_file: identity.key

# Who may connect: one peer ID per line. `peerup auth list` shows them.
security:
  authorized_keys_file: authorized_keys
  enable_connection_gating: true

# Names for peers, so that `peerup ping home` works. Pairing fills this in.
names: {{}}

# TCP services for peers that have no interface; `peerup service add ssh localhost:22` adds one.
services: {{}}
"
        )
    }
}

impl RelayTemplate {
    pub fn render(&self) -> String {
        let network = setting("  ", "network", self.network.as_ref(), "my-crew");
        let external = list(&self.external_addresses);
        format!(
            "\
# peerup relay server. Check it with `peerup relay config validate`. Paths are relative to this
# file.
version: 1

identity:
  key_file: relay_node.key

# Open these ports, TCP and UDP, in the firewall.
network:
  listen_addresses:
    - /ip4/0.0.0.0/tcp/7777
    - /ip4/0.0.0.0/udp/7777/quic-v1
    - /ip6/::/tcp/7777
    - /ip6/::/udp/7777/quic-v1
  # Needed where the public address is not on an interface (1:1 NAT), as /ip4/203.0.113.50/tcp/7777.
  external_addresses:{external}

# Must be the network of the nodes.
discovery:
{network}
# Who may use this relay. `peerup relay authorize PEER_ID` adds a line.
security:
  authorized_keys_file: relay_authorized_keys
  enable_connection_gating: true

# Machines that pair with an authorized one become authorized here too.
relay:
  vouching: on

# The relay forwards ciphertext; these limits only protect the server.
resources:
  max_reservations: 1024
  max_circuits: 512
  session_duration: 24h
  session_data_limit: unlimited

# GET /healthz, for this machine only.
health:
  enabled: false
  listen_address: 127.0.0.1:9090
"
        )
    }
}

/// A section with one key, both commented out where there is no value.
fn optional(section: &str, key: &str, value: Option<&DnsLabel>, example: &str) -> String {
    match value {
        Some(value) => format!("{section}:\n  {key}: {}\n", yaml_scalar(value.as_str())),
        None => format!("# {section}:\n#   {key}: {example}\n"),
    }
}

fn setting(indent: &str, key: &str, value: Option<&DnsLabel>, example: &str) -> String {
    match value {
        Some(value) => format!("{indent}{key}: {}\n", yaml_scalar(value.as_str())),
        None => format!("{indent}# {key}: {example}\n"),
    }
}

/// What follows `addresses:`.
fn list(values: &[impl ToString]) -> String {
    if values.is_empty() {
        return " []".to_owned();
    }
    values.iter().fold(String::new(), |mut text, value| {
        write!(text, "\n    - {}", yaml_scalar(&value.to_string())).expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{NodeConfig, RelayConfig};

    const RELAY: &str = "/ip4/203.0.113.50/tcp/7777/p2p/12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";

    fn node(text: &str) -> NodeConfig {
        NodeConfig::parse(text, Path::new("/c")).unwrap()
    }

    fn relay(text: &str) -> RelayConfig {
        RelayConfig::parse(text, Path::new("/c")).unwrap()
    }

    #[test]
    fn an_empty_template_says_the_defaults_and_nothing_else() {
        assert_eq!(node(&NodeTemplate::default().render()), node("version: 1"));
        assert_eq!(relay(&RelayTemplate::default().render()), relay("version: 1"));
    }

    #[test]
    fn a_filled_template_says_what_was_filled_in() {
        let template = NodeTemplate {
            name: Some("on".parse().unwrap()),
            relays: vec![RELAY.parse().unwrap()],
            network: Some("my-crew".parse().unwrap()),
            cidr: Some("10.99.0.0/24".parse().unwrap()),
        };
        let mut expected = node("version: 1");
        expected.name = template.name.clone();
        expected.relay.addresses = template.relays.clone();
        expected.discovery.network = template.network.clone();
        expected.vpn.cidr = "10.99.0.0/24".parse().unwrap();
        assert_eq!(node(&template.render()), expected);

        let external: Multiaddr = "/ip4/203.0.113.50/udp/7777/quic-v1".parse().unwrap();
        let template =
            RelayTemplate { network: template.network, external_addresses: vec![external.clone()] };
        let parsed = relay(&template.render());
        assert_eq!(
            (parsed.discovery.network, parsed.network.external_addresses),
            (template.network, vec![external])
        );
    }

    #[test]
    fn templates_fit_a_terminal_and_end_lines_cleanly() {
        for text in [NodeTemplate::default().render(), RelayTemplate::default().render()] {
            assert!(text.lines().all(|line| line.len() <= 100 && line.trim_end() == line), "{text}");
            assert!(text.ends_with('\n') && !text.contains("\n\n\n"));
        }
    }
}
