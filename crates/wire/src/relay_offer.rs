//! The addresses at which a node relays between its peers: in a hello, and in a control frame when they change.
//!
//! An empty list says that the node relays for nobody.

use peerup_types::Multiaddr;

/// The most addresses one offer names: both transports of both families, inside and outside of a NAT.
pub const MAX_RELAY_ADDRS: usize = 8;

/// The longest address an offer carries, in binary form. Underlay addresses have about 70 bytes.
pub const MAX_RELAY_ADDR_LEN: usize = 128;

/// Whether an offer may carry `address`.
pub(crate) fn fits(address: &Multiaddr) -> bool {
    address.len() <= MAX_RELAY_ADDR_LEN
}

/// One address of an offer, in binary form.
pub(crate) fn parse(bytes: &[u8]) -> Option<Multiaddr> {
    if bytes.len() > MAX_RELAY_ADDR_LEN {
        return None;
    }
    Multiaddr::try_from(bytes.to_vec()).ok()
}
