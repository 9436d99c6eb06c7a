//! `peerup paths`: every open path; of one peer also every known address, and what speaks against each.

use clap::Args;
use peerup_control::Runtime;

use super::{Context, block_on};
use crate::{
    failure::{Exit, Failure},
    render::{short_id, table::Table, units, why as render},
};

#[derive(Debug, Args)]
pub struct Paths {
    /// Name, overlay address or peer ID; without it, everybody
    pub peer: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(context: &Context, args: &Paths) -> Result<Exit, Failure> {
    match &args.peer {
        Some(peer) => of_peer(context, args, peer),
        None => of_everybody(context, args),
    }
}

fn of_peer(context: &Context, args: &Paths, peer: &str) -> Result<Exit, Failure> {
    let report = block_on(async { Ok(context.place.daemon().await?.why(peer.to_owned()).await?) })?;
    if args.json {
        context
            .terminal
            .json(&serde_json::json!({"paths": report.paths, "candidates": report.candidates}))?;
        return Ok(Exit::Ok);
    }
    let lines = render::paths(&report, &context.terminal);
    lines.iter().try_for_each(|line| context.terminal.line(line))?;
    Ok(Exit::Ok)
}

fn of_everybody(context: &Context, args: &Paths) -> Result<Exit, Failure> {
    let rows = block_on(async { Ok(context.place.daemon().await?.paths().await?) })?;
    if args.json {
        context.terminal.json(&rows)?;
        return Ok(Exit::Ok);
    }
    if rows.is_empty() {
        context.terminal.note("no peer is connected")?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["PEER", "TYPE", "TRANSPORT", "IP", "RTT", "ADDRESS"], 6);
    for row in rows {
        let rtt = row.last_rtt_ms.map_or("-".to_owned(), units::millis);
        table.row([short_id(&row.peer_id), row.path_type, row.transport, row.ip_version, rtt, row.address]);
    }
    table
        .render(context.terminal.width(), &context.terminal)
        .iter()
        .try_for_each(|line| context.terminal.line(line))?;
    Ok(Exit::Ok)
}
