//! What peerup changes in the host's network, and how every change is taken back.
//!
//! A node needs little: its link up, one IPv4 and one IPv6 address on it, a host route for each known peer,
//! and one `unreachable` route over each overlay range. The addresses have no prefix (/32, /128,
//! `noprefixroute`), so no more of the range is drawn to the link than there are peers; an address that nobody
//! has falls to the `unreachable` route and fails at once instead of hanging.
//!
//! **Journal.** Each change is written to a file before it is made. [`HostNetwork::teardown`] takes everything
//! back and deletes the file; after kill -9 the next [`HostNetwork::open`], or [`cleanup`] on its own, does the
//! same from the file. The kernel removes a TUN link with its process, and with the link its addresses and
//! routes; the `unreachable` routes outlive it and are what the journal is for. Whoever uses a journal has to
//! make sure that no other process does (`peerup-service` has a file lock).
//!
//! **Whose routes.** All routes carry the protocol number [`ROUTE_PROTOCOL`]. Nothing without it is ever removed,
//! and links are touched only if they are TUN devices: a damaged or forged journal cannot take down the host's
//! own network. Default routes, other tables, rules, the firewall and resolv.conf are never touched.
//!
//! **Limits.** When an administrator sets the link down, the kernel drops the peers' routes; they come back when
//! the set of peers changes next.
#![forbid(unsafe_code)]

mod change;
mod error;
mod firewall;
mod journal;
#[cfg(target_os = "linux")]
mod linux;
mod overlay;
mod range;
#[cfg(not(target_os = "linux"))]
mod unsupported;

pub use change::{Change, CleanupReport};
pub use error::{NetlinkError, NetworkError};
pub use firewall::{InputFirewall, input_firewall};
pub use journal::JournalError;
#[cfg(target_os = "linux")]
pub use linux::{HostNetwork, PrivateNetwork, check_range, cleanup, set_up_private};
pub use overlay::Overlay;
pub use range::{RangeConflict, RangeError, free_range};
#[cfg(not(target_os = "linux"))]
pub use unsupported::{HostNetwork, check_range, cleanup};

/// The origin of our routes, as `ip route` shows it (`proto 112`); unassigned in rtnetlink's registry.
/// `ip route flush proto 112` removes them by hand.
pub const ROUTE_PROTOCOL: u8 = 112;

/// The metric of the `unreachable` routes: every other route to the same range wins. The kernel keeps the highest
/// value for its own last resort.
pub const UNREACHABLE_METRIC: u32 = u32::MAX - 1;
