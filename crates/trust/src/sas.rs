//! Short authentication string: what two people read to each other to check that both trust the right key.
//!
//! `h = SHA-256(lower ‖ higher)` over the two peer IDs as raw multihash bytes, ordered bytewise, so both
//! sides compute the same value offline. It detects a mix-up or a swapped line in `authorized_keys`; it is
//! not a commitment, so someone who can generate keys for long enough finds one with a chosen short string.

use peerup_types::PeerId;
use sha2::{Digest, Sha256};

/// The short authentication string of a pair of peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sas {
    hash: [u8; 11],
}

impl Sas {
    pub fn of(a: &PeerId, b: &PeerId) -> Self {
        let (a, b) = (a.to_bytes(), b.to_bytes());
        let digest = Sha256::new().chain_update((&a).min(&b)).chain_update((&a).max(&b)).finalize();
        let mut hash = [0; 11];
        hash.copy_from_slice(&digest[..11]);
        Self { hash }
    }

    /// Indexes into the table of 256 emoji.
    pub fn emoji_indexes(&self) -> [u8; 4] {
        [self.hash[0], self.hash[2], self.hash[4], self.hash[6]]
    }

    /// The same four as pictures.
    pub fn emoji(&self) -> [char; 4] {
        self.emoji_indexes().map(emoji)
    }

    /// `ddd-ddd`.
    pub fn numeric(&self) -> String {
        let [.., a, b, c] = self.hash;
        let number = u32::from_be_bytes([0, a, b, c]) % 1_000_000;
        format!("{:03}-{:03}", number / 1000, number % 1000)
    }

    /// The value of the `verified=` attribute.
    pub fn stored(&self) -> String {
        format!("sha256:{}", data_encoding::HEXLOWER.encode(&self.hash[..4]))
    }
}

/// Runs of code points that have been single pictures since Unicode 6, which every terminal font with emoji has. The
/// Go original has a table of its own: between the two, the digits are compared.
const PICTURES: &[(u32, u8)] = &[
    (0x1F400, 63), // animals
    (0x1F330, 6),  // plants
    (0x1F337, 70), // plants and food
    (0x1F380, 20), // celebration
    (0x1F3A0, 37), // places and sport
    (0x1F680, 37), // vehicles
    (0x1F4BA, 23), // things in an office
];

fn emoji(index: u8) -> char {
    let mut left = index;
    for (first, count) in PICTURES {
        match left.checked_sub(*count) {
            Some(rest) => left = rest,
            None => return char::from_u32(first + u32::from(left)).expect("the runs have no surrogates"),
        }
    }
    unreachable!("the runs hold 256 pictures")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_picture_of_its_own() {
        let pictures: std::collections::BTreeSet<char> = (0..=255).map(emoji).collect();
        assert_eq!(pictures.len(), 256);
        assert_eq!((emoji(0), emoji(255)), ('\u{1F400}', '\u{1F4D0}'));
    }

    #[test]
    fn the_string_of_the_published_pair_is_stable_and_symmetric() {
        let relay = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx".parse().unwrap();
        let inviter = "12D3KooWC7cDcNR4J3NC9y1gTkqafZKmnjCUvrRMxU2LMugGJGgy".parse().unwrap();
        let sas = Sas::of(&relay, &inviter);
        assert_eq!(sas, Sas::of(&inviter, &relay));
        assert_eq!(sas.emoji_indexes(), [101, 13, 141, 7]);
        assert_eq!(sas.numeric(), "450-245");
        assert_eq!(sas.stored(), "sha256:65e20db1");
    }
}
