//! Says when the host's network has changed: roaming, a cable, a new lease, another VPN.
//!
//! The kernel multicasts a notice about every link, address and route it touches (rtnetlink(7)). A notice is only
//! a hint that something may differ: it wakes the monitor, which lets things settle, reads the whole picture and
//! compares it with the one before. So nothing has to be pieced together from notices, a lost one costs nothing
//! (an overrun socket is one more hint), and what comes and goes in between is not reported. Nothing is polled:
//! on a quiet host the monitor sleeps.
//!
//! **What counts.** Addresses of any scope that reaches beyond a link, private and CGNAT ones too; not loopback,
//! not link-local, not IPv6 addresses whose uniqueness is still being tested. Links that run (up, with carrier) and
//! carry such an address or a default route. Default routes of the main table, and the two halves (`0.0.0.0/1`,
//! `128.0.0.0/1`) by which VPNs override them. What is on a link that does not run does not count.
//! A carrier that was lost and came back between two pictures counts as a change: NAT mappings behind it are suspect.
//!
//! **What never counts** is our own: the interfaces and the route protocol named in [`MonitorOptions`].
//!
//! What to do about a change is for others to decide. No privilege is needed. [`look`] tells how things are at one moment.
//!
//! **Limits.** Policy routing (rules, other tables) is not looked at; a VPN that works by it is noticed by
//! its interface and address. A router with a full Internet table pays for walking the main table whenever one of its
//! links, addresses or default routes changes.
#![forbid(unsafe_code)]

mod error;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(target_os = "linux", test))]
mod settle;
mod snapshot;
#[cfg(not(target_os = "linux"))]
mod unsupported;
mod view;

pub use error::MonitorError;
#[cfg(target_os = "linux")]
pub use linux::{NetMonitor, look};
pub use snapshot::NetworkChange;
#[cfg(not(target_os = "linux"))]
pub use unsupported::{NetMonitor, look};
pub use view::{Gateway, InterfaceAddress, NetworkView};

/// What of the host's network is our own and never a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MonitorOptions {
    /// Names of interfaces, compared exactly.
    pub ignore_interfaces: Vec<String>,
    /// The origin of routes (rtm_protocol), as `ip route` shows it.
    pub ignore_route_protocol: Option<u8>,
}
