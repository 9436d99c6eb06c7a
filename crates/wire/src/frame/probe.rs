//! "Are you there on this path?" `kind u8 ‖ id u64`.

use super::{BodyError, FrameKind};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    Request,
    Reply,
}

/// The reply repeats the request's id and goes back on the path the request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub kind: ProbeKind,
    pub id: u64,
}

impl Probe {
    pub const LEN: usize = 9;

    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let Ok([kind, id @ ..]) = <[u8; Self::LEN]>::try_from(body) else {
            return Err(BodyError::Length { kind: FrameKind::Probe, len: body.len(), expected: Self::LEN });
        };
        let kind = match kind {
            1 => ProbeKind::Request,
            2 => ProbeKind::Reply,
            other => return Err(BodyError::ProbeKind(other)),
        };
        Ok(Self { kind, id: u64::from_be_bytes(id) })
    }

    pub fn emit(self) -> [u8; Self::LEN] {
        let kind = match self.kind {
            ProbeKind::Request => 1,
            ProbeKind::Reply => 2,
        };
        let mut body = [kind; Self::LEN];
        body[1..].copy_from_slice(&self.id.to_be_bytes());
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_probe_survives_the_wire(id in any::<u64>(), request in any::<bool>()) {
            let kind = if request { ProbeKind::Request } else { ProbeKind::Reply };
            let probe = Probe { kind, id };
            prop_assert_eq!(Probe::parse(&probe.emit()), Ok(probe));
        }

        #[test]
        fn what_parses_is_what_would_be_emitted(body in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(probe) = Probe::parse(&body) {
                prop_assert_eq!(&probe.emit()[..], &body[..]);
            }
        }
    }

    #[test]
    fn a_probe_of_another_length_or_kind_is_refused() {
        let error = BodyError::Length { kind: FrameKind::Probe, len: 8, expected: 9 };
        assert_eq!(Probe::parse(&[1; 8]), Err(error));
        assert_eq!(Probe::parse(&[3; 9]), Err(BodyError::ProbeKind(3)));
    }
}
