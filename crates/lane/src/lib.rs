//! The packets for one peer and from one peer, whatever paths they take.
//!
//! # What it decides
//! [`Lane`] is the sending side: a queue in front of the paths that is fair between flows and short for all of them
//! ([`FairQueue`]), bounded in bytes, in number and in time, and behind it a copy of what the peer has not acknowledged.
//! [`Inbound`] is the receiving side: which frame goes to the host, which is a duplicate, and which waits for one that it
//! overtook. Both are fed by shells that own streams and devices; they do no I/O, read no clock (`now` is an argument)
//! and draw no random numbers (an instance number is one).
//!
//! # A change of path
//! ```text
//!            ┌── 7 6 5 ──→ old path, slow ──┐
//!  Lane ─────┤                              ├──→ Inbound: 5 6 7 8 9, each once
//!            └── 9 8 ────→ new path, fast ──┘
//! ```
//! - *Planned*: new frames take the new path, the old path delivers what it was given. Frames that overtake wait at
//!   the receiver, at most [`inbound::SILENCE`] without progress and [`inbound::LONGEST`] in all. Until the old path's
//!   frames are acknowledged the sender has at most [`retained::MAX_BYTES`] on the way, which is what the receiver can hold.
//! - *Sudden*: frames whose path is gone, or which no acknowledgement has reached within twice the lane's round trip, are
//!   sent again on the path in use, oldest first and before anything new. Whichever copy arrives first counts.
//! - What is neither acknowledged nor kept any more cannot be sent again. The sender says so in an
//!   [`Announce`](peerup_wire::frame::Announce), and the receiver does not wait for it.
//!
//! With a peer that does not acknowledge, nothing is kept, and a frame is delivered as it arrives.
//!
//! # What it never does
//! Look into a packet's payload, reorder packets of one flow or frames that arrived in order, deliver a sequence number twice, or keep more than it
//! states. Acknowledgements are no congestion control: the carrier has its own.
//!
//! See docs/adr/0048, docs/adr/0049 and docs/adr/0072; the bytes are those of docs/wire.md.
#![forbid(unsafe_code)]

mod buffers;
mod carriers;
mod fair;
pub mod inbound;
mod lane;
mod pace;
pub mod retained;

pub use carriers::{Carrier, Carriers, PathFigures};
pub use fair::{BUCKETS, FairQueue, Fate, Limits, Queued};
pub use inbound::{Arrival, Held, Inbound};
pub use lane::{Drained, Far, Form, Lane, PARKED_FOR, split_header};
pub use retained::Acked;
