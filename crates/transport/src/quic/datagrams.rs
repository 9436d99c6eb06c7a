//! Unreliable datagrams (RFC 9221) on a connection, beside its streams.
//!
//! Each begins with a flow identifier, a QUIC variable-length integer (RFC 9000, 16), as libp2p's datagram draft has it,
//! so that several protocols can share a connection. In the draft it is the ID of a control stream; libp2p 0.57 does
//! not tell a stream's ID, so the numbers here are agreed on by the protocol that uses them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::congestion::Reins;

/// One byte, for flow identifiers below 64.
const FLOW_LEN: usize = 1;

/// A flow of datagrams on one connection. Cheap to clone; a connection that has ended says so.
#[derive(Debug, Clone)]
pub struct Datagrams {
    handle: quinn::Connection,
    flow: u8,
    reins: Option<Reins>,
}

/// What a connection knows of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathFigures {
    pub rtt: Duration,
    /// Packets sent, and those of them that were called lost, since the beginning.
    pub sent: u64,
    pub lost: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Longer than the path carries at the moment, which changes in both directions.
    #[error("the datagram is longer than the path carries")]
    TooLong,
    #[error("the connection has ended, or its peer takes no datagrams")]
    Closed,
}

impl Datagrams {
    /// Flow `flow` (below 64) of a connection.
    pub fn new(handle: quinn::Connection, flow: u8) -> Self {
        debug_assert!(flow < 64, "longer identifiers do not fit {FLOW_LEN} byte");
        let reins = Reins::of(&handle);
        Self { handle, flow, reins }
    }

    /// The longest payload that can be sent at the moment. `None` where the peer takes none.
    pub fn max_len(&self) -> Option<usize> {
        self.handle.max_datagram_size()?.checked_sub(FLOW_LEN)
    }

    /// Sends what `parts` are together. The oldest unsent datagrams of the connection give way when too many wait.
    pub fn send(&self, parts: &[&[u8]]) -> Result<(), SendError> {
        let mut datagram =
            BytesMut::with_capacity(FLOW_LEN + parts.iter().map(|part| part.len()).sum::<usize>());
        datagram.extend_from_slice(&[self.flow]);
        for part in parts {
            datagram.extend_from_slice(part);
        }
        self.handle.send_datagram(datagram.freeze()).map_err(|error| match error {
            quinn::SendDatagramError::TooLarge => SendError::TooLong,
            quinn::SendDatagramError::UnsupportedByPeer
            | quinn::SendDatagramError::Disabled
            | quinn::SendDatagramError::ConnectionLost(_) => SendError::Closed,
        })
    }

    /// The payload of the next datagram of this flow; those of others are dropped. An error is the connection's end.
    pub async fn receive(&self) -> Result<Bytes, quinn::ConnectionError> {
        loop {
            let mut datagram = self.handle.read_datagram().await?;
            if datagram.first() == Some(&self.flow) {
                return Ok(datagram.split_off(FLOW_LEN));
            }
        }
    }

    /// Whether the connection carries only datagrams, whose flows have congestion control of their own.
    pub fn stand_alone(&self, alone: bool) {
        if let Some(reins) = &self.reins {
            reins.loosen(alone);
        }
    }

    pub fn figures(&self) -> PathFigures {
        let path = self.handle.stats().path;
        PathFigures { rtt: path.rtt, sent: path.sent_packets, lost: path.lost_packets }
    }
}
