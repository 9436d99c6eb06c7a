//! `peerup ip`: overlay addresses, one per line, for scripts.

use std::net::IpAddr;

use clap::Args;
use peerup_control::Runtime;

use super::{Context, block_on, status::find};
use crate::failure::{Exit, Failure};

#[derive(Debug, Args)]
pub struct Ip {
    /// Name, overlay address or peer ID; without it, this machine
    pub peer: Option<String>,

    /// IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,

    /// IPv6 only
    #[arg(short = '6', long)]
    pub ipv6: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(context: &Context, args: &Ip) -> Result<Exit, Failure> {
    let overview = block_on(async { Ok(context.place.daemon().await?.overview().await?) })?;
    let ips = match &args.peer {
        None => &overview.this.ips,
        Some(peer) => &find(&overview, peer)?.ips,
    };
    let wanted = |ip: &&IpAddr| (!args.ipv4 || ip.is_ipv4()) && (!args.ipv6 || ip.is_ipv6());
    let ips: Vec<_> = ips.iter().filter(wanted).collect();
    if args.json {
        context.terminal.json(&ips)?;
    } else if ips.is_empty() {
        return Err(Failure::new("there is no such address").hint("`peerup status` shows who has which"));
    } else {
        ips.iter().try_for_each(|ip| context.terminal.line(ip))?;
    }
    Ok(Exit::Ok)
}
