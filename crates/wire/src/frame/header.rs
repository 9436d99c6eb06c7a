//! The nine bytes before each body.

use std::fmt;

pub const HEADER_LEN: usize = 9;

/// The largest body: a 64 KiB packet with its virtio header, and 8 bytes to spare.
pub const MAX_BODY: usize = 65_553;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// The body is one IP packet.
    Packet,
    /// The body is a virtio header and one IP packet that the receiver's kernel segments.
    SuperPacket,
    Probe,
    Ack,
    Control,
    /// Which lane the packet frames behind it belong to.
    Announce,
}

impl FrameKind {
    pub const ALL: [Self; 6] =
        [Self::Packet, Self::SuperPacket, Self::Probe, Self::Ack, Self::Control, Self::Announce];

    pub fn code(self) -> u8 {
        match self {
            Self::Packet => 1,
            Self::SuperPacket => 2,
            Self::Probe => 3,
            Self::Ack => 4,
            Self::Control => 5,
            Self::Announce => 6,
        }
    }

    /// `None` for a type of a later version.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::SuperPacket => "super-packet",
            Self::Probe => "probe",
            Self::Ack => "ack",
            Self::Control => "control",
            Self::Announce => "announce",
        }
    }
}

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A frame may not be that long; on a stream this is fatal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame body of {len} bytes exceeds the limit of {MAX_BODY}")]
pub struct BodyTooLong {
    pub len: usize,
}

/// A header whose length is within [`MAX_BODY`]; its type may be unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    code: u8,
    flags: u8,
    body_len: u32,
    seq: u32,
}

impl FrameHeader {
    pub fn new(kind: FrameKind, flags: u8, seq: u32, body_len: usize) -> Result<Self, BodyTooLong> {
        Self::checked(kind.code(), flags, seq, body_len)
    }

    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, BodyTooLong> {
        let [code, flags, l0, l1, l2, s0, s1, s2, s3] = *bytes;
        let body_len = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        Self::checked(code, flags, u32::from_be_bytes([s0, s1, s2, s3]), body_len)
    }

    fn checked(code: u8, flags: u8, seq: u32, body_len: usize) -> Result<Self, BodyTooLong> {
        if body_len > MAX_BODY {
            return Err(BodyTooLong { len: body_len });
        }
        Ok(Self { code, flags, body_len: body_len as u32, seq })
    }

    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let [_, l0, l1, l2] = self.body_len.to_be_bytes();
        let [s0, s1, s2, s3] = self.seq.to_be_bytes();
        [self.code, self.flags, l0, l1, l2, s0, s1, s2, s3]
    }

    /// `None` for a type of a later version: such a frame is skipped.
    pub fn kind(&self) -> Option<FrameKind> {
        FrameKind::from_code(self.code)
    }

    pub fn flags(&self) -> u8 {
        self.flags
    }

    pub fn seq(&self) -> u32 {
        self.seq
    }

    pub fn body_len(&self) -> usize {
        self.body_len as usize
    }

    /// Header and body.
    pub fn frame_len(&self) -> usize {
        HEADER_LEN + self.body_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_body_is_accepted_and_one_byte_more_is_not() {
        let largest = FrameHeader::new(FrameKind::Packet, 0, 0, MAX_BODY).unwrap();
        assert_eq!(FrameHeader::parse(&largest.emit()), Ok(largest));
        let error = BodyTooLong { len: MAX_BODY + 1 };
        assert_eq!(FrameHeader::new(FrameKind::Packet, 0, 0, MAX_BODY + 1), Err(error));
        assert_eq!(FrameHeader::parse(&[1, 0, 1, 0, 0x12, 0, 0, 0, 0]), Err(error));
    }

    #[test]
    fn every_kind_has_one_code_and_zero_is_none() {
        for kind in FrameKind::ALL {
            assert_eq!(FrameKind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(FrameKind::from_code(0), None);
        assert_eq!(FrameKind::from_code(7), None);
    }

    proptest! {
        #[test]
        fn a_header_survives_the_wire(bytes in any::<[u8; HEADER_LEN]>()) {
            match FrameHeader::parse(&bytes) {
                Ok(header) => prop_assert_eq!(header.emit(), bytes),
                Err(error) => prop_assert!(error.len > MAX_BODY),
            }
        }
    }
}
