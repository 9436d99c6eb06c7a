//! Arguments of commands that look and measure.

use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
pub struct Status {
    /// Name, overlay address or peer ID; without it, everybody
    pub peer: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
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

    /// Pause between pings, such as 200ms or 1s
    #[arg(short = 'i', long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub interval: Duration,

    /// Print one JSON object per ping, and the statistics last
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
