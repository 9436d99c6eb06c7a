//! A body of JSON lines, taken apart as it arrives.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::not_understood;
use crate::{
    api::{Event, InviteEvent},
    error::ApiError,
    runtime::{EVENT_BOUND, INVITE_EVENT_BOUND},
};

const MAX_LINE: usize = 64 << 10;

/// What a stream consists of, and how its reader learns that it ended badly.
pub(super) trait Line: DeserializeOwned + Send + 'static {
    const BOUND: usize;

    /// Whether no other line follows.
    fn is_last(&self) -> bool;

    /// The line that says what went wrong, where the words have one.
    fn broken(error: ApiError) -> Option<Self>;
}

impl Line for InviteEvent {
    const BOUND: usize = INVITE_EVENT_BOUND;

    fn is_last(&self) -> bool {
        InviteEvent::is_last(self)
    }

    fn broken(error: ApiError) -> Option<Self> {
        Some(Self::Failed(error))
    }
}

/// The end of the stream is the end of the channel.
impl Line for Event {
    const BOUND: usize = EVENT_BOUND;

    fn is_last(&self) -> bool {
        false
    }

    fn broken(_: ApiError) -> Option<Self> {
        None
    }
}

/// Splits the body into lines and hands each over; a torn stream or a bad line ends it.
pub(super) async fn forward<T: Line>(body: Incoming, lines: &mpsc::Sender<T>) {
    let Err(error) = hand_over(body, lines).await else { return };
    if let Some(line) = T::broken(error) {
        let _ = lines.send(line).await;
    }
}

/// Until the last line, or until nobody reads them any more.
async fn hand_over<T: Line>(mut body: Incoming, lines: &mpsc::Sender<T>) -> Result<(), ApiError> {
    let mut pending = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        pending.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let line: T = serde_json::from_slice(&line).map_err(not_understood)?;
            let last = line.is_last();
            if lines.send(line).await.is_err() || last {
                return Ok(());
            }
        }
        if pending.len() > MAX_LINE {
            break;
        }
    }
    Err(ApiError::failure("the daemon stopped before it had said everything"))
}
