//! Freed buffers, kept for reuse by size, so that a short packet does not sit in a buffer of 64 KiB.

/// An ordinary packet at any usual MTU fits; a longer one is most likely a super-packet.
const SMALL: usize = 2048;
/// 512 KiB of small buffers and 2 MiB of large ones per peer at most.
const SPARE_SMALL: usize = 256;
const SPARE_LARGE: usize = 32;

#[derive(Debug, Default)]
pub struct Buffers {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

impl Buffers {
    /// A buffer that holds `body`.
    pub fn copy(&mut self, body: &[u8]) -> Vec<u8> {
        let spare = if body.len() <= SMALL { &mut self.small } else { &mut self.large };
        let mut buffer = spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(body);
        buffer
    }

    pub fn give_back(&mut self, buffer: Vec<u8>) {
        let (spare, most) = match buffer.capacity() <= SMALL {
            true => (&mut self.small, SPARE_SMALL),
            false => (&mut self.large, SPARE_LARGE),
        };
        if spare.len() < most {
            spare.push(buffer);
        }
    }
}
