//! Which peer a packet belongs to, or why it goes nowhere.
//!
//! A [`RoutingTable`] is built from scratch whenever something changes and never modified afterwards, so that
//! the data thread routes without a lock. It decides from addresses, prefixes and the packet's length alone:
//! - outbound: the source must be this node's, the destination a peer's, the size within the MTU;
//! - inbound: the source must be the sending peer's (anti-spoofing, BCP 38), the destination this node's.
//!
//! Longest prefix wins, as in any router. A packet that goes nowhere has one [`DropReason`], which is counted
//! ([`DropCounters`]) and, where the sender can use it, answered ([`reply_for`]).
//!
//! It never picks paths, queues or waits: a peer that is being connected is routed to like one that is, and the
//! lanes hold its packets.
#![forbid(unsafe_code)]

mod build;
mod drops;
mod prefixes;
mod reply;
mod table;
#[cfg(test)]
mod testing;

pub use build::{AddPeerError, AddPrefixError, Builder, MAX_PEERS, MAX_PREFIXES};
pub use drops::{DropCounters, DropReason};
pub use reply::reply_for;
pub use table::{OverlayRange, PeerIndex, Reachability, RoutingTable};
