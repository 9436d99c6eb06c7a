//! Systems whose network cannot be watched yet.

use std::convert::Infallible;

use crate::{MonitorError, MonitorOptions, NetworkChange};

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
