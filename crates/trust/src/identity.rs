//! The identity key file: libp2p's protobuf form of an Ed25519 key pair.
//!
//! ```text
//! 08 01        field 1 (key type) = 1 (Ed25519)
//! 12 40        field 2 (data), 64 bytes
//! seed 32 ‖ public key 32
//! ```
//!
//! Those 68 bytes are what every libp2p implementation writes for Ed25519, so a key moves between them. The
//! form is fixed: protobuf would allow other field orders and lengths, but no writer produces them, and one
//! accepted form leaves nothing to be confused about. Seed and public key must belong together, because
//! signing with a mismatched pair leaks the key.

use peerup_types::Keypair;
use zeroize::Zeroizing;

/// Length of an encoded key.
pub const ENCODED_LEN: usize = 68;

const ED25519: u8 = 1;
const HEADER: [u8; 4] = [0x08, ED25519, 0x12, 64];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("not a libp2p private key")]
    NotAKey,
    #[error("the key is of type {}, only Ed25519 identities are supported", type_name(*.0))]
    UnsupportedType(u8),
    #[error(
        "the key has {0} bytes, an Ed25519 key has {ENCODED_LEN}: the file is truncated or has been added to"
    )]
    WrongLength(usize),
    #[error("the public half does not belong to the secret half: the key is damaged")]
    Mismatch,
}

/// The bytes of the key file.
pub fn encode(keypair: &Keypair) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let ed25519 = keypair.clone().try_into_ed25519().map_err(|_| IdentityError::UnsupportedType(0xff))?;
    let halves = Zeroizing::new(ed25519.to_bytes());
    let mut bytes = Zeroizing::new(Vec::with_capacity(ENCODED_LEN));
    bytes.extend_from_slice(&HEADER);
    bytes.extend_from_slice(halves.as_slice());
    Ok(bytes)
}

/// The key pair of a key file.
pub fn decode(bytes: &[u8]) -> Result<Keypair, IdentityError> {
    check_type(bytes)?;
    if bytes.len() != ENCODED_LEN {
        return Err(IdentityError::WrongLength(bytes.len()));
    }
    if bytes[..HEADER.len()] != HEADER {
        return Err(IdentityError::NotAKey);
    }
    Keypair::from_protobuf_encoding(bytes).map_err(|_| IdentityError::Mismatch)
}

fn check_type(bytes: &[u8]) -> Result<(), IdentityError> {
    match bytes {
        [] | [0x08] | [0x08, ED25519, ..] => Ok(()),
        [0x08, other @ 0..=3, ..] => Err(IdentityError::UnsupportedType(*other)),
        _ => Err(IdentityError::NotAKey),
    }
}

/// libp2p peer-id spec, "Keys": the key types of the protobuf.
fn type_name(key_type: u8) -> &'static str {
    match key_type {
        0 => "RSA",
        2 => "Secp256k1",
        3 => "ECDSA",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 8032 §7.1, test 1: secret key and public key.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    #[test]
    fn the_file_is_08_01_12_40_then_seed_and_public_key() {
        let keypair = decode(&vector()).unwrap();
        assert_eq!(encode(&keypair).unwrap().as_slice(), vector());
        assert_eq!(
            keypair.public().to_peer_id().to_string(),
            "12D3KooWQK1wnefoLrcVHbbnf5tLzbopUd3K3bFAoJpA7YJgL5pV"
        );
    }

    #[test]
    fn our_bytes_are_those_of_libp2p() {
        let keypair = Keypair::generate_ed25519();
        assert_eq!(*encode(&keypair).unwrap(), keypair.to_protobuf_encoding().unwrap());
    }

    #[test]
    fn truncated_and_longer_files_are_named_by_their_length() {
        for len in [0, 1, 2, 4, 36, 67] {
            assert_eq!(decode(&vector()[..len]).unwrap_err(), IdentityError::WrongLength(len));
        }
        let mut longer = vector();
        longer.push(b'\n');
        assert_eq!(decode(&longer).unwrap_err(), IdentityError::WrongLength(69));
    }

    #[test]
    fn a_public_key_of_somebody_else_is_refused() {
        let mut damaged = vector();
        damaged[67] ^= 1;
        assert_eq!(decode(&damaged).unwrap_err(), IdentityError::Mismatch);
    }

    #[test]
    fn other_key_types_are_named() {
        let error = decode(&[0x08, 0x02, 0x12, 0x20]).unwrap_err();
        assert_eq!(error.to_string(), "the key is of type Secp256k1, only Ed25519 identities are supported");
        assert_eq!(decode(b"-----BEGIN OPENSSH PRIVATE KEY-----").unwrap_err(), IdentityError::NotAKey);
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..100), headed: bool) {
            if headed {
                bytes.splice(0..0, HEADER);
            }
            if let Ok(keypair) = decode(&bytes) {
                prop_assert_eq!(encode(&keypair).unwrap().to_vec(), bytes);
            }
        }
    }

    fn vector() -> Vec<u8> {
        let hex = format!("08011240{SEED}{PUBLIC}");
        data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
    }
}
