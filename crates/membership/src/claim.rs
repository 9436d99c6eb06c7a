//! Signed address claims.
//!
//! ```text
//! signed bytes = "peerup-address-claim-v1"
//!              ‖ network name length 1 ‖ network name
//!              ‖ peer ID length 1 ‖ peer ID (multihash)
//!              ‖ address 4 ‖ epoch u64 BE
//! ```
//!
//! The context string keeps the signature from meaning anything in another protocol, and the network's name
//! keeps it from meaning anything in another network of the same peer. The peer ID of an Ed25519 key contains
//! the key, so a claim needs nothing else to be checked.

use std::net::Ipv4Addr;

use peerup_types::{AddressClaim, DnsLabel, Keypair, PeerId, PublicKey};

const CONTEXT: &[u8] = b"peerup-address-claim-v1";

/// libp2p peer-id spec: keys of up to 42 bytes are kept in the ID itself, as an identity multihash.
const IDENTITY_MULTIHASH: u64 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("the claim of {0} is not signed")]
    Unsigned(PeerId),
    #[error("{0} is not the ID of an Ed25519 key")]
    NotEd25519(PeerId),
    #[error("the signature under the claim of {0} is wrong")]
    BadSignature(PeerId),
}

/// Claims an address for the owner of the key. Ed25519 signing cannot fail; a key of another type gives an
/// unsigned claim, which nobody accepts.
pub fn sign(keypair: &Keypair, network: Option<&DnsLabel>, address: Ipv4Addr, epoch: u64) -> AddressClaim {
    let peer = keypair.public().to_peer_id();
    let signature = keypair.sign(&signed_bytes(network, &peer, address, epoch)).unwrap_or_default();
    AddressClaim { peer, address, epoch, signature }
}

pub fn verify(claim: &AddressClaim, network: Option<&DnsLabel>) -> Result<(), VerifyError> {
    let AddressClaim { peer, address, epoch, ref signature } = *claim;
    if signature.is_empty() {
        return Err(VerifyError::Unsigned(peer));
    }
    let key = public_key(&peer).ok_or(VerifyError::NotEd25519(peer))?;
    match key.verify(&signed_bytes(network, &peer, address, epoch), signature) {
        true => Ok(()),
        false => Err(VerifyError::BadSignature(peer)),
    }
}

fn signed_bytes(network: Option<&DnsLabel>, peer: &PeerId, address: Ipv4Addr, epoch: u64) -> Vec<u8> {
    let network = network.map_or("", DnsLabel::as_str).as_bytes();
    let peer = peer.to_bytes();
    let len = |bytes: &[u8]| [u8::try_from(bytes.len()).expect("a label has at most 63 bytes, a peer ID 66")];
    [CONTEXT, &len(network), network, &len(&peer), &peer, &address.octets(), &epoch.to_be_bytes()].concat()
}

fn public_key(peer: &PeerId) -> Option<PublicKey> {
    let multihash = peer.as_ref();
    if multihash.code() != IDENTITY_MULTIHASH {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(multihash.digest()).ok()?;
    key.clone().try_into_ed25519().is_ok().then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_valid_for_its_peer_address_epoch_and_network_only() {
        let key = keypair(1);
        let network: DnsLabel = "my-crew".parse().unwrap();
        let claim = sign(&key, Some(&network), [10, 64, 0, 1].into(), 7);
        assert_eq!(verify(&claim, Some(&network)), Ok(()));
        let bad = Err(VerifyError::BadSignature(claim.peer));
        assert_eq!(verify(&claim, None), bad);
        assert_eq!(
            verify(&AddressClaim { address: [10, 64, 0, 2].into(), ..claim.clone() }, Some(&network)),
            bad
        );
        assert_eq!(verify(&AddressClaim { epoch: 6, ..claim.clone() }, Some(&network)), bad);
        let thief = keypair(2).public().to_peer_id();
        let stolen = AddressClaim { peer: thief, ..claim.clone() };
        assert_eq!(verify(&stolen, Some(&network)), Err(VerifyError::BadSignature(thief)));
    }

    #[test]
    fn damaged_and_missing_signatures_are_refused() {
        let claim = sign(&keypair(1), None, [10, 64, 0, 1].into(), 7);
        for len in 1..claim.signature.len() {
            let cut = AddressClaim { signature: claim.signature[..len].to_vec(), ..claim.clone() };
            assert_eq!(verify(&cut, None), Err(VerifyError::BadSignature(claim.peer)));
        }
        let unsigned = AddressClaim { signature: vec![], ..claim.clone() };
        assert_eq!(verify(&unsigned, None), Err(VerifyError::Unsigned(claim.peer)));
    }

    #[test]
    fn ids_without_a_key_inside_cannot_claim() {
        let hashed: PeerId = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".parse().unwrap();
        let inlined_rubbish = PeerId::from_bytes(&[0, 2, 1, 2]).unwrap();
        let claim = sign(&keypair(1), None, [10, 64, 0, 1].into(), 7);
        for peer in [hashed, inlined_rubbish] {
            assert_eq!(
                verify(&AddressClaim { peer, ..claim.clone() }, None),
                Err(VerifyError::NotEd25519(peer))
            );
        }
    }

    #[test]
    fn the_signature_of_a_known_key_is_fixed() {
        let claim = sign(&keypair(1), None, [10, 64, 0, 1].into(), 1_700_000_000);
        let hex = data_encoding::HEXLOWER.encode(&claim.signature);
        assert_eq!(
            hex,
            "c6b638b828101abc9bb11326ba12dc7c0221f4919381bf047f16e4effba59581efee17fa5be16ddfe1219a25d76b4825989d00bb027efe2faa8f1b6d98c2eb0b"
        );
    }

    fn keypair(fill: u8) -> Keypair {
        Keypair::ed25519_from_bytes([fill; 32]).unwrap()
    }
}
