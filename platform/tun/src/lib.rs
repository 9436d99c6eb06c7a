//! Where IP packets enter and leave the host: a TUN device, or a pair of queues that plays one in tests.
//!
//! A device carries plain IP packets, one per call, without a header in front. It belongs to the process that
//! opened it and vanishes with it. Addresses, routes, queue length and the link's state are the business
//! of `peerup-netcfg`: a device fresh from [`TunDevice::create`] is down and has no address.
//!
//! [`Device`] is used with static dispatch; packets do not pay for the choice.
#![forbid(unsafe_code)]

mod error;
#[cfg(target_os = "linux")]
mod linux;
mod memory;
mod name;
#[cfg(not(target_os = "linux"))]
mod unsupported;

pub use error::TunError;
#[cfg(target_os = "linux")]
pub use linux::TunDevice;
pub use memory::MemoryTun;
#[cfg(not(target_os = "linux"))]
pub use unsupported::TunDevice;

use std::future::Future;
use std::io;

/// A source and sink of whole IP packets.
///
/// All methods take `&self`: one task may receive while another sends. Of several tasks that receive at once,
/// each packet reaches one.
pub trait Device: Send + Sync {
    /// Waits for a packet and writes it to `buffer`; what does not fit is lost. Cancel safe.
    fn recv(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    /// Takes a packet that is already there, else fails with [`io::ErrorKind::WouldBlock`].
    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Hands a packet to the host, waiting while the host takes none. Cancel safe: the packet went or it did not.
    fn send(&self, packet: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Hands a packet to the host if it takes one at once, else fails with [`io::ErrorKind::WouldBlock`].
    fn try_send(&self, packet: &[u8]) -> io::Result<()>;

    /// The interface's name.
    fn name(&self) -> &str;

    /// The MTU that the device was created with.
    fn mtu(&self) -> u16;
}
