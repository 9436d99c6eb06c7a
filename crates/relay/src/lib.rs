//! The relay server: a host with a public address that lets machines behind NATs meet (circuit relay v2).
//!
//! libp2p does the relaying inside [`peerup_swarm`]; this process decides who may use it, from the files beside its
//! configuration, and says where it is reachable:
//!
//! - **Authorized** peers (`relay_authorized_keys`) reserve and open circuits. The file is read again when it
//!   changes and on SIGHUP; a removed or expired peer is disconnected at once.
//! - **Guests** exist while an authorized peer has an admission open ([`Admissions`]): an unknown machine may
//!   open a circuit to that inviter and nobody else. When the two have paired, the inviter vouches for the
//!   newcomer and the relay adds it to the file, so nobody has to log in to the relay.
//! - **Everybody** may reserve where the owner has turned gating off.
//!
//! The relay forwards bytes that are encrypted between the two ends; it never sees what they say.
//!
//! One loop owns everything ([`Relay::run`]). It reads and writes small files in between, which costs it some
//! milliseconds when somebody pairs; circuits run in tasks of their own and do not wait for it.
#![forbid(unsafe_code)]

mod addresses;
mod admissions;
mod connections;
mod counters;
mod error;
mod files;
mod relay;
mod serve;
mod vouch;
mod watch;

pub use addresses::announced;
pub use admissions::{Admissions, OpenError};
pub use connections::Connections;
pub use counters::Counters;
pub use error::RelayError;
pub use relay::{Command, End, Relay, ServeReport};
pub use serve::serve;
