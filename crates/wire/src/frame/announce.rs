//! "This is the lane, and nothing before this number comes." `lane u16 ‖ instance u64 ‖ seq u32`.

use super::{BodyError, FrameKind};

/// What a sender says of a lane on a stream before the lane's first frame there, and again when it has given
/// frames up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announce {
    pub lane: u16,
    /// Differs from every other life of this lane: sequence numbers of another instance are void.
    pub instance: u64,
    /// Frames of this instance before this one are not going to arrive, or have been acknowledged.
    pub seq: u32,
}

impl Announce {
    pub const LEN: usize = 14;

    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let Ok([l0, l1, i0, i1, i2, i3, i4, i5, i6, i7, seq @ ..]) = <[u8; Self::LEN]>::try_from(body) else {
            let kind = FrameKind::Announce;
            return Err(BodyError::Length { kind, len: body.len(), expected: Self::LEN });
        };
        Ok(Self {
            lane: u16::from_be_bytes([l0, l1]),
            instance: u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
            seq: u32::from_be_bytes(seq),
        })
    }

    pub fn emit(self) -> [u8; Self::LEN] {
        let mut body = [0; Self::LEN];
        body[..2].copy_from_slice(&self.lane.to_be_bytes());
        body[2..10].copy_from_slice(&self.instance.to_be_bytes());
        body[10..].copy_from_slice(&self.seq.to_be_bytes());
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_announcement_survives_the_wire(lane in any::<u16>(), instance in any::<u64>(), seq in any::<u32>()) {
            let announce = Announce { lane, instance, seq };
            prop_assert_eq!(Announce::parse(&announce.emit()), Ok(announce));
        }

        #[test]
        fn only_fourteen_bytes_are_an_announcement(body in proptest::collection::vec(any::<u8>(), 0..24)) {
            prop_assert_eq!(Announce::parse(&body).is_ok(), body.len() == Announce::LEN);
        }
    }
}
