//! Machine: which path leads to a peer, when to look for a better one, and when one is dead.
//!
//! One [`PeerPaths`] per peer and one [`Reservation`] per relay. Both are sans-IO: facts come in through `handle_*`
//! with the time as the last argument, decisions go out through `poll_action`, and `poll_timeout` says when
//! `handle_timeout` wants to run. Randomness (jitter) comes from a seed, so the same inputs give the same decisions.
//!
//! # Model
//!
//! A *path* is one connection that the swarm reported. It becomes *ready* when the hello exchange on its stream
//! succeeded: a refused dialer sees an established connection for a moment, so "established" proves nothing.
//!
//! *Ranking* (`machine/select`): any live direct path before any relayed one. Within each of the two, the order of
//! [`PathKind`](peerup_types::PathKind) decides between comparable paths: IPv6 before IPv4, a peer as relay before a VPS. A path of a lower rank wins when it is clearly better for ten seconds: a round trip better by
//! more than 15 ms and 30 %, or a third of the loss. See ADR 0040.
//!
//! *Carriers* (`machine/carrier`): a direct way (class and family) may have two connections. TCP carries reliable frames
//! as long as it answers, and QUIC stands beside it for what should not wait behind them. A move between them is no
//! switch of path. See ADR 0064.
//!
//! *Liveness* (`liveness`): while there is traffic, the connections in use are probed once a second and the others every five
//! seconds; unanswered traffic or an unanswered probe brings four probes a second. Three lost probes make a path
//! *suspect*: packets leave it at once for the best path that is known to answer. It stays open for ten seconds, and
//! counts again after answers in a row, twice as many each time. An idle peer is not probed, so an idle network sends
//! nothing but transport keep-alives.
//!
//! *Switching* (`machine/flaps`): there are at most four switches between kinds of path in a minute, whatever the
//! probes say. Switches for the better use two of the four, or one within a class; the others are kept for leaving
//! paths that die, and a path that died comes back to life only if there is room for one more switch to it. A path
//! that closes, and one that dies while a fresh one is alive, are always left (ADR 0065).
//!
//! *Reaching* (`machine/reach`): a peer without a path is dialed through every relay and at its last direct addresses,
//! one address per dial, staggered, with jittered backoff, at once when a packet wants it. A peer on a direct path
//! gets one relayed path beside it as a warm standby.
//!
//! *Looking further* (`machine/further`): beside a direct path, while there is traffic, a better family and the missing
//! carrier are looked for every few minutes.
//!
//! *Punching* (`machine/punch`): a peer that is only reachable through a relay is punched again and again: both sides
//! exchange their addresses over the relayed path and dial at the same moment (RFC 8445 calls them candidates; RFC
//! 5128 §3.3 describes the technique). Where NATs map ports per destination, ports are guessed or attempts are rare;
//! see ADR 0042.
//!
//! *Twins* (`machine/twins`): both sides may dial at once and end up with two connections of one kind. Each side
//! closes only what it dialed itself, and the rule (the dialer with the smaller peer ID keeps its connection) is the
//! same on both.
//!
//! *Explaining* (`explain`, `journal`): the machine says at any time why each path is used or not, and what would
//! change that. Its inputs are kept in a bounded journal, from which another process reaches the same decisions; see
//! ADR 0041.
#![forbid(unsafe_code)]

mod action;
mod candidate;
mod explain;
mod input;
mod journal;
mod liveness;
mod machine;
mod measure;
mod moment;
mod peer;
mod reservation;
mod schedule;

pub use action::{Action, Event, Opened, Reason, Role};
pub use candidate::{Group, MAX_CANDIDATES, dialable, group};
pub use explain::{
    Blocking, CandidateOutcome, CandidateReport, Explanation, PathReport, PunchReport, Rule, Switch, Verdict,
};
pub use input::Input;
pub use journal::{Decision, Replay, ReplayError, replay};
pub use moment::Moment;
pub use peer::PeerPaths;
pub use reservation::{RelayAction, Reservation, ReservationState};
