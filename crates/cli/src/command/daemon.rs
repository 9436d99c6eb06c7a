//! `peerup daemon`: runs in the foreground, as systemd wants it, and answers for itself.

use peerup_control::{
    Runtime,
    api::{ConnectReport, ConnectRequest, PlainText, StatusReport},
};
use peerup_service::announce;

use super::{Context, block_on, down, peers, ping};
use crate::{
    args::{Connect, Daemon, Json},
    backend,
    failure::{Exit, Failure},
    readiness::{Readiness, encode},
    render::{short_id, table::Table, units},
};

pub fn run(context: &Context, command: Option<Daemon>) -> Result<Exit, Failure> {
    match command {
        None => start(context, false, false),
        Some(Daemon::Start { started_by_up, userspace }) => start(context, started_by_up, userspace),
        Some(Daemon::Status(args)) => status(context, &args),
        Some(Daemon::Services(args)) => services(context, &args),
        Some(Daemon::Connect(args)) => connect(context, args),
        Some(Daemon::Disconnect { id }) => disconnect(context, id),
        Some(Daemon::Stop) => stop(context),
        Some(Daemon::Ping(args)) => ping::through_daemon(context, &args),
        Some(Daemon::Peers(args)) => peers::run(context, &args),
        Some(Daemon::Paths(args)) => paths(context, &args),
    }
}

/// Blocks until the daemon has stopped. With `started_by_up`, standard output is the pipe that `up` reads.
pub fn start(context: &Context, started_by_up: bool, userspace: bool) -> Result<Exit, Failure> {
    let outcome = start_daemon(context, started_by_up, userspace);
    if started_by_up && let Err(failure) = &outcome {
        // After readiness the pipe is gone and this goes nowhere.
        let _ = announce(&encode(Err(failure)));
    }
    outcome.map(|()| Exit::Ok)
}

fn start_daemon(context: &Context, started_by_up: bool, userspace: bool) -> Result<(), Failure> {
    init_logging()?;
    let file = context.place.node_file()?;
    let terminal = context.terminal;
    backend::run_daemon(file, started_by_up, userspace, |ready: Readiness| {
        // Whoever waited may have gone; the daemon runs on.
        let _ = if started_by_up {
            announce(&encode(Ok(ready))).map_err(Failure::output)
        } else {
            ready.print(&terminal)
        };
    })
}

pub fn init_logging() -> Result<(), Failure> {
    peerup_telemetry::init(peerup_telemetry::Format::Text)
        .map_err(|error| Failure::of(&error).or_hint(error.hint()))
}

fn status(context: &Context, args: &Json) -> Result<Exit, Failure> {
    let report = block_on(async { Ok(context.place.daemon().await?.status().await?) })?;
    if args.json {
        context.terminal.json(&report)?;
    } else {
        lines(&report).iter().try_for_each(|line| context.terminal.line(line))?;
    }
    Ok(Exit::Ok)
}

fn lines(report: &StatusReport) -> Vec<String> {
    let grade = &report.reachability;
    let mut lines = vec![
        format!("peer_id: {}", report.peer_id),
        format!("version: {}", report.version),
        format!("uptime: {}", units::duration(report.uptime_seconds)),
        format!("connected_peers: {}", report.connected_peers),
        format!("services: {}", report.services_count),
        format!("global_ipv6: {}", report.has_global_ipv6),
        format!("global_ipv4: {}", report.has_global_ipv4),
        format!("is_relaying: {}", report.is_relaying),
        format!("reachability: [{}] {} - {}", grade.grade, grade.label, grade.description),
    ];
    lines.extend(report.nat_type.as_ref().map(|kind| format!("nat_type: {kind}")));
    for (key, values) in
        [("listen_addresses", &report.listen_addresses), ("relay_addresses", &report.relay_addresses)]
    {
        lines.push(format!("{key}: {}", values.len()));
        lines.extend(values.iter().map(|value| format!("  {value}")));
    }
    lines
}

fn services(context: &Context, args: &Json) -> Result<Exit, Failure> {
    let rows = block_on(async { Ok(context.place.daemon().await?.services().await?) })?;
    if args.json {
        context.terminal.json(&rows)?;
    } else if rows.is_empty() {
        context.terminal.note("no service is offered")?;
    } else {
        rows.plain_text().lines().try_for_each(|line| context.terminal.line(line))?;
    }
    Ok(Exit::Ok)
}

fn connect(context: &Context, args: Connect) -> Result<Exit, Failure> {
    let Connect { peer, service, listen } = args;
    let request = ConnectRequest { peer: peer.clone(), service: service.clone(), listen };
    let report = block_on(async { Ok(context.place.daemon().await?.connect(request).await?) })?;
    let ConnectReport { id, listen_address } = report;
    context
        .terminal
        .line(format_args!("Proxy created: {id} -> {peer}:{service} (listen: {listen_address})"))?;
    Ok(Exit::Ok)
}

fn disconnect(context: &Context, id: String) -> Result<Exit, Failure> {
    block_on(async { Ok(context.place.daemon().await?.disconnect(id).await?) })?;
    context.terminal.line("Proxy disconnected.")?;
    Ok(Exit::Ok)
}

fn paths(context: &Context, args: &Json) -> Result<Exit, Failure> {
    let rows = block_on(async { Ok(context.place.daemon().await?.paths().await?) })?;
    if args.json {
        context.terminal.json(&rows)?;
        return Ok(Exit::Ok);
    }
    if rows.is_empty() {
        context.terminal.note("no path is open")?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&["PEER", "TYPE", "RTT", "TRANSPORT", "IP", "ADDRESS"], 2);
    for row in rows {
        let rtt = row.last_rtt_ms.map_or_else(|| "-".into(), units::millis);
        table.row([short_id(&row.peer_id), row.path_type, rtt, row.transport, row.ip_version, row.address]);
    }
    table.show(&context.terminal)?;
    Ok(Exit::Ok)
}

fn stop(context: &Context) -> Result<Exit, Failure> {
    let state = context.place.state(&context.place.node_file()?);
    block_on(async {
        context.place.daemon().await?.shutdown().await?;
        down::wait_until_gone(&state).await
    })?;
    context.terminal.note("the daemon has stopped")?;
    Ok(Exit::Ok)
}
