//! What is asked of a device, and what was granted.

/// How to create a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunOptions {
    pub mtu: u16,
    /// Asks for offload. The device is plain where that is refused; [`Device::offload`](crate::Device::offload)
    /// tells.
    pub offload: bool,
}

impl TunOptions {
    pub fn plain(mtu: u16) -> Self {
        Self { mtu, offload: false }
    }

    pub fn with_offload(mtu: u16) -> Self {
        Self { mtu, offload: true }
    }
}

/// What passes a device unfinished, in both directions: TCP to be segmented (TSO, IPv4 and IPv6), checksums to be
/// completed, and UDP where this says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offload {
    /// UDP to be segmented (USO). Kernels before Linux 6.2 neither make nor take such packets.
    pub uso: bool,
}
