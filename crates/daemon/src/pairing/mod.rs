//! Pairing: an open invite on one side, a join on the other.
//!
//! The handshakes are machines in `peerup-trust`; the tasks here carry their bytes and ask the control loop to
//! decide. Both run through the daemon when there is one, and through a host that only pairs otherwise.

mod admission;
pub mod group;
pub mod invite;
pub mod join;
mod serve;
mod trust;

use futures::{AsyncReadExt, AsyncWriteExt};
use peerup_control::{ApiError, ErrorKind};
use peerup_swarm::Stream;

use crate::controller::{Controller, Mode};

/// Reads are small: the largest message is the grant.
const READ: usize = 4096;

impl Controller {
    /// This process ends: who waits for a pairing is told, and the relay lets nobody in any more.
    pub async fn end_pairing(&mut self) {
        let why = |what: &str| match self.mode {
            Mode::Member { .. } => {
                ApiError::new(ErrorKind::NotRunning, format!("the daemon stopped; {what}"))
            }
            Mode::Pairing | Mode::Visitor => ApiError::failure(format!("cancelled; {what}")),
        };
        let (invite, join) = (why("the code is void"), why("nothing was joined"));
        self.fail_invite(invite);
        self.end_join(join);
        self.await_withdrawal().await;
    }
}

/// Sends everything that a machine has to say.
async fn transmit(stream: &mut Stream, mut next: impl FnMut() -> Option<Vec<u8>>) -> std::io::Result<()> {
    let mut wrote = false;
    while let Some(bytes) = next() {
        stream.write_all(&bytes).await?;
        wrote = true;
    }
    if wrote {
        stream.flush().await?;
    }
    Ok(())
}

/// Reads what there is; empty at the end of the stream, and when the stream fails.
async fn receive(stream: &mut Stream) -> Vec<u8> {
    let mut buffer = vec![0; READ];
    let read = stream.read(&mut buffer).await.unwrap_or(0);
    buffer.truncate(read);
    buffer
}
