//! `peerup netcheck`: what kind of network this machine is on. The daemon is asked where one runs; otherwise this process
//! looks for itself, on the port that the daemon would use.

use clap::Args;
use peerup_control::{
    Runtime,
    api::{NetcheckReport, PlainText},
};

use super::{Context, block_on};
use crate::{
    backend,
    failure::{Exit, Failure},
};

#[derive(Debug, Args)]
pub struct Netcheck {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(context: &Context, args: &Netcheck) -> Result<Exit, Failure> {
    let asked = block_on(async { Ok(context.place.daemon().await?.netcheck().await?) });
    let report = match asked {
        Err(failure) if failure.exit == Exit::NotRunning => {
            context.terminal.result_only().note("no daemon runs: looking for a few seconds")?;
            let file = context.place.node_file()?;
            block_on(backend::netcheck(file))?
        }
        other => other?,
    };
    show(context, args, &report)?;
    Ok(if report.is_degraded() { Exit::Degraded } else { Exit::Ok })
}

fn show(context: &Context, args: &Netcheck, report: &NetcheckReport) -> Result<(), Failure> {
    if args.json {
        return context.terminal.json(report);
    }
    context.terminal.line(report.plain_text().trim_end())
}
