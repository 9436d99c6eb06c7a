//! Text to validated configuration. Opens no file, reads no clock, knows no environment variable.
//!
//! A [`NodeConfig`] or [`RelayConfig`] exists only after every value has been parsed into a type that cannot
//! be wrong and the cross-field rules hold, so nobody downstream checks again. What the file leaves out has a
//! default; `version: 1` alone is a complete file.
//!
//! The text is read into a tree that remembers where every value stands (`tree`). That one tree serves three
//! purposes: an error names line and column, a misspelt key is answered with the nearest known one, and the
//! commands that change the file ([`edit`]) splice into the user's own text, comments and layout included. An
//! edit is handed out only when parsing the result shows that the wanted value changed and nothing else did.
//!
//! Strict where the Go original is lenient: unknown and duplicate keys, bad peer IDs and zero intervals are
//! errors with a position. YAML anchors, aliases, tags and further documents are refused: a file that decides
//! who reaches this machine should read the way it looks.
#![forbid(unsafe_code)]

mod address;
mod api;
pub mod commit;
mod common;
pub mod edit;
pub mod effect;
mod error;
mod names;
mod node;
mod ports;
mod relay;
mod relaying;
mod resolved;
mod search;
mod section;
mod service;
mod socks;
mod state;
pub mod template;
mod tree;
mod value;
mod vpn;

pub use address::{AddressError, DEFAULT_RELAY_PORT, PeerAddr, RelayInput, RelayInputError};
pub use api::{Api, GroupName};
pub use common::{Audit, Identity, Metrics, Security, Telemetry};
pub use error::{ConfigError, Excerpt, Position, Problem, Shape};
pub use names::unique_name;
pub use node::{Discovery, Network, NodeConfig, PingPong, Protocols, RelayClient, RelayPeer, Service, Vpn};
pub use ports::PortRange;
pub use relay::{Health, RelayConfig, RelayDiscovery, RelayNetwork, RelayPolicy, Resources};
pub use relaying::{RelayService, Relaying};
pub use resolved::Resolved;
pub use search::{Search, SearchPlaces, relay_search};
pub use socks::Socks;
pub use state::{RelayStatePaths, StatePaths};
pub use value::{HostPort, InterfaceName, ProtocolId, Switch, service_name};
pub use vpn::VpnMode;

/// The file format this build reads and writes.
pub const VERSION: u32 = 1;

/// Longest file text that is looked at. Thousands of names fit in a tenth of it.
pub const MAX_TEXT: usize = 1 << 20;
