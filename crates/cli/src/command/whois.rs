//! `peerup whois`: who is behind an overlay address.

use std::net::IpAddr;

use clap::Args;
use peerup_control::{Runtime, api::ResolveRequest};

use super::{Context, block_on};
use crate::failure::{Exit, Failure};

#[derive(Debug, Args)]
pub struct Whois {
    /// An overlay address; a name or a peer ID will do too
    pub address: String,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(context: &Context, args: &Whois) -> Result<Exit, Failure> {
    let request = ResolveRequest { name: args.address.clone() };
    let found = block_on(async { Ok(context.place.daemon().await?.resolve(request).await?) })?;
    if args.json {
        context.terminal.json(&found)?;
        return Ok(Exit::Ok);
    }
    let ips: Vec<_> = found.ips.iter().map(IpAddr::to_string).collect();
    context.terminal.line(format_args!("name:       {}", found.known_as.as_deref().unwrap_or("-")))?;
    context.terminal.line(format_args!("peer ID:    {}", found.peer_id))?;
    context.terminal.line(format_args!("addresses:  {}", ips.join(", ")))?;
    Ok(Exit::Ok)
}
