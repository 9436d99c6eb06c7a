//! The one place that names the daemon and the relay.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use peerup_control::{Runtime, api::NetcheckReport};
pub use peerup_daemon::TunObstacle;
pub use peerup_daemon::replay;
use peerup_daemon::{DaemonError, Options, ReadyReport};
use peerup_service::{Keep, Target, drop_privileges};
use peerup_types::{Multiaddr, PeerId};

use crate::{failure::Failure, place::directory, readiness::Readiness, version::VERSION};

/// Blocks until the daemon has stopped.
pub fn run_daemon(
    config_file: PathBuf,
    started_by_up: bool,
    userspace: bool,
    ready: impl FnOnce(Readiness),
) -> Result<(), Failure> {
    let options = Options { config_file, started_by_up, userspace, version: VERSION };
    // A failed start comes back as the result too, which is where it is reported.
    let on_ready = |outcome: Result<ReadyReport, &DaemonError>| {
        if let Ok(report) = outcome {
            ready(readiness(report));
        }
    };
    peerup_daemon::run(options, on_ready).map_err(|error| from_daemon(&error))
}

/// A node without interface and socket, for pairing while no daemon runs. It meets strangers, so this process first
/// becomes the owner of its files and nothing more, for good. That covers the whole process only as long as it has
/// no other thread: a command's runtime runs on its main thread.
pub async fn temporary(config_file: PathBuf) -> Result<Arc<dyn Runtime>, Failure> {
    let options = unprivileged(config_file)?;
    peerup_daemon::temporary(options).await.map_err(|error| from_daemon(&error))
}

fn unprivileged(config_file: PathBuf) -> Result<Options, Failure> {
    Target::owner_of(directory(&config_file))
        .and_then(|owner| drop_privileges(owner, Keep::Nothing))
        .map_err(|error| Failure::of(&error))?;
    Ok(Options { config_file, started_by_up: false, userspace: true, version: VERSION })
}

/// As [`temporary`], a member of the network that reaches its peers and offers them nothing.
pub async fn visitor(config_file: PathBuf) -> Result<Arc<dyn Runtime>, Failure> {
    let options = unprivileged(config_file)?;
    peerup_daemon::visitor(options).await.map_err(|error| from_daemon(&error))
}

/// Looks at the network while no daemon runs. It talks to relays only; like [`temporary`] it first becomes the owner of
/// its files and nothing more.
pub async fn netcheck(config_file: PathBuf) -> Result<NetcheckReport, Failure> {
    Target::owner_of(directory(&config_file))
        .and_then(|owner| drop_privileges(owner, Keep::Nothing))
        .map_err(|error| Failure::of(&error))?;
    peerup_daemon::netcheck(config_file, VERSION).await.map_err(|error| from_daemon(&error))
}

/// Blocks until the relay has stopped.
pub fn serve_relay(config_file: PathBuf, ready: impl FnOnce(PeerId, &[Multiaddr])) -> Result<(), Failure> {
    peerup_relay::serve(config_file, VERSION, |report| ready(report.peer_id, &report.addresses))
        .map_err(|error| Failure::of(&error).exit(error.exit_code().into()).or_hint(error.hint()))
}

/// What keeps this process from making an interface.
pub fn tun_obstacle() -> Option<TunObstacle> {
    peerup_daemon::tun_obstacle()
}

/// Who the node of `config_file` is. A fresh one gets its key here.
pub fn identity(config_file: &Path) -> Result<PeerId, Failure> {
    let keypair = peerup_daemon::identity(config_file).map_err(|error| from_daemon(&error))?;
    Ok(keypair.public().to_peer_id())
}

/// Where a relay with these listeners is found on a machine with these addresses.
pub fn announced(listeners: &[Multiaddr], interfaces: &[IpAddr]) -> Vec<Multiaddr> {
    peerup_relay::announced(listeners, interfaces)
}

fn readiness(report: ReadyReport) -> Readiness {
    let ReadyReport { interface, addresses, name, peers } = report;
    Readiness { interface, addresses, name, peers }
}

fn from_daemon(error: &DaemonError) -> Failure {
    Failure::of(error).exit(error.exit_code().into()).or_hint(error.hint())
}
