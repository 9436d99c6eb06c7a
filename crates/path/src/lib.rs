//! Machine: which path leads to a peer, when to look for a better one, and when one is dead.
//!
//! One [`PeerPaths`] per peer and one [`Reservation`] per relay. Both are sans-IO: facts come in through `handle_*`
//! with the time as the last argument, decisions go out through `poll_action`, and `poll_timeout` says when
//! `handle_timeout` wants to run. Randomness (jitter) comes from a seed, so the same inputs give the same decisions.
//!
//! # Model
//!
//! A *path* is one connection that the swarm reported. It becomes *ready* when the hello exchange on its stream
//! succeeded: a refused dialer sees an established connection for a moment, so "established" proves nothing. Among
//! ready paths the best [`PathKind`](peerup_types::PathKind) is active: any direct path before any relayed one,
//! IPv6 before IPv4. Packets move to a better path the moment it is ready and back when it dies; the relayed path
//! stays open as a warm standby.
//!
//! *Liveness* (`liveness`): while there is traffic, each path is probed; three unanswered probes and silence make
//! it dead. An idle peer is not probed, so an idle network sends nothing but transport keep-alives.
//!
//! *Reaching* (`schedule`): a peer without a path is dialed through every relay and at its last direct addresses,
//! with jittered backoff, at once when a packet wants it. A peer that is only reachable through a relay is
//! *punched* again and again: both sides exchange their addresses over the relayed path and dial at the same
//! moment (RFC 8445 calls them candidates; RFC 5128 §3.3 describes the technique).
//!
//! *Twins*: both sides may dial at once and end up with two connections of one kind. Each side closes only what it
//! dialed itself, and the rule (the dialer with the smaller peer ID keeps its connection) is the same on both.
#![forbid(unsafe_code)]

mod action;
mod candidate;
mod liveness;
mod peer;
mod reservation;
mod schedule;

pub use action::{Action, Event, Opened, Reason, Role};
pub use candidate::{Group, MAX_CANDIDATES, dialable, group};
pub use peer::PeerPaths;
pub use reservation::{RelayAction, Reservation, ReservationState};
