//! QUIC as a libp2p transport, on quinn.
//!
//! One UDP socket per listener serves all connections, accepted and dialed alike, so that a NAT sees one mapping and
//! a peer sees our listen port. A dial with `PortUse::Reuse` leaves from the oldest listener that can reach the address,
//! or from a shared socket of that family while there is none; `PortUse::New` gets a socket of its own.
//!
//! The role of a dial (`Endpoint::Listener` in hole punching) changes nothing: both sides of a punch dial as ordinary
//! clients, their first packets open both NATs, and two connections may result. Which one stays is policy.
//!
//! Listening on a wildcard reports every address of the host, as they come and go. Removing a listener ends accepting;
//! its connections live on.
//!
//! Left out: draft versions, TLS resumption and 0-RTT (see the crate), connection migration (stock refuses it as well,
//! and a path is dialed anew from the new address).

mod address;
mod backlog;
mod config;
mod congestion;
mod connecting;
mod connection;
mod datagrams;
mod endpoint;
mod listener;
mod registry;
mod stream;
mod transport;

pub use config::{Config, Congestion, KeepAlive, PathMtu};
pub use connecting::Error;
pub use connection::Connection;
pub use datagrams::{Datagrams, PathFigures, SendError};
pub use endpoint::SocketBuffers;
pub use quinn::Connection as Handle;
pub use registry::{Connected, Registry};
pub use stream::{Stream, reset};
pub use transport::Transport;
