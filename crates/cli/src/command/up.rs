//! `peerup up`: returns when the interface is up. A daemon that runs is asked; otherwise one is started, in the
//! background unless told otherwise, and its readiness line is waited for.

use std::{env, ffi::OsString, fs::File, path::Path};

use peerup_control::{Client, ClientError, Runtime};
use peerup_service::{Background, detach, has_net_admin};

use super::{Context, block_on, daemon};
use crate::{
    args::Up,
    failure::{Exit, Failure},
    place::NodeFiles,
    readiness::{READY_LIMIT, Readiness, decode},
};

const TUN_DEVICE: &str = "/dev/net/tun";

pub fn run(context: &Context, args: &Up) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    if let Some(ready) = ask_running(context, &node)? {
        ready.print(&context.terminal)?;
        return Ok(Exit::Ok);
    }
    if node.config.vpn.enabled {
        check_privileges()?;
    }
    if args.foreground {
        return daemon::start(context, false);
    }
    start_in_background(&node)?.print(&context.terminal)?;
    Ok(Exit::Ok)
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

/// Says exactly what is missing before a daemon would fail on it.
fn check_privileges() -> Result<(), Failure> {
    if !Path::new(TUN_DEVICE).exists() {
        return Err(Failure::new(format!("{TUN_DEVICE} does not exist: the kernel has no TUN driver"))
            .hint("load it with `sudo modprobe tun`; in a container, pass --device /dev/net/tun"));
    }
    if !has_net_admin() {
        return Err(Failure::new(
            "creating the interface needs CAP_NET_ADMIN, which this process does not have",
        )
        .exit(Exit::NotAuthorised)
        .hint(format!("run `sudo peerup up`, or once `sudo setcap cap_net_admin+ep {}`", program_name())));
    }
    File::options().read(true).write(true).open(TUN_DEVICE).map(drop).map_err(|error| {
        Failure::of(&error)
            .while_doing(format_args!("cannot open {TUN_DEVICE}"))
            .exit(Exit::NotAuthorised)
            .hint("run `sudo peerup up`")
    })
}

fn program_name() -> String {
    env::current_exe().map_or_else(|_| "$(command -v peerup)".to_owned(), |path| path.display().to_string())
}

fn start_in_background(node: &NodeFiles) -> Result<Readiness, Failure> {
    let log = || format!("the log is {}", node.state.log.display());
    let line = spawn(node)?.wait_ready(READY_LIMIT).map_err(|error| {
        let exit = if matches!(error, peerup_service::ReadyError::Timeout { .. }) {
            Exit::Timeout
        } else {
            Exit::Failure
        };
        Failure::of(&error).exit(exit).hint(log())
    })?;
    decode(&line).map_err(|failure| failure.while_doing("the daemon did not start").also_hint(&log()))
}

fn spawn(node: &NodeFiles) -> Result<Background, Failure> {
    let program = env::current_exe()
        .map_err(|error| Failure::of(&error).while_doing("cannot find the peerup program"))?;
    let config = node.file.clone().into_os_string();
    let words = ["daemon", "start", "--started-by-up", "--config"].map(OsString::from);
    detach(&program, words.into_iter().chain([config]), &node.state.log).map_err(|error| Failure::of(&error))
}
