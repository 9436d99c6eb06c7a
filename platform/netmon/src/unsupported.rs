//! Systems whose network cannot be watched yet.

use std::convert::Infallible;

use crate::{MonitorError, MonitorOptions, NetworkChange, NetworkView};

/// The network at this moment. There is no way to look at it on this system.
pub async fn look() -> Result<NetworkView, MonitorError> {
    Err(MonitorError::Unsupported)
}

/// Watches the host's network. There is none to be had on this system.
#[derive(Debug)]
pub struct NetMonitor(Infallible);

impl NetMonitor {
    pub async fn open(_options: MonitorOptions) -> Result<Self, MonitorError> {
        Err(MonitorError::Unsupported)
    }

    pub async fn changed(&mut self) -> NetworkChange {
        match self.0 {}
    }
}
