//! Arguments of commands that look and measure.

use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
pub struct Status {
    /// Name, overlay address or peer ID; without it, everybody
    pub peer: Option<String>,

    /// Print JSON; with --watch, one object per line
    #[arg(long)]
    pub json: bool,

    /// Show it again and again, every 2s unless said otherwise
    #[arg(long, value_name = "EVERY", num_args = 0..=1, require_equals = true, default_missing_value = "2s",
          value_parser = humantime::parse_duration)]
    pub watch: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct Peers {
    /// Include hosts that are neither peerup nodes nor relays
    #[arg(long)]
    pub all: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Ping {
    /// Name, overlay address or peer ID
    pub peer: String,

    /// Stop after this many; 0 goes on until Ctrl-C
    #[arg(short = 'c', short_alias = 'n', long, default_value_t = 0)]
    pub count: u32,

    /// Pause between pings, such as 200ms or 1s; a bare number counts milliseconds
    #[arg(short = 'i', long, default_value = "1s", value_parser = interval)]
    pub interval: Duration,

    /// Stop at the first answer over a direct path; without --count, give up after 30
    #[arg(long)]
    pub until_direct: bool,

    /// Print one JSON object per ping, and the statistics last
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Traceroute {
    /// Name, overlay address or peer ID
    pub peer: String,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Resolve {
    /// Name or peer ID
    pub name: String,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The original takes milliseconds here, and says that it takes durations.
fn interval(text: &str) -> Result<Duration, humantime::DurationError> {
    text.parse().map(Duration::from_millis).or_else(|_| humantime::parse_duration(text))
}
