//! A device of another network namespace, handed over through a unix socket (unix(7), `SCM_RIGHTS`).
//!
//! Who has a network namespace of its own may make a TUN device there without any right on the host. The file behind
//! it works in whatever namespace it is read: the process that holds the overlay's connections reads it directly.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tun_rs::SyncDevice;

use crate::linux::new_sync;
use crate::{TunError, TunOptions};

/// Frames begin with a header.
const WITH_OFFLOAD: u8 = b'o';
const PLAIN: u8 = b'p';

/// A device made to be handed over.
pub struct NewTun {
    device: SyncDevice,
    offload: bool,
}

impl NewTun {
    /// Creates a device in this thread's network namespace.
    pub fn create(name: &str, options: TunOptions) -> Result<Self, TunError> {
        let device = new_sync(name, options)?;
        let offload = device.tcp_gso();
        Ok(Self { device, offload })
    }

    /// Hands the device to whoever is at the other end.
    pub fn send_over(&self, socket: &StdUnixStream) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [self.device.as_fd()];
        if !control.push(SendAncillaryMessage::ScmRights(&files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let kind = [if self.offload { WITH_OFFLOAD } else { PLAIN }];
        sendmsg(socket, &[IoSlice::new(&kind)], &mut control, SendFlags::empty())?;
        Ok(())
    }
}

/// The device at the end that received it.
pub struct PassedTun {
    file: AsyncFd<OwnedFd>,
    offload: bool,
}

impl PassedTun {
    /// Waits for a device. Needs a tokio runtime with I/O.
    pub async fn receive(socket: &UnixStream) -> io::Result<Self> {
        let (kind, file) = socket.async_io(Interest::READABLE, || receive(socket)).await?;
        rustix::io::ioctl_fionbio(&file, true)?;
        #[expect(deprecated, reason = "an owned file stays open for as long as it is registered")]
        let file = AsyncFd::with_interest(file, Interest::READABLE)?;
        Ok(Self { file, offload: kind == WITH_OFFLOAD })
    }

    /// Whether frames begin with a header, as [`crate::Device`] has it.
    pub fn has_vnet_header(&self) -> bool {
        self.offload
    }

    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.async_io(Interest::READABLE, |file| Ok(rustix::io::read(file, &mut *buffer)?)).await
    }

    /// Fails with [`io::ErrorKind::WouldBlock`] where its kernel takes none at once.
    pub fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        rustix::io::write(self.file.get_ref(), frame)?;
        Ok(())
    }
}

fn receive(socket: &UnixStream) -> io::Result<(u8, OwnedFd)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut kind = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut kind)], &mut control, flags)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let file = files.flatten().next().ok_or(io::ErrorKind::InvalidData)?;
    Ok((kind[0], file))
}
