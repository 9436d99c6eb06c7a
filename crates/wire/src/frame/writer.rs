//! Collects frames into one buffer, so that a batch is one write.

use super::{
    Ack, Announce, BodyTooLong, FrameHeader, FrameKind, HEADER_LEN, MAX_BODY, Probe, VIRTIO_NET_HEADER_LEN,
    VirtioNetHeader,
};
use crate::control::{Control, ControlError};

/// A batch of this size is worth writing at once: larger writes gain nothing, smaller ones cost a TLS record
/// and a system call each.
pub const BATCH_LEN: usize = 64 * 1024;

/// Frames that wait to be written.
///
/// Whoever writes out and [`clear`](Self::clear)s when [`is_full`](Self::is_full) never makes the buffer grow:
/// it has room for a full batch and one largest frame behind it.
#[derive(Debug)]
pub struct FrameWriter {
    buffer: Vec<u8>,
}

impl FrameWriter {
    pub fn new() -> Self {
        Self { buffer: Vec::with_capacity(BATCH_LEN + HEADER_LEN + MAX_BODY) }
    }

    pub fn push_packet(&mut self, seq: u32, packet: &[u8]) -> Result<(), BodyTooLong> {
        self.push(FrameKind::Packet, seq, &[packet])
    }

    pub fn push_super_packet(
        &mut self,
        seq: u32,
        header: &VirtioNetHeader,
        packet: &[u8],
    ) -> Result<(), BodyTooLong> {
        let header: [u8; VIRTIO_NET_HEADER_LEN] = header.emit();
        self.push(FrameKind::SuperPacket, seq, &[&header, packet])
    }

    pub fn push_probe(&mut self, probe: Probe) {
        self.push(FrameKind::Probe, 0, &[&probe.emit()]).expect("a probe is 9 bytes");
    }

    pub fn push_ack(&mut self, ack: Ack) {
        self.push(FrameKind::Ack, 0, &[&ack.emit()]).expect("an ack is 6 bytes");
    }

    pub fn push_announce(&mut self, announce: Announce) {
        self.push(FrameKind::Announce, 0, &[&announce.emit()]).expect("an announcement is 14 bytes");
    }

    pub fn push_control(&mut self, control: &Control) -> Result<(), ControlError> {
        let body = control.encode()?;
        self.push(FrameKind::Control, 0, &[&body]).expect("bounded lists keep control bodies short");
        Ok(())
    }

    fn push(&mut self, kind: FrameKind, seq: u32, body: &[&[u8]]) -> Result<(), BodyTooLong> {
        let header = FrameHeader::new(kind, 0, seq, body.iter().map(|part| part.len()).sum())?;
        self.buffer.extend_from_slice(&header.emit());
        for part in body {
            self.buffer.extend_from_slice(part);
        }
        Ok(())
    }

    /// The batch is worth writing even though more could follow.
    pub fn is_full(&self) -> bool {
        self.buffer.len() >= BATCH_LEN
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Forgets the batch, keeps the memory.
    pub fn clear(&mut self) {
        self.buffer.clear();
    }
}

impl Default for FrameWriter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_is_too_long_leaves_the_batch_as_it_was() {
        let mut writer = FrameWriter::new();
        writer.push_packet(1, b"kept").unwrap();
        let before = writer.as_bytes().to_vec();
        let error = BodyTooLong { len: MAX_BODY + 1 };
        assert_eq!(writer.push_packet(2, &[0; MAX_BODY + 1]), Err(error));
        let packet = [0; MAX_BODY - VIRTIO_NET_HEADER_LEN + 1];
        assert_eq!(writer.push_super_packet(2, &VirtioNetHeader::default(), &packet), Err(error));
        assert_eq!(writer.as_bytes(), before);
    }

    #[test]
    fn filling_batch_after_batch_never_reallocates() {
        let mut writer = FrameWriter::new();
        let capacity = writer.buffer.capacity();
        for seq in 0..2000 {
            let len = [60, 1420, MAX_BODY][seq as usize % 3];
            writer.push_packet(seq, &vec![0; len]).unwrap();
            if writer.is_full() {
                writer.clear();
            }
        }
        assert_eq!(writer.buffer.capacity(), capacity);
    }
}
