//! Systems without a TUN implementation: nothing can be created, so nothing is ever called.

use std::convert::Infallible;
use std::io;

use crate::{Device, TunError};

/// A TUN device of this host. There is none.
pub struct TunDevice(Infallible);

impl TunDevice {
    pub fn create(_name: &str, _mtu: u16) -> Result<Self, TunError> {
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

    async fn send(&self, _packet: &[u8]) -> io::Result<()> {
        match self.0 {}
    }

    fn try_send(&self, _packet: &[u8]) -> io::Result<()> {
        match self.0 {}
    }

    fn name(&self) -> &str {
        match self.0 {}
    }

    fn mtu(&self) -> u16 {
        match self.0 {}
    }
}
