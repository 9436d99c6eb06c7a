//! Two devices back to back: what one sends, the other receives.
//!
//! A test gives one end to the code under test and plays the host's applications on the other.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{Device, Offload, TunOptions, VNET_HEADER_LEN};

/// Packets that one direction holds; as with a real device, a sender that waits for more room waits.
const CAPACITY: usize = 256;

/// What packets of a pair may measure at most when the test does not say.
const DEFAULT_MTU: u16 = 1280;

/// One end of a pair of devices in memory.
pub struct MemoryTun {
    outgoing: Arc<Direction>,
    incoming: Arc<Direction>,
    name: &'static str,
    options: TunOptions,
}

impl MemoryTun {
    pub fn pair() -> (Self, Self) {
        Self::pair_with_mtu(DEFAULT_MTU)
    }

    pub fn pair_with_mtu(mtu: u16) -> (Self, Self) {
        Self::pair_with(TunOptions::plain(mtu))
    }

    /// With offload both ends carry frames with a header, unchanged and unread, as between a host and its device.
    pub fn pair_with(options: TunOptions) -> (Self, Self) {
        let (there, back) = (Arc::new(Direction::default()), Arc::new(Direction::default()));
        let left =
            Self { outgoing: Arc::clone(&there), incoming: Arc::clone(&back), name: "memory0", options };
        (left, Self { outgoing: back, incoming: there, name: "memory1", options })
    }
}

impl Device for MemoryTun {
    async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.try_recv(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.incoming.readable.notified().await
                }
                result => return result,
            }
        }
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let packet = self.incoming.take()?;
        let length = packet.len().min(buffer.len());
        buffer[..length].copy_from_slice(&packet[..length]);
        Ok(length)
    }

    async fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            match self.try_send(frame) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.outgoing.writable.notified().await
                }
                result => return result,
            }
        }
    }

    fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        self.outgoing.put(frame)
    }

    async fn send_packet(&self, packet: &[u8]) -> io::Result<()> {
        self.send(&self.framed(packet)).await
    }

    fn try_send_packet(&self, packet: &[u8]) -> io::Result<()> {
        self.try_send(&self.framed(packet))
    }

    fn offload(&self) -> Option<Offload> {
        self.options.offload.then_some(Offload { uso: true })
    }

    fn name(&self) -> &str {
        self.name
    }

    fn mtu(&self) -> u16 {
        self.options.mtu
    }
}

impl MemoryTun {
    fn framed<'a>(&self, packet: &'a [u8]) -> Cow<'a, [u8]> {
        match self.offload() {
            Some(_) => [&[0; VNET_HEADER_LEN], packet].concat().into(),
            None => packet.into(),
        }
    }
}

impl Drop for MemoryTun {
    fn drop(&mut self) {
        self.outgoing.close();
        self.incoming.close();
    }
}

/// One direction of the pair. Each waiting side is one task; `Notify` keeps a wake-up that comes before the wait.
#[derive(Default)]
struct Direction {
    state: Mutex<State>,
    readable: Notify,
    writable: Notify,
}

#[derive(Default)]
struct State {
    packets: VecDeque<Vec<u8>>,
    closed: bool,
}

impl Direction {
    fn put(&self, packet: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if state.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if state.packets.len() >= CAPACITY {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.packets.push_back(packet.to_vec());
        self.readable.notify_one();
        Ok(())
    }

    /// What was sent before the other end closed is still delivered.
    fn take(&self) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        let Some(packet) = state.packets.pop_front() else {
            let kind = if state.closed { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::WouldBlock };
            return Err(kind.into());
        };
        self.writable.notify_one();
        Ok(packet)
    }

    fn close(&self) {
        self.state().closed = true;
        self.readable.notify_one();
        self.writable.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_arrive_whole_in_order_and_in_both_directions() {
        let (left, right) = MemoryTun::pair();
        left.send(b"one").await.unwrap();
        left.send(b"two").await.unwrap();
        right.send(b"back").await.unwrap();
        let mut buffer = [0; 16];
        assert_eq!(right.recv(&mut buffer).await.unwrap(), 3);
        assert_eq!(&buffer[..3], b"one");
        assert_eq!(right.try_recv(&mut buffer).unwrap(), 3);
        assert_eq!(right.try_recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(left.recv(&mut buffer).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn with_offload_a_header_stands_before_every_packet() {
        let (left, right) = MemoryTun::pair_with(TunOptions::with_offload(1400));
        assert_eq!((left.offload(), right.mtu()), (Some(Offload { uso: true }), 1400));
        left.send(b"<a header>and a packet").await.unwrap();
        left.send_packet(b"a packet").await.unwrap();
        left.try_send_packet(b"a packet").unwrap();
        let mut buffer = [0; 32];
        assert_eq!(right.recv(&mut buffer).await.unwrap(), 22);
        assert_eq!(&buffer[..22], b"<a header>and a packet");
        for _ in 0..2 {
            assert_eq!(right.recv(&mut buffer).await.unwrap(), 18);
            assert_eq!(&buffer[..18], b"\0\0\0\0\0\0\0\0\0\0a packet");
        }
        let (left, right) = MemoryTun::pair();
        assert!(!left.has_vnet_header());
        left.send_packet(b"a packet").await.unwrap();
        assert_eq!(right.recv(&mut buffer).await.unwrap(), 8);
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_sender_wait_until_there_is_room() {
        let (left, right) = MemoryTun::pair();
        for _ in 0..CAPACITY {
            left.try_send(b"x").unwrap();
        }
        assert_eq!(left.try_send(b"x").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let waiting = tokio::spawn(async move { left.send(b"last").await.map(|()| left) });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let mut buffer = [0; 16];
        right.recv(&mut buffer).await.unwrap();
        let _left = waiting.await.unwrap().unwrap();
        for _ in 1..CAPACITY {
            assert_eq!(right.recv(&mut buffer).await.unwrap(), 1);
        }
        assert_eq!(right.recv(&mut buffer).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn a_receiver_learns_that_the_other_end_is_gone_after_the_last_packet() {
        let (left, right) = MemoryTun::pair();
        left.try_send(b"last words").unwrap();
        drop(left);
        let mut buffer = [0; 4];
        assert_eq!(right.recv(&mut buffer).await.unwrap(), 4);
        assert_eq!(right.recv(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(right.send(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_waiting_receiver_is_woken_by_the_other_end_going_away() {
        let (left, right) = MemoryTun::pair();
        let waiting = tokio::spawn(async move { right.recv(&mut [0; 4]).await });
        tokio::task::yield_now().await;
        drop(left);
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
