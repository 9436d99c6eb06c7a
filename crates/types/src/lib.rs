//! Words every room of peerup shares: identities, overlay addresses, names and the kinds of path.
//!
//! Pure data. A value of one of these types has been checked where it was parsed; nothing here decides,
//! waits, reads a clock or opens a file. libp2p's own ideas keep libp2p's names ([`PeerId`], [`Multiaddr`]).
#![forbid(unsafe_code)]

mod addr;
mod carrier;
mod name;
mod nat;
mod path;

pub use addr::{AddressClaim, OverlayAddrs};
pub use carrier::CarrierChoice;
pub use libp2p_identity::{Keypair, PeerId, PublicKey};
pub use multiaddr::{self, Multiaddr, Protocol};
pub use name::{DnsLabel, NameError};
pub use nat::NatMapping;
pub use path::{CarrierKind, Family, PathClass, PathId, PathKind};
