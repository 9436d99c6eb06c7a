//! TCP connections whose congestion control follows the path, and which do not hoard bytes in the kernel.
//!
//! One outer connection carries everybody's packets, so its congestion control decides what they get, whatever theirs is.
//! A [`TunedStream`] looks at the kernel's figures after the handshake and once in a while as it writes; [`Policy`]
//! judges. It lies below every upgrade, so the peer sees ordinary TCP.

mod policy;
mod stream;

pub use policy::{Control, Figures, Policy};
pub use stream::TunedStream;
