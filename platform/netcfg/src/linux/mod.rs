//! Linux, through rtnetlink.

mod link;
mod netlink;
mod occupied;
mod private;
mod undo;

pub use private::{PrivateNetwork, set_up_private};
pub use undo::cleanup;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};

use crate::journal::{Journal, LinkBefore, Record};
use crate::range::{self, RangeError};
use crate::{Change, NetlinkError, NetworkError, Overlay};
use link::Link;
use netlink::{Netlink, errno};

/// Packets that the kernel holds for us while we do not read. The driver's default is 500; a burst of one large
/// TCP window is more than that.
const TX_QUEUE_LENGTH: u32 = 1000;

/// IN6_ADDR_GEN_MODE_NONE: no fe80 address, hence no router solicitations on a link where no router is.
const NO_ADDRESS_GENERATION: u8 = 1;

/// The changes of this process to the host's network. Dropped without [`HostNetwork::teardown`], it takes them
/// back on its way out.
pub struct HostNetwork {
    netlink: Netlink,
    journal: Journal,
    active: Option<Active>,
}

/// What is configured.
struct Active {
    index: u32,
    overlay: Overlay,
    /// Missing on hosts where IPv6 is switched off.
    ipv6: bool,
    /// Whom the caller wants routes to.
    peers: BTreeSet<IpAddr>,
    /// Whom there are routes to.
    routed: BTreeSet<IpAddr>,
}

/// Is `range` free on this host? What `own_interface` has does not count, nor do `unreachable` routes of ours
/// that a crash left behind.
pub async fn check_range(range: Ipv4Net, own_interface: &str) -> Result<(), RangeError> {
    let netlink = undo::open()?;
    let occupied = occupied::occupied(&netlink, own_interface).await?;
    Ok(range::check(range, &occupied)?)
}

impl HostNetwork {
    /// Opens the journal and takes back what an earlier process left. Needs a tokio runtime with I/O and time.
    pub async fn open(journal: PathBuf) -> Result<Self, NetworkError> {
        let netlink = undo::open()?;
        let mut journal = Journal::open(journal)?;
        let report = undo::undo_and_delete(&netlink, &mut journal).await?;
        if !report.is_empty() {
            tracing::info!(
                changes = report.removed.len(),
                "took back what an earlier run left in the network"
            );
        }
        Ok(Self { netlink, journal, active: None })
    }

    /// Sets up the link, its addresses and the `unreachable` routes; on failure nothing stays.
    pub async fn configure(&mut self, overlay: &Overlay) -> Result<(), NetworkError> {
        self.teardown().await?;
        overlay.check()?;
        let link = self.find_link(&overlay.interface).await?;
        let configured = self.try_configure(overlay, &link).await;
        if configured.is_err()
            && let Err(error) = self.teardown().await
        {
            tracing::warn!(%error, "a failed configuration was not taken back completely");
        }
        configured
    }

    /// Makes the host routes be those of `peers`: new ones are added, missing ones removed. Tries all of them; the
    /// first failure is reported, and the next call tries again.
    ///
    /// IPv4 peers get a route while this node has an IPv4 address: packets with a source from another interface
    /// would only be dropped at the other end.
    pub async fn set_peers(&mut self, peers: &[IpAddr]) -> Result<(), NetworkError> {
        let active = self.active.as_mut().ok_or(NetworkError::NotConfigured)?;
        for peer in peers {
            active.overlay.check_address(*peer)?;
        }
        active.peers = peers.iter().copied().collect();
        self.apply_routes().await
    }

    /// Replaces the IPv4 address, as after a lost claim. The new one is there before the old one goes.
    pub async fn change_address(&mut self, new: Option<Ipv4Addr>) -> Result<(), NetworkError> {
        let active = self.active.as_ref().ok_or(NetworkError::NotConfigured)?;
        let old = active.overlay.addresses.v4;
        if old == new {
            return Ok(());
        }
        if let Some(address) = new {
            active.overlay.check_address(address.into())?;
            self.add_v4(address).await?;
        }
        if let Some(address) = old {
            self.remove_v4(address, new).await?;
        }
        self.apply_routes().await
    }

    /// Takes everything back and deletes the journal. Does nothing when there is nothing.
    pub async fn teardown(&mut self) -> Result<(), NetworkError> {
        self.active = None;
        undo::undo_and_delete(&self.netlink, &mut self.journal).await.map(drop)
    }

