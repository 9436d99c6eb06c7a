//! `peerup up`: returns when the interface is up. A daemon that runs is asked; otherwise one is started, in the
//! background unless told otherwise, and its readiness line is waited for.

use std::{env, ffi::OsString};

use peerup_config::VpnMode;
use peerup_control::{Client, ClientError, Runtime};
use peerup_service::{Background, detach};
use peerup_tun::TunError;

use super::{Context, block_on, daemon};
use crate::{
    args::Up,
    backend::{TunObstacle, tun_obstacle},
    failure::{Exit, Failure},
    place::NodeFiles,
    readiness::{READY_LIMIT, Readiness, decode},
};

pub fn run(context: &Context, args: &Up) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    if let Some(ready) = ask_running(context, &node)? {
        check_kind(context, args, &ready)?;
        ready.print(&context.terminal)?;
        return Ok(Exit::Ok);
    }
    let userspace = node.config.vpn.enabled && is_userspace(context, args, &node)?;
    if args.foreground {
        return daemon::start(context, false, userspace);
    }
    start_in_background(&node, userspace)?.print(&context.terminal)?;
    Ok(Exit::Ok)
}

/// A daemon that runs stays as it is.
fn check_kind(context: &Context, args: &Up, ready: &Readiness) -> Result<(), Failure> {
    match (args.userspace, ready.is_userspace()) {
        (true, false) if ready.interface.is_some() => Err(Failure::new("the daemon runs with an interface")
            .exit(Exit::Conflict)
            .hint("`peerup down`, then `peerup up --userspace`")),
        (false, true) if tun_obstacle().is_none() => context
            .terminal
            .note("the daemon runs without an interface; `peerup down` and `peerup up` give it one"),
        (_, _) => Ok(()),
    }
}

/// Whether to do without an interface: asked for, or, with `vpn.mode: auto`, for want of the right to make one, and
/// then it is said.
fn is_userspace(context: &Context, args: &Up, node: &NodeFiles) -> Result<bool, Failure> {
    let mode = node.config.vpn.mode;
    if args.userspace || mode == VpnMode::Userspace {
        return Ok(true);
    }
    let Some(obstacle) = tun_obstacle() else { return Ok(false) };
    let ways = ways(&obstacle);
    if mode == VpnMode::Tun {
        let failure = Failure::of(&obstacle).exit(Exit::NotAuthorised);
        return Err(failure.hint(ways.join("\n      ")));
    }
    context.terminal.warn(format_args!("note: {obstacle}; going on without an interface"))?;
    ways.iter().try_for_each(|way| context.terminal.warn(format_args!("      {way}")))?;
    Ok(true)
}

/// The three ways to bring a node up, each a command that works here.
fn ways(obstacle: &TunObstacle) -> Vec<String> {
    let program = program_name();
    let first = match obstacle {
        TunObstacle::Driver(TunError::NodeMissing | TunError::NoDriver(_)) => "sudo modprobe tun && ",
        TunObstacle::Driver(_) | TunObstacle::Capability => "",
    };
    let open = match obstacle {
        TunObstacle::Driver(TunError::NodeForbidden(_)) => "sudo chmod 666 /dev/net/tun && ",
        TunObstacle::Driver(_) | TunObstacle::Capability => "",
    };
    vec![
        format!("{first}sudo {program} up"),
        format!("{first}{open}sudo setcap cap_net_admin+ep {program} && {program} up"),
        format!("{program} up --userspace"),
    ]
}

/// What a running daemon says; `None` when there is none.
fn ask_running(context: &Context, node: &NodeFiles) -> Result<Option<Readiness>, Failure> {
    let asked = block_on(async {
        match Client::connect(&node.state.socket, &node.state.cookie).await {
            Ok(client) => Ok(Some(client.up().await?)),
            Err(ClientError::NotRunning { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })?;
    let Some(report) = asked else { return Ok(None) };
    if report.already_up {
        context.terminal.note("the daemon is already running")?;
    }
    Ok(Some(report.into()))
}

fn program_name() -> String {
    env::current_exe().map_or_else(|_| "$(command -v peerup)".to_owned(), |path| path.display().to_string())
}

fn start_in_background(node: &NodeFiles, userspace: bool) -> Result<Readiness, Failure> {
    let log = || format!("the log is {}", node.state.log.display());
    let line = spawn(node, userspace)?.wait_ready(READY_LIMIT).map_err(|error| {
        let exit = if matches!(error, peerup_service::ReadyError::Timeout { .. }) {
            Exit::Timeout
        } else {
            Exit::Failure
        };
        Failure::of(&error).exit(exit).hint(log())
    })?;
    decode(&line).map_err(|failure| failure.while_doing("the daemon did not start").also_hint(&log()))
}

fn spawn(node: &NodeFiles, userspace: bool) -> Result<Background, Failure> {
    let program = env::current_exe()
        .map_err(|error| Failure::of(&error).while_doing("cannot find the peerup program"))?;
    let config = node.file.clone().into_os_string();
    let mode = if userspace { &["--userspace"][..] } else { &[] };
    let words = ["daemon", "start", "--started-by-up"].iter().chain(mode).chain(&["--config"]);
    detach(&program, words.map(OsString::from).chain([config]), &node.state.log)
        .map_err(|error| Failure::of(&error))
}
