//! How much a node without a device takes upon itself, all of it bounded.

use std::time::Duration;

/// TCP connections at once, those that wait for their end included.
pub const MAX_FLOWS: usize = 4096;
/// Of these, what one peer may open: it shall not shut the others out.
pub const MAX_FLOWS_PER_PEER: usize = MAX_FLOWS - MAX_FLOWS / 8;
/// Connections whose local service has been dialed and has not answered.
pub const MAX_PENDING: usize = 1024;
/// How long a peer's SYN waits for the local service; the peer repeats it meanwhile.
pub const PENDING_FOR: Duration = Duration::from_secs(20);
/// Connections kept in TIME-WAIT; beyond that the oldest is forgotten, and a late FIN is answered with a RST.
pub const MAX_TIME_WAIT: usize = 256;

/// The smallest ring buffer; each flow has two, which [`MAX_FLOWS`] times is 128 MiB.
pub const MIN_BUFFER: usize = 16 * 1024;
/// The largest. Less than what a lane holds (1 MiB), so that one flow alone never overflows it.
pub const MAX_BUFFER: usize = 768 * 1024;
/// What all flows together have beyond their smallest buffers. A newcomer gets a 32nd of what is left for each of
/// its two buffers, so the first ones are generous and thousands still find room. Untouched pages cost nothing.
pub const EXTRA_BUFFERS: usize = 128 * 1024 * 1024;

/// UDP conversations; beyond that the one idle for longest ends.
pub const MAX_UDP: usize = 1024;
/// Of these, what one peer may open before its own give way.
pub const MAX_UDP_PER_PEER: usize = MAX_UDP - MAX_UDP / 8;
/// Datagrams that one conversation holds while its reader is away.
pub const MAX_UDP_QUEUE: usize = 64;
/// Bytes that all conversations hold together.
pub const MAX_UDP_BYTES: usize = 16 * 1024 * 1024;
/// RFC 4787 REQ-5 recommends five minutes.
pub const UDP_IDLE: Duration = Duration::from_secs(300);
/// A look-up is answered at once or never.
pub const DNS_IDLE: Duration = Duration::from_secs(30);

/// Frames made outside of flows: datagrams, echoes, resets. One more is dropped, as a full interface would.
pub const MAX_REPLIES: usize = 1024;

/// Connections and conversations of all `exec` sessions.
pub const MAX_NAT: usize = 8192;

/// A connection without a word from the peer ends after this long: a laptop may sleep for an hour.
pub const TCP_TIMEOUT: Duration = Duration::from_secs(2 * 3600);
/// Idle connections ask this often whether the peer still has them.
pub const TCP_KEEP_ALIVE: Duration = Duration::from_secs(30 * 60);
