//! The handshake of `/peerup/invite/1.0.0`: a joiner proves that it holds an invite code.
//!
//! The joiner opens the stream, usually over the relay named in the code. libp2p has secured the connection
//! and proved both peer IDs by then; the handshake adds the one thing missing, that the joiner knows the
//! token, and carries both names and the joiner's overlay address. Two machines, [`Inviter`] and [`Joiner`],
//! hold the state of one stream each; they take bytes in any chunking and hand out bytes to send. How many
//! attempts a code survives is [`crate::invite`]'s business.
//!
//! ```text
//! 1  joiner  → inviter   01 ‖ X25519 public key 32
//! 2  inviter → joiner    X25519 public key 32
//!    both                key = HKDF-SHA256(IKM = shared secret 32 ‖ token 8, no salt,
//!                                          info = "peerup-invite-v1", 32 bytes)          RFC 7748, RFC 5869
//! 3  joiner  → inviter   frame(joiner's name)
//! 4  inviter → joiner    frame("OK " ‖ inviter's name)   or   frame("ERR server error")
//! 5  inviter → joiner    grant frame(version 1 ‖ TLVs), see `Grant`; optional
//!    inviter closes
//!
//! frame        length u16 BE, 1..=4096    ‖ nonce 24 ‖ XChaCha20-Poly1305 ciphertext and tag, no AAD
//! grant frame  length u16 BE, 1..=16384   ‖ nonce 24 ‖ XChaCha20-Poly1305 ciphertext and tag, no AAD
//! ```
//!
//! Steps 1 to 4 are those of the Go implementation, byte for byte. Step 5 is ours: a Go joiner stops reading
//! after step 4, and a Go inviter closes there, which leaves the joiner without a grant.
//!
//! What holds:
//! - The joiner speaks first under the key, so nobody learns anything that depends on the token without having
//!   sent a guess. An inviter can only count guesses, see [`HandshakeError::is_guess`].
//! - Names contain no space, so a joiner's own frame sent back to it never reads as `OK …`.
//! - A shared secret of zero (RFC 7748 §6.1) is refused: both sides contribute to the key.
//! - All randomness of an attempt is drawn when its machine is made; machines are used once.

mod frame;
mod grant;
mod inviter;
mod joiner;
mod key;

pub use grant::{Grant, GrantError};
pub use inviter::{AcceptError, Inviter, InviterEvent};
pub use joiner::{Joined, Joiner};

const VERSION: u8 = 1;

/// Why an attempt ended without a new member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("the joiner speaks version {0} of the invite protocol, this peerup speaks version {VERSION}")]
    UnsupportedVersion(u8),
    #[error("a frame of {len} bytes, where 1 to {max} are allowed")]
    FrameLength { len: usize, max: usize },
    #[error("the other side sent a degenerate public key")]
    NonContributory,
    #[error("the frame cannot be decrypted: the invite code is wrong")]
    WrongCode,
    #[error("the inviter accepts the code but could not add this machine: {reason}")]
    Refused { reason: String },
    #[error("the inviter's answer is neither OK nor ERR")]
    UnexpectedAnswer,
    #[error("the inviter granted something unreadable")]
    Grant(#[source] GrantError),
    #[error("the inviter closed the stream at once: it has no invitation open")]
    NotOpen,
    #[error("the inviter closed the stream without an answer: the code is wrong, expired or used")]
    Rejected,
    #[error("the joiner closed the stream before it proved the code")]
    Abandoned,
}

impl HandshakeError {
    /// Whether the joiner may have tested a token (or sent nonsense on purpose), as opposed to a connection
    /// that was lost before it said anything: only the former wear a code out.
    pub fn is_guess(&self) -> bool {
        match self {
            Self::UnsupportedVersion(_)
            | Self::FrameLength { .. }
            | Self::NonContributory
            | Self::WrongCode
            | Self::UnexpectedAnswer => true,
            Self::Refused { .. } | Self::Grant(_) | Self::NotOpen | Self::Rejected | Self::Abandoned => false,
        }
    }
}

#[cfg(test)]
mod tests;
