//! Systems whose network cannot be configured yet: everything says so, except that there is nothing to undo.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;

use crate::{CleanupReport, NetworkError, Overlay, RangeError};

/// The changes of this process to the host's network. There are none.
pub struct HostNetwork(Infallible);

pub async fn check_range(_range: Ipv4Net, _own_interface: &str) -> Result<(), RangeError> {
    Err(NetworkError::Unsupported.into())
}

pub async fn cleanup(_journal: &Path) -> Result<CleanupReport, NetworkError> {
    Ok(CleanupReport::default())
}

impl HostNetwork {
    pub async fn open(_journal: PathBuf) -> Result<Self, NetworkError> {
        Err(NetworkError::Unsupported)
    }

    pub async fn configure(&mut self, _overlay: &Overlay) -> Result<(), NetworkError> {
        match self.0 {}
    }

    pub async fn set_peers(&mut self, _peers: &[IpAddr]) -> Result<(), NetworkError> {
        match self.0 {}
    }

    pub async fn change_address(&mut self, _new: Option<Ipv4Addr>) -> Result<(), NetworkError> {
        match self.0 {}
    }

    pub async fn teardown(&mut self) -> Result<(), NetworkError> {
        match self.0 {}
    }

    pub fn has_ipv6(&self) -> bool {
        match self.0 {}
    }
}
