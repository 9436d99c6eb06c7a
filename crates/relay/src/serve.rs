//! The process: runtime, signals, systemd.

use std::path::PathBuf;

use peerup_service::notify;
use tokio::{
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use crate::{
    error::RelayError,
    relay::{Command, Relay, ServeReport},
};

/// Signals that wait for the loop; more of them say nothing new.
const COMMAND_QUEUE: usize = 4;

/// Runs the relay of `config_file` until SIGINT or SIGTERM. `ready` is called once it listens.
pub fn serve(
    config_file: PathBuf,
    version: &'static str,
    ready: impl FnOnce(&ServeReport),
) -> Result<(), RelayError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(RelayError::Runtime)?;
    runtime.block_on(async {
        let commands = signals()?;
        let relay = Relay::start(&config_file, version, Handle::current()).await?;
        ready(relay.report());
        notify::ready();
        relay.run(commands).await;
        Ok(())
    })
}

fn signals() -> Result<mpsc::Receiver<Command>, RelayError> {
    let watch = |kind| signal(kind).map_err(RelayError::Signals);
    let (interrupt, terminate, hangup) =
        (watch(SignalKind::interrupt())?, watch(SignalKind::terminate())?, watch(SignalKind::hangup())?);
    let (sender, commands) = mpsc::channel(COMMAND_QUEUE);
    tokio::spawn(forward(interrupt, Command::Stop, sender.clone()));
    tokio::spawn(forward(terminate, Command::Stop, sender.clone()));
    tokio::spawn(forward(hangup, Command::Reload, sender));
    Ok(commands)
}

async fn forward(mut signal: Signal, command: Command, commands: mpsc::Sender<Command>) {
    while signal.recv().await.is_some() {
        if commands.send(command).await.is_err() {
            return;
        }
    }
}
