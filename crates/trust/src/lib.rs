//! Who may talk to this node, and how two nodes come to trust each other.
//!
//! The model is SSH's: a node is its Ed25519 key ([`identity`]), and a text file lists the keys it admits
//! ([`authorized_keys`]). Two machines that share nothing yet pair with a short-lived [`code`]: it names
//! the relay and the inviter and carries a secret token, which the [`handshake`] proves to the inviter over
//! libp2p's secured stream. [`invite`] decides how many tries a code survives, [`pairing`] does the same for groups
//! whose codes a relay's owner hands out, and [`sas`] lets two people compare afterwards that they trust the right
//! keys.
//!
//! Nothing here opens a file or socket, reads the clock or draws randomness by itself: text, bytes, time and
//! a generator are arguments. Every parser caps its input before it allocates, and never panics.
#![forbid(unsafe_code)]

pub mod authorized_keys;
pub mod code;
pub mod handshake;
pub mod identity;
pub mod invite;
mod name;
pub mod pairing;
mod peer;
pub mod sas;
mod token;

pub use name::NodeName;
pub use peer::{PeerIdError, parse_peer_id};
pub use token::Token;
