//! Secret tokens of pairing codes.

use std::fmt;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `N` secret bytes: wiped on drop, compared in constant time, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Token<const N: usize>([u8; N]);

impl<const N: usize> Token<N> {
    pub fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut token = Self([0; N]);
        rng.fill_bytes(&mut token.0);
        token
    }

    pub fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> PartialEq for Token<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl<const N: usize> Eq for Token<N> {}

impl<const N: usize> fmt::Debug for Token<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn debug_output_does_not_show_the_secret() {
        assert_eq!(format!("{:?}", Token::new([7; 8])), "Token(redacted)");
    }

    #[test]
    fn random_tokens_differ_and_fill_every_byte() {
        let mut rng = StdRng::seed_from_u64(1);
        let (a, b) = (Token::<16>::random(&mut rng), Token::<16>::random(&mut rng));
        assert_ne!(a, b);
        assert_ne!(a.as_bytes()[8..], [0; 8]);
        assert_eq!(a, a.clone());
    }
}
