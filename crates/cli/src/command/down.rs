//! `peerup down`: interface, routes and names away. The daemon does it; what a daemon that died left behind is undone
//! from its journal.

use std::time::Duration;

use peerup_config::StatePaths;
use peerup_control::{Client, ClientError, Runtime, api::DownReport};
use peerup_service::files::{FileLock, LockError};
use tokio::time::{sleep, timeout};

use super::{Context, block_on, config};
use crate::{
    args::Down,
    failure::{Exit, Failure},
    lockout::guard,
};

/// How long a daemon may take to leave after it has said that it will.
const LEAVE_LIMIT: Duration = Duration::from_secs(15);
/// A process that ends tells nobody but its parent, so its lock is looked at now and then.
const LEAVE_PAUSE: Duration = Duration::from_millis(20);

pub fn run(context: &Context, args: &Down) -> Result<Exit, Failure> {
    if let Some(timeout) = args.confirm {
        return config::down_for(context, timeout);
    }
    let node = context.place.node_file()?;
    // A configuration that cannot be read must not keep anybody from going down.
    if let Ok(node) = context.place.read_node(node.clone()) {
        guard(&context.terminal, &node.config, "`down`", None)?;
    }
    let state = context.place.state(&node);
    let report = block_on(async {
        let client = match Client::connect(&state.socket, &state.cookie).await {
            Ok(client) => client,
            Err(ClientError::NotRunning { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let report = client.down().await?;
        if report.daemon_exits {
            wait_until_gone(&state).await?;
        }
        Ok(Some(report))
    })?;
    match &report {
        Some(report) => say_down(context, report)?,
        None => context.terminal.note("no daemon is running")?,
    }
    // A daemon that stays keeps its journal; there is nothing of a dead one beside it.
    let daemon_stays = report.is_some_and(|report| !report.daemon_exits);
    if !daemon_stays && (args.cleanup || state.netcfg_journal.exists()) {
        clean_up(context, &state)?;
    }
    Ok(Exit::Ok)
}

fn say_down(context: &Context, report: &DownReport) -> Result<(), Failure> {
    match &report.interface {
        Some(interface) => context.terminal.note(format_args!("{interface} is down"))?,
        None => context.terminal.note("the interface was down already")?,
    }
    match report.daemon_exits {
        true => Ok(()),
        false => context.terminal.note("the daemon goes on; `peerup daemon stop` ends it"),
    }
}

fn clean_up(context: &Context, state: &StatePaths) -> Result<(), Failure> {
    let _alone = FileLock::acquire(&state.lock).map_err(|error| Failure::of(&error))?;
    let report = block_on(async {
        peerup_netcfg::cleanup(&state.netcfg_journal)
            .await
            .map_err(|error| Failure::of(&error).or_hint(error.hint()))
    })?;
    if report.is_empty() {
        return context.terminal.note("nothing was left behind");
    }
    report.removed.iter().try_for_each(|change| context.terminal.note(format_args!("undone: {change}")))
}

/// Waits until the daemon's process has let go of its lock, so that the next `up` finds a free place.
pub async fn wait_until_gone(state: &StatePaths) -> Result<(), Failure> {
    let gone = async {
        while is_held(state) {
            sleep(LEAVE_PAUSE).await;
        }
    };
    timeout(LEAVE_LIMIT, gone).await.map_err(|_| {
        Failure::new(format!("the daemon is still there after {} s", LEAVE_LIMIT.as_secs()))
            .exit(Exit::Timeout)
            .hint(format!("{} may say why", state.log.display()))
    })
}

fn is_held(state: &StatePaths) -> bool {
    state.lock.exists() && matches!(FileLock::acquire(&state.lock), Err(LockError::Held { .. }))
}
