//! Many [`Node`](peerup_node::Node) machines in one thread, on a simulated underlay with virtual time.
//!
//! A [`World`] is a discrete-event simulation: a queue of what happens next, hosts on sites behind routers
//! ([`nat`]: mapping, filtering and expiry in the words of RFC 4787), and a relay. It stands where swarm and data
//! plane stand in the daemon: it carries out the actions of each node and reports what came of them. All chance
//! comes from one seed, so the same seed gives the same run, event for event; a story that fails prints its seed
//! and its log.
//!
//! What is modelled is connections, not bytes. A dial is a handshake of datagrams that NATs let through or not, so
//! that simultaneous dials punch. A connection is an ordered stream of messages in both directions: a lossy line
//! delays them, a cut line holds them back, and what was not delivered when the connection closes is lost. A
//! connection ends loudly when it is closed, or silently: then each end finds out by its own transport's silence
//! limit (`connection`), or the nodes find out by probing. Hellos, acknowledgements and control frames travel in
//! their real encoding.
//!
//! What is left out: congestion and bandwidth, DCUtR (the nodes punch by themselves), the DHT, QUIC's migration to
//! another local address, NATs behind NATs, IPv6 firewalls.
#![forbid(unsafe_code)]

mod connection;
mod data;
mod dial;
mod disk;
mod host;
pub mod nat;
mod net;
mod relay;
mod watch;
mod world;

pub use data::Packets;
pub use host::{Host, PathChange, Stop, Tally};
pub use nat::NatConfig;
pub use world::{HostId, SiteId, World};
