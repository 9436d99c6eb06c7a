//! Frames: what follows hello on a `/peerup/tun/1.0.0` stream, in both directions, on every carrier.
//!
//! `type u8 ‖ flags u8 ‖ len u24 ‖ seq u32 ‖ body`. The sender appends frames to a [`FrameWriter`] and writes
//! whole batches, since each small write costs a record and a system call below; the receiver reads large
//! chunks into a [`Deframer`], which yields views into its own buffer. Neither allocates per frame.
//!
//! `len` is capped at [`MAX_BODY`]. A longer one ends the stream: the peer is broken or hostile, and behind a
//! wrong length no frame boundary can be found again. A frame of unknown type within the cap is skipped.
//!
//! Sequence numbers count the packet frames of one lane (RFC 1982 order) so that the peer can acknowledge them,
//! put them in order and drop duplicates when paths change. They mean something on a stream that began with an
//! [`Announce`]. All other frames carry 0. All flags are reserved: senders write 0, receivers ignore them.

mod ack;
mod announce;
mod deframer;
mod header;
mod probe;
mod super_packet;
mod writer;

pub use ack::Ack;
pub use announce::Announce;
pub use deframer::{Deframer, Frame, TruncatedFrame};
pub use header::{BodyTooLong, FrameHeader, FrameKind, HEADER_LEN, MAX_BODY};
pub use probe::{Probe, ProbeKind};
pub use super_packet::{SuperPacket, SuperPacketError, VIRTIO_NET_HEADER_LEN, VirtioNetHeader};
pub use writer::{BATCH_LEN, FrameWriter};

/// The body of a frame does not have the form its type prescribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("a {kind} frame has a body of {len} bytes, not {expected}")]
    Length { kind: FrameKind, len: usize, expected: usize },
    #[error("a probe is neither request (1) nor reply (2) but {0}")]
    ProbeKind(u8),
}