    /// Whether the overlay's IPv6 address is in place; hosts may have IPv6 switched off.
    pub fn has_ipv6(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.ipv6)
    }

    async fn apply_routes(&mut self) -> Result<(), NetworkError> {
        let Self { netlink, journal, active } = self;
        let active = active.as_mut().ok_or(NetworkError::NotConfigured)?;
        let wanted = active.routable();
        journal.update(|record| record.peers.extend(&wanted))?;
        let mut failure = None;
        for destination in active.routed.difference(&wanted).copied().collect::<Vec<_>>() {
            match gone_is_fine(netlink.remove_host_route(active.index, destination).await) {
                Ok(()) => active.routed.retain(|routed| *routed != destination),
                Err(source) => note(&mut failure, Change::RemoveRoute { destination }, source),
            }
        }
        for destination in wanted.difference(&active.routed).copied().collect::<Vec<_>>() {
            match netlink.add_host_route(active.index, destination).await {
                Ok(()) => active.routed.extend([destination]),
                Err(source) => note(&mut failure, Change::AddRoute { destination }, source),
            }
        }
        journal.update(|record| record.peers.clone_from(&active.routed))?;
        failure.map_or(Ok(()), Err)
    }

    async fn add_v4(&mut self, address: Ipv4Addr) -> Result<(), NetworkError> {
        let active = self.active.as_mut().ok_or(NetworkError::NotConfigured)?;
        self.journal.update(|record| record.addresses.extend([IpAddr::V4(address)]))?;
        add_address(&self.netlink, active.index, address.into()).await?;
        active.overlay.addresses.v4 = Some(address);
        Ok(())
    }

    async fn remove_v4(
        &mut self,
        address: Ipv4Addr,
        remaining: Option<Ipv4Addr>,
    ) -> Result<(), NetworkError> {
        let active = self.active.as_mut().ok_or(NetworkError::NotConfigured)?;
        let address = IpAddr::V4(address);
        gone_is_fine(self.netlink.remove_address(active.index, address).await)
            .map_err(|source| NetworkError::Change { change: Change::RemoveAddress { address }, source })?;
        active.overlay.addresses.v4 = remaining;
        if remaining.is_none() {
            // With the last address of a link the kernel drops the link's IPv4 routes.
            active.routed.retain(IpAddr::is_ipv6);
        }
        Ok(self.journal.update(|record| record.addresses.retain(|noted| *noted != address))?)
    }

    async fn find_link(&self, interface: &str) -> Result<Link, NetworkError> {
        let link = self.netlink.link(interface).await;
        let link = link.map_err(|source| NetworkError::Read { what: "interfaces", source })?;
        let link = link.ok_or_else(|| NetworkError::NoInterface { interface: interface.into() })?;
        if link.is_tun { Ok(link) } else { Err(NetworkError::NotTun { interface: interface.into() }) }
    }

    async fn try_configure(&mut self, overlay: &Overlay, link: &Link) -> Result<(), NetworkError> {
        let index = link.state.index;
        self.journal.update(|record| {
            *record = Record::new(overlay.interface.clone());
            record.link = Some(link.state.clone());
            record.addresses.extend(overlay.addresses.iter());
            record.unreachable.extend(ranges(overlay));
        })?;
        self.set_up_link(overlay, &link.state).await?;
        let ipv6 = self.add_addresses(overlay, index).await?;
        for range in ranges(overlay).into_iter().filter(|range| ipv6 || matches!(range, IpNet::V4(_))) {
            self.add_unreachable(range).await?;
        }
        self.active = Some(Active {
            index,
            overlay: overlay.clone(),
            ipv6,
            peers: BTreeSet::new(),
            routed: BTreeSet::new(),
        });
        Ok(())
    }

    async fn set_up_link(&self, overlay: &Overlay, before: &LinkBefore) -> Result<(), NetworkError> {
        if let Err(error) = self.netlink.set_address_generation(before.index, NO_ADDRESS_GENERATION).await {
            tracing::debug!(%error, "the link gets a link-local address that nobody needs");
        }
        let wanted = LinkBefore {
            up: true,
            mtu: overlay.mtu.into(),
            tx_queue_length: TX_QUEUE_LENGTH,
            ..before.clone()
        };
        self.netlink.set_link(&wanted).await.map_err(|source| {
            let change = Change::SetUpLink { interface: overlay.interface.clone() };
            NetworkError::Change { change, source }
        })
    }

    /// Says whether the IPv6 address could be added; a host without IPv6 is served with IPv4 alone.
    async fn add_addresses(&self, overlay: &Overlay, index: u32) -> Result<bool, NetworkError> {
        if let Some(v4) = overlay.addresses.v4 {
            add_address(&self.netlink, index, v4.into()).await?;
        }
        match add_address(&self.netlink, index, overlay.addresses.v6.into()).await {
            Err(NetworkError::Change { source, .. }) if is_ipv6_off(&source) => {
                tracing::warn!(interface = overlay.interface, "IPv6 is switched off on this host: IPv4 only");
                Ok(false)
            }
            result => result.map(|()| true),
        }
    }

    /// One that is there already has our protocol number, or the metric of nobody else.
    async fn add_unreachable(&self, range: IpNet) -> Result<(), NetworkError> {
        match self.netlink.add_unreachable(range).await {
            Err(error) if error.errno() == Some(errno::EEXIST) => Ok(()),
            result => result
                .map_err(|source| NetworkError::Change { change: Change::AddUnreachable { range }, source }),
        }
    }
}

impl Drop for HostNetwork {
    fn drop(&mut self) {
        if !self.journal.record().is_empty() {
            undo::undo_on_a_thread(self.journal.path());
        }
    }
}

impl Active {
    fn routable(&self) -> BTreeSet<IpAddr> {
        let has_source =
            |peer: &IpAddr| if peer.is_ipv6() { self.ipv6 } else { self.overlay.addresses.v4.is_some() };
        self.peers.iter().copied().filter(has_source).collect()
    }
}

fn ranges(overlay: &Overlay) -> [IpNet; 2] {
    [overlay.v4_range.trunc().into(), overlay.v6_range.trunc().into()]
}

async fn add_address(netlink: &Netlink, index: u32, address: IpAddr) -> Result<(), NetworkError> {
    match netlink.add_address(index, address).await {
        Err(error) if error.errno() == Some(errno::EEXIST) => Ok(()),
        result => {
            result.map_err(|source| NetworkError::Change { change: Change::AddAddress { address }, source })
        }
    }
}

fn note(failure: &mut Option<NetworkError>, change: Change, source: NetlinkError) {
    failure.get_or_insert(NetworkError::Change { change, source });
}

fn gone_is_fine(removed: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match removed {
        Err(error) if undo::is_gone(&error) => Ok(()),
        result => result,
    }
}

/// EACCES: `disable_ipv6`; the others: `ipv6.disable=1`, or a kernel without IPv6.
fn is_ipv6_off(error: &NetlinkError) -> bool {
    matches!(error.errno(), Some(errno::EACCES | errno::EOPNOTSUPP | errno::EAFNOSUPPORT))
}
