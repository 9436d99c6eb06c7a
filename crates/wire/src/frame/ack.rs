//! "I have everything up to here." `lane u16 ‖ seq u32`.

use super::{BodyError, FrameKind};

/// The highest sequence number of a lane that was received with all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    pub lane: u16,
    pub seq: u32,
}

impl Ack {
    pub const LEN: usize = 6;

    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let Ok([l0, l1, seq @ ..]) = <[u8; Self::LEN]>::try_from(body) else {
            return Err(BodyError::Length { kind: FrameKind::Ack, len: body.len(), expected: Self::LEN });
        };
        Ok(Self { lane: u16::from_be_bytes([l0, l1]), seq: u32::from_be_bytes(seq) })
    }

    pub fn emit(self) -> [u8; Self::LEN] {
        let [l0, l1] = self.lane.to_be_bytes();
        let [s0, s1, s2, s3] = self.seq.to_be_bytes();
        [l0, l1, s0, s1, s2, s3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_ack_survives_the_wire(lane in any::<u16>(), seq in any::<u32>()) {
            let ack = Ack { lane, seq };
            prop_assert_eq!(Ack::parse(&ack.emit()), Ok(ack));
        }

        #[test]
        fn only_six_bytes_are_an_ack(body in proptest::collection::vec(any::<u8>(), 0..12)) {
            prop_assert_eq!(Ack::parse(&body).is_ok(), body.len() == Ack::LEN);
        }
    }
}
