//! Overlay addresses, kept apart from underlay addresses by type.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p_identity::PeerId;

/// The virtual addresses of one node. The IPv6 address follows from network name and peer ID, so every node
/// has one; the IPv4 address has to be claimed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OverlayAddrs {
    pub v4: Option<Ipv4Addr>,
    pub v6: Ipv6Addr,
}

impl OverlayAddrs {
    /// Both addresses, IPv4 first: the one people type.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.v4.map(IpAddr::V4).into_iter().chain([IpAddr::V6(self.v6)])
    }

    pub fn contains(&self, addr: IpAddr) -> bool {
        self.iter().any(|own| own == addr)
    }
}

/// "This IPv4 address is mine since `epoch`", signed by the claimant (see `peerup-membership`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressClaim {
    pub peer: PeerId,
    pub address: Ipv4Addr,
    /// Unix seconds of the claim; the lower epoch wins a conflict, then the smaller peer ID.
    pub epoch: u64,
    /// Ed25519 signature; empty while an inviter holds the address for a joiner that has not signed yet.
    pub signature: Vec<u8>,
}
