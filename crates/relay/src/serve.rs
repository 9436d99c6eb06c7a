//! The process: privileges, runtime, signals, systemd.

use std::path::{Path, PathBuf};

use peerup_config::RelayConfig;
use peerup_service::{Keep, Target, drop_privileges, files::ConfigStore, notify};
use tokio::{
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use crate::{
    addresses,
    error::RelayError,
    files::load_config,
    relay::{Command, End, Relay, ServeReport},
};

/// Signals that wait for the loop; more of them say nothing new.
const COMMAND_QUEUE: usize = 4;

/// Ports below need CAP_NET_BIND_SERVICE (ip(7), ip_unprivileged_port_start).
const FIRST_FREE_PORT: u16 = 1024;

/// Runs the relay of `config_file` until SIGINT or SIGTERM. `ready` is called once it listens. Called before the
/// process has other threads, which would keep the privileges that this one gives up.
pub fn serve(
    config_file: PathBuf,
    version: &'static str,
    ready: impl FnOnce(&ServeReport),
) -> Result<(), RelayError> {
    let config_file = std::path::absolute(&config_file).unwrap_or(config_file);
    // What is due comes first: the privileges depend on the configuration.
    ConfigStore::beside(&config_file).settle(peerup_clock::since_epoch())?;
    give_up_privileges(&config_file)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(RelayError::Runtime)?;
    runtime.block_on(async {
        let mut commands = signals()?;
        let mut ready = Some(ready);
        loop {
            let relay = start_settled(&config_file, version).await?;
            if let Some(ready) = ready.take() {
                ready(relay.report());
            }
            notify::ready();
            if relay.run(&mut commands).await == End::Stopped {
                return Ok(());
            }
        }
    })
}

/// Starts with the configuration that is due. One on probation that does not even start is taken back.
async fn start_settled(config_file: &Path, version: &'static str) -> Result<Relay, RelayError> {
    let store = ConfigStore::beside(config_file);
    match Relay::start(config_file, version, Handle::current()).await {
        Err(error) if !matches!(error, RelayError::Locked(_)) && store.expire()? => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the unconfirmed configuration does not start: the former one is back"
            );
            Relay::start(config_file, version, Handle::current()).await
        }
        outcome => outcome,
    }
}

/// Becomes the owner of the relay's files and keeps at most what its ports need.
fn give_up_privileges(config_file: &Path) -> Result<(), RelayError> {
    let keep = needed(&load_config(config_file)?);
    let owner = Target::owner_of(config_file.parent().unwrap_or(Path::new("/")))?;
    drop_privileges(owner, keep)?;
    Ok(())
}

fn needed(config: &RelayConfig) -> Keep {
    let mut ports = config.network.listen_addresses.iter().filter_map(addresses::port_of);
    match ports.any(|port| (1..FIRST_FREE_PORT).contains(&port)) {
        true => Keep::LowPorts,
        false => Keep::Nothing,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_relay_on_low_ports_keeps_the_privilege_to_bind_them() {
        for (listener, keep) in [
            ("/ip4/0.0.0.0/tcp/443", Keep::LowPorts),
            ("/ip6/::/udp/1023/quic-v1", Keep::LowPorts),
            ("/ip4/0.0.0.0/tcp/1024", Keep::Nothing),
            ("/ip4/0.0.0.0/tcp/0", Keep::Nothing),
        ] {
            let text = format!("version: 1\nnetwork: {{listen_addresses: [{listener}]}}\n");
            let config = RelayConfig::parse(&text, Path::new("/r")).unwrap();
            assert_eq!(needed(&config), keep, "{listener}");
        }
    }
}
