//! A network namespace that one command has for itself. Nothing is journaled: all of it goes with the namespace.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{NO_ADDRESS_GENERATION, TX_QUEUE_LENGTH, netlink::Netlink, undo};
use crate::journal::LinkBefore;
use crate::{Change, NetworkError};

/// What the namespace gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateNetwork {
    /// A TUN device in this thread's network namespace.
    pub interface: String,
    pub addresses: Vec<IpAddr>,
    /// All of these lie behind the device.
    pub ranges: Vec<IpNet>,
    pub mtu: u16,
}

/// Brings up loopback and the device, with addresses and routes. Acts on the network namespace of the calling thread,
/// which must have a tokio runtime with I/O and time.
pub async fn set_up_private(network: &PrivateNetwork) -> Result<(), NetworkError> {
    let netlink = undo::open()?;
    let loopback = up(&netlink, "lo", None).await?;
    debug_assert_ne!(loopback, 0);
    let index = up(&netlink, &network.interface, Some(network.mtu)).await?;
    for address in network.addresses.iter().copied() {
        super::add_address(&netlink, index, address).await?;
    }
    for range in network.ranges.iter().copied() {
        netlink.add_range_route(index, range).await.map_err(|source| {
            let destination = range.network();
            NetworkError::Change { change: Change::AddRoute { destination }, source }
        })?;
    }
    Ok(())
}

async fn up(netlink: &Netlink, name: &str, mtu: Option<u16>) -> Result<u32, NetworkError> {
    let found = netlink.link(name).await;
    let found = found.map_err(|source| NetworkError::Read { what: "interfaces", source })?;
    let before = found.ok_or_else(|| NetworkError::NoInterface { interface: name.into() })?.state;
    if mtu.is_some() {
        // Where it cannot be set there is one address more, which nobody uses.
        let _ = netlink.set_address_generation(before.index, NO_ADDRESS_GENERATION).await;
    }
    let wanted = LinkBefore {
        up: true,
        mtu: mtu.map_or(before.mtu, Into::into),
        tx_queue_length: if mtu.is_some() { TX_QUEUE_LENGTH } else { before.tx_queue_length },
        ..before.clone()
    };
    netlink.set_link(&wanted).await.map_err(|source| {
        let change = Change::SetUpLink { interface: name.to_owned() };
        NetworkError::Change { change, source }
    })?;
    Ok(before.index)
}
