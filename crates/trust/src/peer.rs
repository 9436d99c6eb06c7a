//! Peer IDs as people and codes write them.

use std::str::FromStr;

use data_encoding::{Encoding, Specification};
use peerup_types::PeerId;

/// The longest text accepted: base58 decoding takes quadratic time, and no peer ID comes near.
const MAX_TEXT: usize = 128;

/// A multihash of 64 digest bytes and two short varints, with room to spare.
const MAX_BYTES: usize = 80;

/// CIDv1 with the `libp2p-key` codec, RFC 0001 of the libp2p specs.
const LIBP2P_KEY_CID: [u8; 2] = [0x01, 0x72];

#[derive(Debug, thiserror::Error)]
pub enum PeerIdError {
    #[error("{0} characters are too many for a peer ID")]
    TooLong(usize),
    #[error("not a peer ID (a base58 text such as 12D3KooW…)")]
    Text(#[source] <PeerId as FromStr>::Err),
    #[error("not a CIDv1 of a libp2p key in base32")]
    Cid,
}

/// Reads `12D3KooW…` / `Qm…` (base58 multihash) and `bafz…` (CIDv1, base32).
pub fn parse_peer_id(text: &str) -> Result<PeerId, PeerIdError> {
    if text.len() > MAX_TEXT {
        return Err(PeerIdError::TooLong(text.len()));
    }
    match text.strip_prefix('b') {
        Some(base32) => from_cid(base32).ok_or(PeerIdError::Cid),
        None => text.parse().map_err(PeerIdError::Text),
    }
}

/// Exactly one multihash and nothing after it.
pub(crate) fn peer_from_bytes(bytes: &[u8]) -> Option<PeerId> {
    if bytes.len() > MAX_BYTES {
        return None;
    }
    PeerId::from_bytes(bytes).ok()
}

fn from_cid(base32: &str) -> Option<PeerId> {
    let bytes = multibase_base32().decode(base32.as_bytes()).ok()?;
    peer_from_bytes(bytes.strip_prefix(&LIBP2P_KEY_CID)?)
}

/// Multibase `b`: RFC 4648 base32 in lower case without padding.
fn multibase_base32() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification.encoding().expect("32 distinct symbols")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of the libp2p peer-id specification, in both spellings.
    const CID: &str = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe";
    const BASE58: &str = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";

    #[test]
    fn both_spellings_of_the_specification_are_one_peer() {
        assert_eq!(parse_peer_id(CID).unwrap(), parse_peer_id(BASE58).unwrap());
    }

    #[test]
    fn long_texts_are_refused_before_decoding() {
        let text = "1".repeat(100_000);
        assert!(matches!(parse_peer_id(&text), Err(PeerIdError::TooLong(100_000))));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read_without_panic(text in "\\PC{0,200}", cid in "b[a-z2-7]{0,130}", base58 in "[1-9A-HJ-NP-Za-km-z]{0,130}") {
            for text in [text, cid, base58] {
                if let Ok(peer) = parse_peer_id(&text) {
                    prop_assert_eq!(parse_peer_id(&peer.to_string()).unwrap(), peer);
                }
            }
        }
    }
}
