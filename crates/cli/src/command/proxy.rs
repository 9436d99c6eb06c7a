//! `peerup proxy`: a listener on this machine whose connections end at a service of a peer. It lives in the daemon, or,
//! when none runs, in this process, and as long as this command.

use std::time::Duration;

use peerup_control::{
    Client, ClientError, Runtime,
    api::{ConnectReport, ConnectRequest, ProxyRow},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use super::{Context, block_on, down::wait_until_gone};
use crate::{
    args::Proxy,
    backend,
    failure::{Exit, Failure},
    place::NodeFiles,
    render::units,
    terminal::Terminal,
};

/// How often broken connections are looked for, to tell the user.
const LOOK: Duration = Duration::from_secs(1);

pub fn run(context: &Context, args: Proxy) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    let terminal = if args.json { context.terminal.result_only() } else { context.terminal };
    block_on(with_runtime(&terminal, &node, async |runtime| serve(&terminal, runtime, &args).await))?;
    Ok(Exit::Ok)
}

/// Works with the daemon, or with a temporary host in this process when none runs, also when one has left its socket
/// behind.
async fn with_runtime<T>(
    terminal: &Terminal,
    node: &NodeFiles,
    work: impl AsyncFnOnce(&dyn Runtime) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match Client::connect(&node.state.socket, &node.state.cookie).await {
        Ok(client) => work(&client).await,
        Err(ClientError::NotRunning { .. }) => {
            terminal
                .note("no daemon runs: a temporary host of this node connects, while this command lasts")?;
            let visitor = backend::visitor(node.file.clone()).await?;
            let outcome = work(&*visitor).await;
            let _ = visitor.shutdown().await;
            drop(visitor);
            let _ = wait_until_gone(&node.state).await;
            outcome
        }
        Err(error) => Err(error.into()),
    }
}

async fn serve(terminal: &Terminal, runtime: &dyn Runtime, args: &Proxy) -> Result<(), Failure> {
    let on = |kind| signal(kind).map_err(|error| Failure::of(&error));
    let (mut interrupt, mut terminate) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    let request = ConnectRequest {
        peer: args.target.clone(),
        service: args.service.clone(),
        listen: args.local.clone(),
    };
    let connecting = runtime.connect(request);
    let report = tokio::select! {
        report = connecting => report?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    announce(terminal, args, &report)?;
    let watched = tokio::select! {
        watched = watch(terminal, runtime, &report.id) => watched,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    let last = row(runtime, &report.id).await.ok().flatten();
    // Gone already where the daemon stopped, or somebody disconnected it.
    let _ = runtime.disconnect(report.id).await;
    last.map_or(Ok(()), |row| terminal.note(summary(&row)))?;
    watched
}

fn announce(terminal: &Terminal, args: &Proxy, report: &ConnectReport) -> Result<(), Failure> {
    if args.json {
        let text = serde_json::to_string(report).expect("answers have string keys only");
        return terminal.line(text);
    }
    let ConnectReport { listen_address, .. } = report;
    terminal.line(format_args!("{listen_address} → {}:{}", args.target, args.service))?;
    terminal.note("Ctrl-C stops it")
}

/// Tells of broken connections until the proxy is gone.
async fn watch(terminal: &Terminal, runtime: &dyn Runtime, id: &str) -> Result<(), Failure> {
    let mut told = 0;
    loop {
        sleep(LOOK).await;
        let Some(row) = row(runtime, id).await? else {
            return Err(Failure::new("the proxy was taken down"));
        };
        if row.failed > told {
            let more = row.failed - told;
            told = row.failed;
            let why = row.last_error.unwrap_or_default();
            let connections = if more == 1 { "a connection" } else { "connections" };
            terminal.warn(format_args!("{connections} broke: {why}"))?;
        }
    }
}

async fn row(runtime: &dyn Runtime, id: &str) -> Result<Option<ProxyRow>, Failure> {
    Ok(runtime.proxies().await?.into_iter().find(|row| row.id == id))
}

fn summary(row: &ProxyRow) -> String {
    let connections = if row.accepted == 1 { "connection" } else { "connections" };
    let (sent, received) = (units::bytes(row.tx_bytes), units::bytes(row.rx_bytes));
    let open = match row.sessions {
        0 => String::new(),
        open => format!("; {open} still open"),
    };
    format!("{} {connections}, {sent} sent, {received} received{open}", row.accepted)
}
