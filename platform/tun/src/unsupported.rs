//! Systems without a TUN implementation: nothing can be created, so nothing is ever called.

use std::convert::Infallible;
use std::io;

use crate::{Device, Offload, TunError, TunOptions};

/// A TUN device of this host. There is none.
pub struct TunDevice(Infallible);

/// There is no driver.
pub fn obstacle() -> Option<TunError> {
    Some(TunError::Unsupported)
}

impl TunDevice {
    pub fn create(_name: &str, _mtu: u16) -> Result<Self, TunError> {
        Err(TunError::Unsupported)
    }

    pub fn create_with(_name: &str, _options: TunOptions) -> Result<Self, TunError> {
        Err(TunError::Unsupported)
    }
}

impl Device for TunDevice {
    async fn recv(&self, _buffer: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }

    fn try_recv(&self, _buffer: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }

    async fn send(&self, _frame: &[u8]) -> io::Result<()> {
        match self.0 {}
    }

    fn try_send(&self, _frame: &[u8]) -> io::Result<()> {
        match self.0 {}
    }

    async fn send_packet(&self, _packet: &[u8]) -> io::Result<()> {
        match self.0 {}
    }

    fn try_send_packet(&self, _packet: &[u8]) -> io::Result<()> {
        match self.0 {}
    }

    fn offload(&self) -> Option<Offload> {
        match self.0 {}
    }

    fn name(&self) -> &str {
        match self.0 {}
    }

    fn mtu(&self) -> u16 {
        match self.0 {}
    }
}
