//! `peerup peers`: who is connected.

use peerup_control::Runtime;

use super::{Context, block_on};
use crate::{
    args::Peers,
    failure::{Exit, Failure},
    render::{short_id, table::Table},
};

pub fn run(context: &Context, args: &Peers) -> Result<Exit, Failure> {
    let rows = block_on(async { Ok(context.place.daemon().await?.peers(args.all).await?) })?;
    if args.json {
        context.terminal.json(&rows)?;
        return Ok(Exit::Ok);
    }
    if rows.is_empty() {
        context.terminal.note("no peer is connected")?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["PEER", "AGENT", "ADDRESSES"], 3);
    for row in rows {
        let agent = row.agent_version.unwrap_or_else(|| "unknown".into());
        table.row([short_id(&row.id), agent, row.addresses.join(" ")]);
    }
    table.show(&context.terminal)?;
    Ok(Exit::Ok)
}
