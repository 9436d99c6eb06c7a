//! Where IP packets enter and leave the host: a TUN device, or a pair of queues that plays one in tests.
//!
//! A device belongs to the process that opened it and vanishes with it. Addresses, routes, queue length and the
//! link's state are the business of `peerup-netcfg`: a device fresh from [`TunDevice::create`] is down and
//! has no address.
//!
//! # Frames
//! What [`Device::recv`] returns and [`Device::send`] takes is one frame per call, and there are two kinds of
//! devices ([`Device::offload`]):
//! - A plain device: the frame is one IP packet of at most the MTU.
//! - A device with offload: the frame is a `virtio_net_hdr` of [`VNET_HEADER_LEN`] bytes, little-endian, and
//!   behind it one IP packet of up to 64 KiB that may still have to be segmented or to get its checksum
//!   (VIRTIO 1.2 §5.1.6; `peerup-packet`'s `gso` reads it). One system call moves a frame in either direction;
//!   nothing is cut, joined, added up or checked on the way. Ten zeros stand before an ordinary packet.
//!
//! Who has an ordinary packet for a device of any kind uses [`Device::send_packet`].
//!
//! [`Device`] is used with static dispatch; packets do not pay for the choice.
#![forbid(unsafe_code)]

mod error;
#[cfg(target_os = "linux")]
mod linux;
mod memory;
mod name;
mod options;
#[cfg(target_os = "linux")]
mod passed;
#[cfg(not(target_os = "linux"))]
mod unsupported;

pub use error::TunError;
#[cfg(target_os = "linux")]
pub use linux::{TunDevice, obstacle};
pub use memory::MemoryTun;
pub use options::{Offload, TunOptions};
#[cfg(target_os = "linux")]
pub use passed::{NewTun, PassedTun};
#[cfg(not(target_os = "linux"))]
pub use unsupported::{TunDevice, obstacle};

use std::future::Future;
use std::io;

/// Bytes in front of every packet on a device with offload.
pub const VNET_HEADER_LEN: usize = 10;

/// No frame is longer, on a device of either kind: a buffer of this length loses nothing.
pub const MAX_FRAME_LEN: usize = VNET_HEADER_LEN + u16::MAX as usize;

/// A source and sink of whole IP packets, framed as the [crate documentation](crate#frames) says.
///
/// All methods take `&self`: one task may receive while another sends. Of several tasks that receive at once,
/// each packet reaches one.
pub trait Device: Send + Sync {
    /// Waits for a frame and writes it to `buffer`; what does not fit is lost. Cancel safe.
    fn recv(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    /// Takes a frame that is already there, else fails with [`io::ErrorKind::WouldBlock`].
    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Hands a frame to the host, waiting while the host takes none. Cancel safe: the frame went or it did not.
    ///
    /// A kernel refuses a header that it does not understand or does not believe
    /// ([`io::ErrorKind::InvalidInput`]) and loses nothing else by it.
    fn send(&self, frame: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Hands a frame to the host if it takes one at once, else fails with [`io::ErrorKind::WouldBlock`]: that is
    /// rare, but always so until the runtime has seen the interface up.
    fn try_send(&self, frame: &[u8]) -> io::Result<()>;

    /// [`Self::send`] for an ordinary packet without a header in front, whatever the device.
    fn send_packet(&self, packet: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// [`Self::try_send`] for an ordinary packet without a header in front, whatever the device.
    fn try_send_packet(&self, packet: &[u8]) -> io::Result<()>;

    /// What the host leaves to this device, and takes from it; `None` for a plain device.
    fn offload(&self) -> Option<Offload>;

    /// Whether frames begin with a header.
    fn has_vnet_header(&self) -> bool {
        self.offload().is_some()
    }

    /// The interface's name.
    fn name(&self) -> &str;

    /// The MTU that the device was created with. With offload a packet may exceed it, its segments do not.
    fn mtu(&self) -> u16;
}
