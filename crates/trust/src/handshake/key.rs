//! The session key and what is sealed with it.

use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce, aead::Aead};
use hkdf::Hkdf;
use rand_core::CryptoRng;
use sha2::Sha256;
use x25519_dalek::{EphemeralSecret, PublicKey};
use zeroize::Zeroizing;

use super::HandshakeError;
use crate::token::Token;

const INFO: &[u8] = b"peerup-invite-v1";

pub type Nonce = [u8; NONCE_LEN];

pub const NONCE_LEN: usize = 24;

pub struct SessionKey(Zeroizing<[u8; 32]>);

impl SessionKey {
    /// RFC 7748 §6.1: an all-zero shared secret means that the other side's key contributed nothing.
    pub fn agree(
        secret: EphemeralSecret,
        theirs: [u8; 32],
        token: &Token<8>,
    ) -> Result<Self, HandshakeError> {
        let shared = secret.diffie_hellman(&PublicKey::from(theirs));
        if !shared.was_contributory() {
            return Err(HandshakeError::NonContributory);
        }
        Ok(Self::derive(shared.as_bytes(), token))
    }

    fn derive(shared: &[u8; 32], token: &Token<8>) -> Self {
        let mut material = Zeroizing::new([0; 40]);
        material[..32].copy_from_slice(shared);
        material[32..].copy_from_slice(token.as_bytes());
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, &*material).expand(INFO, &mut *key).expect("32 bytes are one hash length");
        Self(key)
    }

    /// `nonce ‖ ciphertext ‖ tag`.
    pub fn seal(&self, nonce: &Nonce, plaintext: &[u8]) -> Vec<u8> {
        let sealed = self.cipher().encrypt(&XNonce::from(*nonce), plaintext);
        let sealed = sealed.expect("frames are far below the cipher's limit of 256 GiB");
        [nonce.as_slice(), &sealed].concat()
    }

    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(HandshakeError::WrongCode)?;
        self.cipher().decrypt(&XNonce::from(*nonce), ciphertext).map_err(|_| HandshakeError::WrongCode)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

pub fn random_nonce(rng: &mut impl CryptoRng) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    rng.fill_bytes(&mut nonce);
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    #[test]
    fn the_published_key_is_derived() {
        let key = SessionKey::derive(&[0x33; 32], &token());
        let expected = "25588c4141a6b55ae0b63908b218ff505d4f3466eafedd8d58cac4e6a35e945d";
        assert_eq!(HEXLOWER.encode(&*key.0), expected);
    }

    #[test]
    fn sealed_bytes_are_nonce_ciphertext_and_tag_without_additional_data() {
        let key = SessionKey::derive(&[0x33; 32], &token());
        let nonce: Nonce = std::array::from_fn(|index| index as u8);
        let sealed = key.seal(&nonce, b"OK home");
        // Computed with an independent implementation of XChaCha20-Poly1305.
        let expected =
            "000102030405060708090a0b0c0d0e0f1011121314151617c64b9ab8d7b4e42898212386f39fbd231a9c66c8d7131a";
        assert_eq!(HEXLOWER.encode(&sealed), expected);
        assert_eq!(key.open(&sealed).unwrap(), b"OK home");
    }

    #[test]
    fn any_changed_bit_and_any_other_token_fail() {
        let key = SessionKey::derive(&[0x33; 32], &token());
        let sealed = key.seal(&[9; NONCE_LEN], b"name");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 0x80;
            assert_eq!(key.open(&changed), Err(HandshakeError::WrongCode));
        }
        let other = SessionKey::derive(&[0x33; 32], &Token::new([0; 8]));
        assert_eq!(other.open(&sealed), Err(HandshakeError::WrongCode));
        assert_eq!(key.open(&sealed[..10]), Err(HandshakeError::WrongCode));
    }

    fn token() -> Token<8> {
        Token::new([0, 1, 2, 3, 4, 5, 6, 7])
    }
}
