//! Streams that end in the middle.
//!
//! A stream that is dropped before it was closed means different things to the other end: yamux resets it, QUIC
//! finishes it, which looks like a proper end. And yamux shows a reset, and the end of its connection, to the
//! reader as a proper end. Whoever carries somebody else's bytes has to know the difference.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::AsyncWrite;
use libp2p::{Stream, core::upgrade::NegotiationError};

/// Drops `stream` so that the other end sees a reset, not an end. On yamux this takes a direction of the peer's
/// that is still open: after its end came in, yamux can only say that ours ends too.
pub fn reset(stream: Stream) {
    peerup_transport::quic::reset(stream);
}

/// Whether a stream that showed its end was reset in truth: a direction of ours that still stands takes bytes.
/// To be asked only where ours was not closed.
pub fn is_reset(stream: &mut Stream, cx: &mut Context<'_>) -> bool {
    matches!(Pin::new(stream).poll_write(cx, &[]), Poll::Ready(Err(_)))
}

/// Whether a stream failed because the other end does not speak its protocol (with this peer).
pub fn is_refusal(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<NegotiationError>());
    matches!(cause, Some(NegotiationError::Failed))
}
