//! `peerup wait`: returns when the node is up, or when a peer can be reached; for units and scripts.

use std::{future::pending, time::Duration};

use clap::Args;
use peerup_control::{ErrorKind, Runtime, api::PingRequest};
use tokio::time::{sleep, timeout};

use super::{Context, block_on};
use crate::{
    failure::{Exit, Failure},
    progress::Spinner,
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub struct Wait {
    /// Wait until this peer answers: name, overlay address or peer ID. May be given several times
    #[arg(long, value_name = "PEER")]
    pub peer: Vec<String>,

    /// Give up after this long, with exit code 7; 0 waits for ever
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

pub fn run(context: &Context, args: &Wait) -> Result<Exit, Failure> {
    // What is wrong with the files is said at once.
    context.place.node_file()?;
    block_on(async {
        let what = if args.peer.is_empty() { "the node".to_owned() } else { args.peer.join(", ") };
        let _spinner = Spinner::start(&context.terminal, &format!("waiting for {what}"));
        let ready = async {
            until_up(context).await?;
            for peer in &args.peer {
                until_answered(context, peer).await?;
            }
            Ok(())
        };
        let limit = async {
            match args.timeout {
                Duration::ZERO => pending().await,
                limit => sleep(limit).await,
            }
        };
        tokio::select! {
            outcome = ready => outcome,
            () = limit => Err(late(&what, args.timeout)),
            _ = tokio::signal::ctrl_c() => Err(Failure::new("cancelled")),
        }
    })?;
    Ok(Exit::Ok)
}

async fn until_up(context: &Context) -> Result<(), Failure> {
    let vpn = context.place.load_node().map_or(true, |node| node.config.vpn.enabled);
    loop {
        match asked(context).await {
            Ok(interface) if interface.is_some() || !vpn => return Ok(()),
            Ok(_) => {}
            Err(failure) if failure.exit == Exit::NotRunning => {}
            Err(failure) => return Err(failure),
        }
        sleep(PAUSE).await;
    }
}

/// The name of the interface that is up.
async fn asked(context: &Context) -> Result<Option<String>, Failure> {
    Ok(context.place.daemon().await?.status().await?.interface)
}

/// A ping is what makes the node look for a peer it is not connected to.
async fn until_answered(context: &Context, peer: &str) -> Result<(), Failure> {
    loop {
        let request = PingRequest { peer: peer.to_owned(), count: 1, interval_ms: 1 };
        let client = match context.place.daemon().await {
            Ok(client) => client,
            Err(failure) if failure.exit == Exit::NotRunning => {
                sleep(PAUSE).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        match timeout(Duration::from_secs(30), client.ping(request)).await {
            Ok(Ok(report)) if report.stats.received > 0 => return Ok(()),
            // A name nobody has will not come about by waiting.
            Ok(Err(error)) if error.kind == ErrorKind::NotFound => return Err(error.into()),
            Ok(Ok(_) | Err(_)) | Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}

fn late(what: &str, limit: Duration) -> Failure {
    Failure::new(format!("{what}: not there after {}", humantime::format_duration(limit)))
        .exit(Exit::Timeout)
        .hint("`peerup doctor` looks for the reason")
}
