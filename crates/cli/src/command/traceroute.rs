//! `peerup traceroute`: the relay on the way to a peer, where there is one, and the peer. Without a daemon a node in
//! this process looks.

use peerup_control::api::{PlainText, TraceRequest};

use super::{
    Context, block_on,
    local::{Purpose, with_runtime},
};
use crate::{
    args::Traceroute,
    failure::{Exit, Failure},
};

pub fn run(context: &Context, args: &Traceroute) -> Result<Exit, Failure> {
    let request = TraceRequest { peer: args.peer.clone() };
    let node = context.place.load_node()?;
    let report =
        block_on(with_runtime(&node, Purpose::Visit, async |runtime| Ok(runtime.trace(request).await?)))?;
    match args.json {
        true => context.terminal.json(&report)?,
        false => context.terminal.line(report.plain_text().trim_end())?,
    }
    let reached = report.hops.last().is_some_and(|hop| hop.rtt_ms.is_some());
    Ok(if reached { Exit::Ok } else { Exit::Failure })
}
