//! Machine: what kind of network this host is on, and who can reach it from outside.
//!
//! # What it decides
//!
//! [`Reach`] collects facts and answers questions about them: how the NAT in between maps and filters (RFC 4787
//! §4.1 and §5, [`nat`]), whether a carrier's NAT (RFC 6598) stands behind it, whether UDP passes at all, which
//! advertised addresses have become wrong, and a grade from A to F that sums it up ([`Grade`]). [`AddressBook`]
//! remembers at which addresses peers were reached.
//!
//! # What it knows it from
//!
//! - *Observers*: relays and peers tell a libp2p host the address they see it under (identify). Several of them that
//!   look at **one** socket are compared; sightings of different sockets say nothing about each other.
//! - *STUN servers*, when the configuration names any (RFC 8489; RFC 5780 where a server can answer from a second
//!   address, [`probe`]). One socket asks all of them, for the same reason.
//! - The kernel's interfaces, the port mapper's external address, and AutoNAT's dial-backs.
//!
//! An observer may lie. What it says is used for what this host tells others about itself, never to trust
//! anybody, and one observer alone never decides how the NAT maps.
//!
//! # What it never does
//!
//! No sockets, no clock, no randomness of its own: `now`, datagrams and transaction IDs are arguments. Nothing here
//! dials or closes a path; a direct path that works is proof, and all of this is only a hint.
#![forbid(unsafe_code)]

mod address;
mod book;
mod grade;
mod lookups;
pub mod nat;
mod observe;
pub mod probe;
pub mod stun;

pub use address::{Endpoint, Interface, Scope, Transport, endpoint, scope};
pub use book::{AddressBook, BookError};
pub use grade::{Cgnat, Grade, PortMapping, Report};
pub use lookups::Lookups;
pub use nat::{Filtering, Mapping, Sighting};
pub use observe::Reach;
pub use probe::{StunFindings, StunProbe};

/// An instant to count from; which one does not matter.
#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests count from it and never compare it with the time of day"
)]
fn now_for_tests() -> std::time::Instant {
    std::time::Instant::now()
}
