//! The node process: where the shells meet the machines.
//!
//! Two threads (docs/adr/0004). The *control* thread runs one loop ([`controller`]) over a closed set of wake-ups: the
//! swarm, the data thread, local requests, finished tasks, changed files, signals, the clock. It owns the swarm,
//! the `peerup-node` machine and the files. The *data* thread ([`data`]) owns the TUN, the lanes and all network
//! I/O. Packets never cross between them.
//!
//! Pairing ([`pairing`]) runs beside the loop: each handshake is a task that talks to its stream and asks the loop
//! to decide.
#![forbid(unsafe_code)]

mod api;
mod controller;
mod data;
mod device;
mod echo;
mod effect;
mod error;
mod events;
mod files;
mod front;
mod greet;
mod interface;
mod netcheck;
mod observe;
mod pairing;
mod port;
mod process;
mod services;
mod surroundings;
mod trace;
mod userspace;
mod view;
mod vouch;
mod watch;
mod watchdog;
mod why;

pub use error::DaemonError;
pub use files::identity;
pub use interface::{TunObstacle, tun_obstacle};
pub use netcheck::netcheck;
pub use process::{Options, ReadyReport, run, temporary, visitor};
pub use why::{Replayed, replay};
