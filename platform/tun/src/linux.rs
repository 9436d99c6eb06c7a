//! The Linux TUN driver (Documentation/networking/tuntap.rst), through `tun-rs`.

use std::fs::OpenOptions;
use std::io::{self, IoSlice};

use tun_rs::{AsyncDevice, DeviceBuilder, SyncDevice};

use crate::name::is_interface_name;
use crate::{Device, Offload, TunError, TunOptions, VNET_HEADER_LEN};

const NODE: &str = "/dev/net/tun";

/// Below this the kernel turns IPv6 off on the link (RFC 8200 §5).
const MIN_MTU: u16 = 1280;

/// errno values that the driver uses with a meaning of its own.
mod errno {
    pub(super) const EPERM: i32 = 1;
    pub(super) const ENXIO: i32 = 6;
    pub(super) const EBUSY: i32 = 16;
    pub(super) const ENODEV: i32 = 19;
    pub(super) const EINVAL: i32 = 22;
}

/// A TUN device of this host. Non-persistent: the kernel removes the interface when this is dropped or the
/// process ends. An interface that an administrator made persistent (`ip tuntap add`) is attached to and stays.
pub struct TunDevice {
    device: AsyncDevice,
    name: String,
    mtu: u16,
    offload: Option<Offload>,
}

impl TunDevice {
    /// Creates a plain device: the interface is down and without addresses. Needs a tokio runtime with I/O.
    pub fn create(name: &str, mtu: u16) -> Result<Self, TunError> {
        Self::create_with(name, TunOptions::plain(mtu))
    }

    /// As [`Self::create`], with offload where it is asked for and the kernel grants it.
    pub fn create_with(name: &str, options: TunOptions) -> Result<Self, TunError> {
        let mtu = options.mtu;
        check(name, mtu)?;
        let device = build(name, options).map_err(|error| explain(name, error))?;
        let offload = device.tcp_gso().then(|| Offload { uso: device.udp_gso() });
        Ok(Self { device, name: name.into(), mtu, offload })
    }
}

/// What stands between this user and the driver, whatever the capabilities: `None` when nothing does.
pub fn obstacle() -> Option<TunError> {
    check_node().err()
}

fn check(name: &str, mtu: u16) -> Result<(), TunError> {
    if !is_interface_name(name) {
        return Err(TunError::BadName { interface: name.into() });
    }
    if mtu < MIN_MTU {
        return Err(TunError::BadMtu { mtu, min: MIN_MTU });
    }
    check_node()
}

/// A device that this process does not read itself.
pub(crate) fn new_sync(name: &str, options: TunOptions) -> Result<SyncDevice, TunError> {
    check(name, options.mtu)?;
    let build = |offload| builder(name, options.mtu, offload).build_sync();
    let wanted = options.offload && cfg!(target_endian = "little");
    let device = if wanted { build(true).or_else(|_| build(false)) } else { build(false) };
    device.map_err(|error| explain(name, error))
}

impl Device for TunDevice {
    async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.device.recv(buffer).await
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.device.try_recv(buffer)
    }

    async fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.device.send(frame).await.map(drop)
    }

    fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        self.device.try_send(frame).map(drop)
    }

    async fn send_packet(&self, packet: &[u8]) -> io::Result<()> {
        match self.offload {
            Some(_) => self.device.send_vectored(&ordinary(packet)).await.map(drop),
            None => self.send(packet).await,
        }
    }

    fn try_send_packet(&self, packet: &[u8]) -> io::Result<()> {
        match self.offload {
            Some(_) => self.device.try_send_vectored(&ordinary(packet)).map(drop),
            None => self.try_send(packet),
        }
    }

    fn offload(&self) -> Option<Offload> {
        self.offload
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }
}

/// The header that stands for "nothing left to be done", and the packet; one frame without a copy.
fn ordinary(packet: &[u8]) -> [IoSlice<'_>; 2] {
    [IoSlice::new(&[0; VNET_HEADER_LEN]), IoSlice::new(packet)]
}

/// Falls back to a plain device whatever the reason, as each that is not about offload shows again there: kernels
/// and what plays one in a sandbox (gVisor) refuse IFF_VNET_HDR and TUNSETOFFLOAD in different ways.
fn build(name: &str, options: TunOptions) -> io::Result<AsyncDevice> {
    // The driver's header has the host's byte order unless told otherwise (TUNSETVNETLE); ours is little-endian.
    let offload = options.offload && cfg!(target_endian = "little");
    if offload && let Ok(device) = build_with(name, options.mtu, true) {
        return Ok(device);
    }
    build_with(name, options.mtu, false)
}

/// With offload, `tun-rs` asks for TSO4, TSO6 and checksums, and then for USO4 and USO6 beside them, which may be
/// refused. It is not asked to send or receive "multiple", so it never looks into a packet.
///
/// The queue length stays at the driver's default here: the ioctl that sets it is closed to user namespaces, the
/// netlink message that `peerup-netcfg` sends is not.
fn build_with(name: &str, mtu: u16, offload: bool) -> io::Result<AsyncDevice> {
    builder(name, mtu, offload).build_async()
}

fn builder(name: &str, mtu: u16, offload: bool) -> DeviceBuilder {
    let builder = DeviceBuilder::new().name(name).mtu(mtu).packet_information(false);
    builder.offload(offload).inherit_enable_state()
}

/// Opens the node once before the driver is asked for anything: only here "not allowed" can be told from
/// "CAP_NET_ADMIN is missing", and a missing node must not be created on the administrator's behalf.
fn check_node() -> Result<(), TunError> {
    let Err(error) = OpenOptions::new().read(true).write(true).open(NODE) else { return Ok(()) };
    Err(match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) => TunError::NodeMissing,
        (io::ErrorKind::PermissionDenied, _) => TunError::NodeForbidden(error),
        (_, Some(errno::ENXIO | errno::ENODEV)) => TunError::NoDriver(error),
        _ => TunError::Open(error),
    })
}

/// What TUNSETIFF means by its errno (drivers/net/tun.c, `tun_set_iff`).
fn explain(name: &str, source: io::Error) -> TunError {
    let interface = name.to_owned();
    match source.raw_os_error() {
        Some(errno::EPERM) => TunError::NotPermitted { interface, source },
        Some(errno::EBUSY) => TunError::Busy { interface, source },
        Some(errno::EINVAL) => TunError::NameTaken { interface, source },
        _ => TunError::Create { interface, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_mtu_that_cannot_work_is_refused_before_the_kernel_is_asked() {
        assert!(matches!(TunDevice::create("tun%d", 1280), Err(TunError::BadName { .. })));
        assert!(matches!(TunDevice::create("peerup0", 1279), Err(TunError::BadMtu { mtu: 1279, min: 1280 })));
    }
}
