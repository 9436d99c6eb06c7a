//! Address claims as hello and control frames carry them.
//!
//! `peer len u8 ‖ peer ID ‖ address 4 bytes ‖ epoch u64 ‖ signature len u8 ‖ signature`. The signature is an
//! Ed25519 one or absent; whether it is right is for `peerup-membership` to say.

use std::net::Ipv4Addr;

use peerup_types::{AddressClaim, PeerId};

use crate::codec::{Cursor, Truncated};

/// The most claims one message carries; a larger network sends the rest in further control frames.
pub const MAX_CLAIMS: usize = 64;

const SIGNATURE_LEN: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    #[error("a claim ends early")]
    Truncated(#[from] Truncated),
    #[error("the claimant of a claim is not a peer ID")]
    PeerId,
    #[error("a claim has a signature of {len} bytes, not 64 or none")]
    Signature { len: usize },
    #[error("{0} bytes follow a claim")]
    Trailing(usize),
}

/// Appends a claim. A signature that cannot be an Ed25519 signature is left out: it proves nothing.
pub(crate) fn emit(claim: &AddressClaim, out: &mut Vec<u8>) {
    let signature = match claim.signature.len() {
        SIGNATURE_LEN => &claim.signature[..],
        _ => &[],
    };
    emit_peer(&claim.peer, out);
    out.extend_from_slice(&claim.address.octets());
    out.extend_from_slice(&claim.epoch.to_be_bytes());
    out.push(if signature.is_empty() { 0 } else { SIGNATURE_LEN as u8 });
    out.extend_from_slice(signature);
}

/// Reads a claim that is followed by something else or by nothing.
pub(crate) fn read(cursor: &mut Cursor<'_>) -> Result<AddressClaim, ClaimError> {
    let peer = PeerId::from_bytes(cursor.short()?).map_err(|_| ClaimError::PeerId)?;
    let address = Ipv4Addr::from(cursor.array::<4>()?);
    let epoch = cursor.u64()?;
    let signature = cursor.short()?;
    if ![0, SIGNATURE_LEN].contains(&signature.len()) {
        return Err(ClaimError::Signature { len: signature.len() });
    }
    Ok(AddressClaim { peer, address, epoch, signature: signature.to_vec() })
}

/// Parses a field that is one claim.
pub(crate) fn parse(bytes: &[u8]) -> Result<AddressClaim, ClaimError> {
    let mut cursor = Cursor::new(bytes);
    let claim = read(&mut cursor)?;
    match cursor.len() {
        0 => Ok(claim),
        extra => Err(ClaimError::Trailing(extra)),
    }
}

/// `len u8 ‖ peer ID`, the multihash form.
pub(crate) fn emit_peer(peer: &PeerId, out: &mut Vec<u8>) {
    let bytes = peer.to_bytes();
    out.push(u8::try_from(bytes.len()).expect("a peer ID is a multihash of at most 66 bytes"));
    out.extend_from_slice(&bytes);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_peer() -> impl Strategy<Value = PeerId> {
        any::<[u8; 32]>().prop_map(|mut seed| {
            let key = peerup_types::Keypair::ed25519_from_bytes(&mut seed).unwrap();
            key.public().to_peer_id()
        })
    }

    pub(crate) fn any_claim() -> impl Strategy<Value = AddressClaim> {
        let signature = prop_oneof![Just(Vec::new()), proptest::collection::vec(any::<u8>(), 64)];
        (any_peer(), any::<[u8; 4]>(), any::<u64>(), signature).prop_map(
            |(peer, address, epoch, signature)| AddressClaim {
                peer,
                address: address.into(),
                epoch,
                signature,
            },
        )
    }

    fn emitted(claim: &AddressClaim) -> Vec<u8> {
        let mut out = Vec::new();
        emit(claim, &mut out);
        out
    }

    proptest! {
        #[test]
        fn a_claim_survives_the_wire(claim in any_claim()) {
            prop_assert_eq!(parse(&emitted(&claim)), Ok(claim));
        }

        #[test]
        fn a_claim_cut_short_or_followed_by_bytes_is_refused(
            claim in any_claim(), at in any::<prop::sample::Index>(),
        ) {
            let mut bytes = emitted(&claim);
            prop_assert_eq!(parse(&bytes[..at.index(bytes.len())]), Err(ClaimError::Truncated(Truncated)));
            bytes.push(0);
            prop_assert_eq!(parse(&bytes), Err(ClaimError::Trailing(1)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn a_signature_has_64_bytes_or_none() {
        let peer = PeerId::random();
        let mut claim =
            AddressClaim { peer, address: [10, 64, 0, 1].into(), epoch: 1, signature: vec![1; 64] };
        let mut bytes = emitted(&claim);
        let len_at = bytes.len() - 65;
        bytes[len_at] = 63;
        bytes.pop();
        assert_eq!(parse(&bytes), Err(ClaimError::Signature { len: 63 }));
        claim.signature.pop();
        assert!(parse(&emitted(&claim)).unwrap().signature.is_empty());
    }
}
