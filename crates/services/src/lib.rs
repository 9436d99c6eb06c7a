//! TCP services between nodes: what this node offers, to whom, and what a caller asks for.
//!
//! A stream of `/peerup/<name>/1.0.0` carries the bytes of one TCP connection, nothing else, so that it meets the Go
//! original (docs/adr/0060). A port without a name is asked for on a protocol of its own that names it first.
//!
//! [`Offers`] decides from configuration, exposures and the list of members. It is asked again for every stream,
//! although streams of strangers do not get that far: what a peer may open is decided where the local connection is
//! made, not where the peer came in. It never resolves a name, dials, or keeps count. [`Proofs`] says when a path that
//! carries sessions is to be put to the proof.
#![forbid(unsafe_code)]

mod offers;
mod proofs;
mod retry;
mod wanted;

pub use offers::{Answer, Exposed, Listed, OfferError, Offers, Refusal};
pub use proofs::{InUse, Proofs};
pub use retry::Retry;
pub use wanted::{Wanted, WantedError};
