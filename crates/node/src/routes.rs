//! From members and their reachability to a routing table.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use peerup_membership::Membership;
use peerup_router::{OverlayRange, Reachability, RoutingTable};
use peerup_types::PeerId;

/// Builds the table for everybody in `peers`. What a peer may not have (an address of ours or of another peer) is
/// left out of the table; membership has decided that already and the table only follows.
pub fn table(
    membership: &Membership,
    peers: impl Iterator<Item = (PeerId, Reachability)>,
    mtu: u16,
    mtus: &BTreeMap<PeerId, u16>,
) -> (Arc<RoutingTable>, Vec<IpAddr>) {
    let overlay = OverlayRange { v4: membership.prefix(), v6: membership.v6_prefix() };
    let mut builder = RoutingTable::builder(membership.own_addrs(), overlay, mtu);
    let mut hosts = Vec::new();
    for (peer, reachability) in peers {
        let Ok(index) = builder.add_peer(peer, reachability) else { continue };
        if let Some(mtu) = mtus.get(&peer) {
            builder.limit_mtu(index, *mtu);
        }
        for address in membership.addrs_of(&peer).iter() {
            if builder.add_prefix(index, IpNet::from(address)).is_ok() {
                hosts.push(address);
            }
        }
    }
    hosts.sort();
    (Arc::new(builder.build()), hosts)
}
