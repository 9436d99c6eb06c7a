//! Asks the router to forward a port, and keeps it forwarded.
//!
//! [`PortMapper`] is one task that asks the default gateway for the node's UDP and TCP port: by PCP (RFC 6887), by
//! NAT-PMP (RFC 6886) where the gateway speaks only that, and by UPnP IGD (UDA 1.1, WANIPConnection) otherwise. The
//! protocols themselves are libraries' (docs/adr/0044); what is decided here is when to ask: a lease is renewed at half
//! of its time, a refusal is repeated with growing pauses, another network begins anew, and the end of the node
//! removes what it asked for.
//!
//! Only the default gateway is believed. Anybody on a LAN can answer a UPnP search; an answer from another
//! host is refused, because it would be advertised as an address of this node.
//!
//! IPv4 only: IPv6 needs no translation, and the pinholes of PCP and IGDv2 for it are hardly deployed.
#![forbid(unsafe_code)]

mod lease;
mod mapper;
mod pause;

pub use lease::{Gateway, Lease, MapError, Options, Ports, Protocol, acquire};
pub use mapper::{PortMapper, State};
