//! IP packets as a tunnel sees them: checked views, MSS clamping, ICMP errors.
//!
//! [`IpPacket`] exists only after its headers have been validated against the bytes behind them, so that the
//! router and the lanes never check a length again. [`clamp_mss`] keeps TCP from sending segments the tunnel
//! cannot carry; [`icmp`] makes the answers that tell a sender, at once, why its packet went nowhere. [`gso`]
//! is about packets larger than the link, which kernels leave to be segmented by whoever comes last. [`FlowKey`] tells
//! flows apart, [`mark_congestion`] tells a flow to slow down.
//!
//! Deliberately left out: header checksums are not verified (the kernels at both ends do that, and between
//! them the carrier authenticates every byte), fragments are not reassembled, options are not interpreted.
//! Nothing here decides, waits or reads a clock.
#![forbid(unsafe_code)]

pub mod checksum;
mod ecn;
mod extensions;
mod flow;
#[doc(hidden)]
pub mod fuzz;
pub mod gso;
pub mod icmp;
mod mss;
mod packet;
#[cfg(test)]
mod testing;

pub use ecn::mark_congestion;
pub use flow::FlowKey;
pub use icmp::{Unreachable, too_big, unreachable};
pub use mss::clamp_mss;
pub use packet::PacketError;
pub use packet::{IpPacket, Ports, protocol};
