//! `peerup why`: why packets to a peer take the path they take, from the daemon or from an exported journal.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use peerup_control::{
    Runtime,
    api::{Timestamp, WhyReport},
};

use super::{Context, block_on};
use crate::{
    backend,
    failure::{Exit, Failure},
    render::why as render,
};

/// No journal is larger; what is replayed may come from anywhere.
const MAX_JOURNAL: u64 = 16 << 20;

#[derive(Debug, Args)]
pub struct Why {
    /// Name, overlay address or peer ID
    #[arg(required_unless_present = "replay")]
    pub peer: Option<String>,

    /// Changes of path this far back
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub since: Duration,

    /// Write what the choice was made from to this file, for a replay
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    pub export: Option<PathBuf>,

    /// Make the decisions of an exported file again, without a daemon
    #[arg(long, value_name = "FILE", conflicts_with = "peer")]
    pub replay: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(context: &Context, args: &Why) -> Result<Exit, Failure> {
    match (&args.replay, &args.peer) {
        (Some(file), _) => replay(context, args, file),
        (None, Some(peer)) => match &args.export {
            Some(file) => export(context, peer, file),
            None => explain(context, args, peer),
        },
        (None, None) => Err(Failure::usage("name a peer, or a file with --replay")),
    }
}

fn explain(context: &Context, args: &Why, peer: &str) -> Result<Exit, Failure> {
    let report = block_on(async { Ok(context.place.daemon().await?.why(peer.to_owned()).await?) })?;
    show(context, args, report)
}

fn export(context: &Context, peer: &str, file: &PathBuf) -> Result<Exit, Failure> {
    let report = block_on(async { Ok(context.place.daemon().await?.journal(peer.to_owned()).await?) })?;
    std::fs::write(file, &report.journal)
        .map_err(|error| Failure::of(&error).while_doing(format!("cannot write {}", file.display())))?;
    let lines = report.journal.lines().count().saturating_sub(1);
    context.terminal.note(format_args!("{lines} inputs in {}", file.display()))?;
    Ok(Exit::Ok)
}

fn replay(context: &Context, args: &Why, file: &PathBuf) -> Result<Exit, Failure> {
    let doing = format!("cannot replay {}", file.display());
    let size = std::fs::metadata(file).map_err(|error| Failure::of(&error).while_doing(&doing))?.len();
    if size > MAX_JOURNAL {
        return Err(Failure::new(format!("{doing}: it has {size} bytes, and no journal is that long")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| Failure::of(&error).while_doing(&doing))?;
    let replayed = backend::replay(&text).map_err(|error| Failure::of(&error).while_doing(&doing))?;
    if !args.json {
        let text = format!("{} inputs led to {} decisions", replayed.inputs, replayed.decisions);
        context.terminal.note(text)?;
    }
    show(context, args, replayed.report)
}

fn show(context: &Context, args: &Why, mut report: WhyReport) -> Result<Exit, Failure> {
    let oldest = report.at.unix().saturating_sub(args.since.as_secs());
    report.history.retain(|switch| switch.at.unix() >= oldest);
    if args.json {
        context.terminal.json(&report)?;
    } else {
        let now: Timestamp = report.at;
        let lines = render::page(&report, now, &context.terminal);
        lines.iter().try_for_each(|line| context.terminal.line(line))?;
    }
    Ok(Exit::Ok)
}
