//! The time limits of issue 2, in its words.

use std::time::Duration;

/// "first reply over the relay ≤ 3 s after the second `up`"
pub const FIRST_REPLY: Duration = Duration::from_secs(3);

/// "direct path ≤ 10 s later"
pub const DIRECT: Duration = Duration::from_secs(10);

/// "a direct path cut (relay takes over ≤ 10 s)"
pub const RELAY_TAKES_OVER: Duration = Duration::from_secs(10);

/// "a relay restart heals in < 10 s"
pub const RELAY_RESTART_HEALS: Duration = Duration::from_secs(10);

/// "a removed peer's connections close within 1 s"; the rest is what it takes to look.
pub const REMOVED_PEER_CLOSES: Duration = Duration::from_millis(1500);

/// "unknown destination in range fails at once (no hanging ssh)"
pub const AT_ONCE: Duration = Duration::from_secs(1);

/// "relayed peers are retried every 30–60 s with backoff": a peer that was refused tries again by itself.
pub const RETRIED: Duration = Duration::from_secs(75);
