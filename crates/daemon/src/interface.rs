//! The overlay interface: device, addresses, routes, and all of it undone.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use ipnet::{Ipv4Net, Ipv6Net};
use peerup_netcfg::{HostNetwork, Overlay, check_range};
use peerup_tun::{TunDevice, TunOptions};
use peerup_types::OverlayAddrs;
use tokio::runtime::Handle;

use crate::error::DaemonError;

/// What stays the same between one `up` and the next.
#[derive(Debug, Clone)]
pub struct InterfaceSettings {
    pub name: String,
    pub mtu: u16,
    pub v4_range: Ipv4Net,
    pub v6_range: Ipv6Net,
    pub journal: PathBuf,
}

/// An interface that is up. Everything done to the host is undone by [`down`](Self::down), and by the journal when
/// the process does not get that far.
pub struct Interface {
    settings: InterfaceSettings,
    host: HostNetwork,
}

impl Interface {
    /// Checks the range, makes the device on the data thread's runtime `io`, and configures it.
    pub async fn up(
        settings: InterfaceSettings,
        addresses: OverlayAddrs,
        io: &Handle,
    ) -> Result<(Self, TunDevice), DaemonError> {
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
        Ok((Self { settings, host }, device))
    }

    pub fn name(&self) -> &str {
        &self.settings.name
    }

    pub async fn route(&mut self, hosts: &[IpAddr]) -> Result<(), DaemonError> {
        Ok(self.host.set_peers(hosts).await?)
    }

    pub async fn readdress(&mut self, address: Option<Ipv4Addr>) -> Result<(), DaemonError> {
        Ok(self.host.change_address(address).await?)
    }

    pub async fn down(mut self) -> Result<(), DaemonError> {
        Ok(self.host.teardown().await?)
    }
}
