//! Shell around libp2p's swarm.
//!
//! libp2p does its own I/O and keeps its own timers, so peerup treats it as a device, like the TUN: [`PeerSwarm`]
//! turns calls into `dial`, `listen_on` and `close`, and libp2p's events into [`Event`]s. No routing and no path
//! policy lives here, and **no packet ever passes through this crate's event loop**: each connection publishes a
//! [`PathHandle`] whose streams are opened and used by data tasks directly.
//!
//! What this crate adds to stock libp2p, and why:
//! - [`paths`]: streams on *one chosen* connection (`libp2p-stream` picks a random one of the peer).
//! - [`gater`]: `authorized_keys` decides who may connect inbound, after the handshake proved the peer ID.
//! - [`authorized`]: only members get holes punched, because DCUtR dials what the other end asks for.
//! - [`autonat`]: relays test addresses for their clients, and dial nobody else for them.
//! - [`liveness`]: a connection that does not answer pings is closed.
//! - [`underlay`]: overlay addresses are never dialed, so the network cannot be carried through itself.
//! - [`candidates`]: NAT-mapped addresses as relays observed them become hole-punching candidates; identify 0.48
//!   alone rewrites the port and so loses what a port-changing NAT mapped.
//! - [`serving`]: a node relays for members, at addresses that are known to be reachable, and [`metered`] counts it.
//! - supervision: a panic inside libp2p rebuilds the swarm and is reported as [`Event::Restarted`]; identity, TUN
//!   and trust live outside and survive.
#![forbid(unsafe_code)]

mod authorized;
mod autonat;
mod behaviour;
mod build;
mod candidates;
mod closing;
mod config;
mod connections;
mod endpoint;
mod event;
mod gater;
mod liveness;
mod metered;
mod paths;
mod refusals;
mod reset;
mod security;
mod serving;
mod shell;
mod transport;
mod underlay;

pub use behaviour::RelayLimits;
pub use config::{BuildError, PeerRelaying, Profile, SwarmConfig};
pub use event::{DialError, DialId, Event, ListenError, RelayRefusal};
pub use gater::{Admission, Decision};
pub use libp2p::Stream;
pub use libp2p::metrics::Registry;
pub use paths::{InboundStream, OpenError, PathHandle, PathUse, Services, Session};
pub use peerup_transport::quic::{Datagrams, PathFigures, SendError};
pub use reset::{is_refusal, is_reset, reset};
pub use shell::PeerSwarm;
