//! Machine: one node of the network, as the daemon drives it.
//!
//! [`Node`] composes the machines below it: per peer the paths (`peerup-path`), per relay a reservation, and one
//! membership (`peerup-membership`), from which it derives the routing table (`peerup-router`). It decides what to
//! dial, whom to greet and with which words, what to route where, and what to tell peers. It never touches a
//! socket, a file or a clock: facts come in through `handle_*`, decisions leave through [`Node::poll_action`].
//!
//! Who may connect is decided before: the swarm's gater admits connections, and [`Node::handle_hello`] checks again
//! on every stream, because a key may have been removed in between.
#![forbid(unsafe_code)]

mod action;
mod addresses;
mod dials;
mod follow;
mod hello;
mod node;
mod observed;
mod peer_relays;
mod reached;
mod relaying;
mod reports;
mod routes;
mod settle;
mod view;

pub use action::{Action, Event};
pub use addresses::OwnAddresses;
pub use dials::MAX_DIALS;
pub use node::{Member, Node, NodeConfig};
pub use relaying::{NotRelaying, RelayService};
pub use view::{PeerView, RelayUse, RelayView};
