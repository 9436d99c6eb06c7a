//! IPv6 addresses of the overlay: RFC 4193 unique local addresses that need no coordination.
//!
//! ```text
//! fd ‖ global ID 40 bits ‖ subnet ID 0 (16 bits) ‖ interface ID 64 bits
//!
//! global ID    = first 40 bits of SHA-256("peerup-ula-v1" ‖ network name, empty for the global network)
//! interface ID = first 64 bits of SHA-256(peer ID as multihash bytes)
//! ```
//!
//! RFC 4193 §3.2.2 wants global IDs that do not collide between sites; a hash of the network's name differs
//! between networks and is the same on all members. Interface IDs are opaque (RFC 7136 §5). Two peers share
//! one only if somebody searches 2^64 keys for it, and the match must still be authorized to matter.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use peerup_types::{DnsLabel, PeerId};
use sha2::{Digest, Sha256};

const CONTEXT: &str = "peerup-ula-v1";
const PREFIX_LEN: u8 = 48;

/// The overlay's IPv6 prefix, a /48.
pub fn ula_prefix(network: Option<&DnsLabel>) -> Ipv6Net {
    let mut octets = [0; 16];
    octets[..6].copy_from_slice(&site(network));
    Ipv6Net::new(octets.into(), PREFIX_LEN).expect("48 is at most 128")
}

/// The IPv6 address of a peer.
pub fn ula(network: Option<&DnsLabel>, peer: &PeerId) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[..6].copy_from_slice(&site(network));
    octets[8..].copy_from_slice(&Sha256::digest(peer.to_bytes())[..8]);
    octets.into()
}

/// `fd` and the global ID.
fn site(network: Option<&DnsLabel>) -> [u8; 6] {
    let name = network.map_or("", DnsLabel::as_str);
    let hash = Sha256::new().chain_update(CONTEXT).chain_update(name).finalize();
    [0xfd, hash[0], hash[1], hash[2], hash[3], hash[4]]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";

    #[test]
    fn addresses_are_fixed_by_network_and_peer() {
        let peer = PEER.parse().unwrap();
        let crew: DnsLabel = "my-crew".parse().unwrap();
        assert_eq!(ula_prefix(None).to_string(), "fd25:cbc2:59d8::/48");
        assert_eq!(ula_prefix(Some(&crew)).to_string(), "fd4f:4d75:6983::/48");
        assert_eq!(ula(None, &peer).to_string(), "fd25:cbc2:59d8:0:cd7e:fa73:2324:af4e");
        assert_eq!(ula(Some(&crew), &peer).to_string(), "fd4f:4d75:6983:0:cd7e:fa73:2324:af4e");
    }

    #[test]
    fn every_address_is_a_unique_local_one_inside_its_networks_prefix() {
        let crew: DnsLabel = "my-crew".parse().unwrap();
        for network in [None, Some(&crew)] {
            let address = ula(network, &PeerId::random());
            assert!(ula_prefix(network).contains(&address) && address.is_unique_local(), "{address}");
        }
    }
}
