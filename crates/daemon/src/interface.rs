//! The overlay interface: device, addresses, routes, and all of it undone.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use ipnet::{Ipv4Net, Ipv6Net};
use peerup_config::VpnMode;
use peerup_netcfg::{HostNetwork, Overlay, check_range};
use peerup_service::has_net_admin;
use peerup_tun::{TunDevice, TunError, TunOptions};
use peerup_types::OverlayAddrs;
use tokio::runtime::Handle;

use crate::{device::AnyDevice, error::DaemonError, userspace::Network};

/// What stays the same between one `up` and the next.
#[derive(Debug, Clone)]
pub struct InterfaceSettings {
    /// Without a device: connections end in this process.
    pub userspace: bool,
    pub name: String,
    pub mtu: u16,
    pub v4_range: Ipv4Net,
    pub v6_range: Ipv6Net,
    pub journal: PathBuf,
}

/// An interface that is up. Everything done to the host is undone by [`down`](Self::down), and by the journal when
/// the process does not get that far.
pub struct Interface {
    name: String,
    addresses: OverlayAddrs,
    kind: Kind,
}

enum Kind {
    Host(Box<HostNetwork>),
    Userspace(Network),
}

/// Why this process cannot make an interface; `None` when it can.
pub fn tun_obstacle() -> Option<TunObstacle> {
    if let Some(error) = peerup_tun::obstacle() {
        return Some(TunObstacle::Driver(error));
    }
    (!has_net_admin()).then_some(TunObstacle::Capability)
}

#[derive(Debug, thiserror::Error)]
pub enum TunObstacle {
    #[error(transparent)]
    Driver(TunError),
    #[error("creating the interface needs CAP_NET_ADMIN, which this process does not have")]
    Capability,
}

/// Whether to do without an interface, by what the user and the configuration say, and what is possible.
pub fn is_userspace(asked: bool, mode: VpnMode) -> bool {
    match mode {
        VpnMode::Userspace => true,
        VpnMode::Tun => asked,
        VpnMode::Auto => asked || tun_obstacle().is_some(),
    }
}

impl Interface {
    /// Checks the range, makes the device on the data thread's runtime `io`, and configures it.
    pub async fn up(
        settings: InterfaceSettings,
        addresses: OverlayAddrs,
        io: &Handle,
    ) -> Result<(Self, AnyDevice), DaemonError> {
        if settings.userspace {
            let network = Network::start(addresses, settings.mtu, io);
            let name = "userspace".to_owned();
            let interface = Self { name, addresses, kind: Kind::Userspace(network.clone()) };
            return Ok((interface, AnyDevice::Userspace(network)));
        }
        // Opening the journal takes back what an earlier run left, which the range check would otherwise find.
        let mut host = HostNetwork::open(settings.journal.clone()).await?;
        check_range(settings.v4_range, &settings.name).await?;
        let device = {
            let _io = io.enter();
            TunDevice::create_with(&settings.name, TunOptions::with_offload(settings.mtu))?
        };
        host.configure(&Overlay {
            interface: settings.name.clone(),
            addresses,
            mtu: settings.mtu,
            v4_range: settings.v4_range,
            v6_range: settings.v6_range,
        })
        .await?;
        let interface = Self { name: settings.name, addresses, kind: Kind::Host(Box::new(host)) };
        Ok((interface, AnyDevice::Tun(device)))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The network of a node without a device.
    pub fn userspace(&self) -> Option<&Network> {
        match &self.kind {
            Kind::Host(_) => None,
            Kind::Userspace(network) => Some(network),
        }
    }

    pub async fn route(&mut self, hosts: &[IpAddr]) -> Result<(), DaemonError> {
        match &mut self.kind {
            Kind::Host(host) => Ok(host.set_peers(hosts).await?),
            Kind::Userspace(_) => Ok(()),
        }
    }

    pub async fn readdress(&mut self, address: Option<Ipv4Addr>) -> Result<(), DaemonError> {
        self.addresses.v4 = address;
        match &mut self.kind {
            Kind::Host(host) => host.change_address(address).await?,
            Kind::Userspace(network) => network.set_addresses(self.addresses),
        }
        Ok(())
    }

    pub async fn down(mut self) -> Result<(), DaemonError> {
        match &mut self.kind {
            Kind::Host(host) => host.teardown().await?,
            Kind::Userspace(network) => network.close(),
        }
        Ok(())
    }
}
