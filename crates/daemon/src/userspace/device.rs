//! The seam that a TUN device fills elsewhere.

use std::io::{self, ErrorKind::WouldBlock};

use peerup_tun::{Device, Offload, VNET_HEADER_LEN};

use super::Network;

impl Network {
    /// The next frame for a peer: those of `exec` sessions first, they have waited already.
    fn poll_frame(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut state = self.lock();
        if let Some(frame) = state.forward.pop_front() {
            self.inner.forwarded.notify_one();
            buffer[..frame.len()].copy_from_slice(&frame);
            return Some(frame.len());
        }
        let written = state.stack.poll_frame(buffer, peerup_clock::now());
        self.follow_up(&mut state);
        written
    }

    pub(super) fn take_frame(&self, frame: &[u8]) {
        let delivery = self.with(|stack, now| stack.handle_frame(frame, now));
        if let Some((session, frame)) = delivery {
            self.deliver(session, &frame);
        }
    }
}

impl Device for Network {
    async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(len) = self.poll_frame(buffer) {
                return Ok(len);
            }
            self.inner.frames.notified().await;
        }
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.poll_frame(buffer).ok_or_else(|| WouldBlock.into())
    }

    async fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.try_send(frame)
    }

    fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        self.take_frame(frame);
        Ok(())
    }

    async fn send_packet(&self, packet: &[u8]) -> io::Result<()> {
        self.try_send_packet(packet)
    }

    fn try_send_packet(&self, packet: &[u8]) -> io::Result<()> {
        self.take_frame(&[&[0; VNET_HEADER_LEN], packet].concat());
        Ok(())
    }

    fn offload(&self) -> Option<Offload> {
        // Sessions have devices of kernels that may not take it.
        Some(Offload { uso: false })
    }

    fn name(&self) -> &str {
        "userspace"
    }

    fn mtu(&self) -> u16 {
        self.inner.mtu
    }
}
