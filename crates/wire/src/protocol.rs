//! The names our protocols have in libp2p's stream negotiation.

use peerup_types::DnsLabel;

/// IP packets between two authorised nodes: hello, then frames.
pub const TUN: &str = "/peerup/tun/1.0.0";
/// Pairing; the messages are `peerup-trust`'s.
pub const INVITE: &str = "/peerup/invite/1.0.0";
/// An authorised node speaks for a newcomer at its relay.
pub const VOUCH: &str = "/peerup/vouch/1.0.0";
/// A machine shows a relay the code of one of its groups; the messages are `peerup-trust`'s.
pub const RELAY_PAIR: &str = "/peerup/relay-pair/1.0.0";
/// A relay introduces the members of a group to each other; the messages are `peerup-trust`'s.
pub const PEER_NOTIFY: &str = "/peerup/peer-notify/1.0.0";
/// A TCP port of the other node: two bytes, the port in network byte order, then what the connection carries.
pub const PORT: &str = "/peerup/port/1.0.0";

/// A TCP service: from the first byte on what the connection carries, in both directions.
pub fn service(name: &DnsLabel) -> String {
    format!("/peerup/{name}/1.0.0")
}

/// The private Kademlia of one network. Nodes of differently named networks never enter each other's
/// routing tables, because they do not speak the same protocol.
pub fn kad_protocol(network: Option<&DnsLabel>) -> String {
    match network {
        Some(network) => format!("/peerup/{network}/kad/1.0.0"),
        None => "/peerup/kad/1.0.0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_network_has_a_kademlia_of_its_own() {
        assert_eq!(kad_protocol(None), "/peerup/kad/1.0.0");
        assert_eq!(kad_protocol(Some(&"home".parse().unwrap())), "/peerup/home/kad/1.0.0");
    }
}
