//! Where packets of this host come from and go to: an interface, or connections that end here.

use std::io;

use peerup_tun::{Device, Offload, TunDevice};

use crate::userspace::Network;

pub enum AnyDevice {
    Tun(TunDevice),
    Userspace(Network),
}

impl Device for AnyDevice {
    async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tun(device) => device.recv(buffer).await,
            Self::Userspace(network) => network.recv(buffer).await,
        }
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tun(device) => device.try_recv(buffer),
            Self::Userspace(network) => network.try_recv(buffer),
        }
    }

    async fn send(&self, frame: &[u8]) -> io::Result<()> {
        match self {
            Self::Tun(device) => device.send(frame).await,
            Self::Userspace(network) => network.send(frame).await,
        }
    }

    fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        match self {
            Self::Tun(device) => device.try_send(frame),
            Self::Userspace(network) => network.try_send(frame),
        }
    }

    async fn send_packet(&self, packet: &[u8]) -> io::Result<()> {
        match self {
            Self::Tun(device) => device.send_packet(packet).await,
            Self::Userspace(network) => network.send_packet(packet).await,
        }
    }

    fn try_send_packet(&self, packet: &[u8]) -> io::Result<()> {
        match self {
            Self::Tun(device) => device.try_send_packet(packet),
            Self::Userspace(network) => network.try_send_packet(packet),
        }
    }

    fn offload(&self) -> Option<Offload> {
        match self {
            Self::Tun(device) => device.offload(),
            Self::Userspace(network) => network.offload(),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Tun(device) => device.name(),
            Self::Userspace(network) => network.name(),
        }
    }

    fn mtu(&self) -> u16 {
        match self {
            Self::Tun(device) => device.mtu(),
            Self::Userspace(network) => network.mtu(),
        }
    }
}
