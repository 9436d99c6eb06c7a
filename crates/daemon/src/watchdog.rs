//! Tells systemd that this daemon works, for as long as it does.
//!
//! Health means our own threads: the control socket takes a connection, the control loop (which polls the swarm)
//! answers a request, and the data thread runs a task. What the network does is no part of it: a relay that is away
//! is no reason to kill a daemon that waits for it.

use std::{path::PathBuf, time::Duration};

use peerup_control::Runtime;
use tokio::{
    net::UnixStream,
    runtime::Handle,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::api::NodeHandle;

/// A healthy daemon answers within milliseconds; systemd waits for two missed messages.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unwell {
    #[error("the control socket takes no connection")]
    Socket,
    #[error("the control loop does not answer")]
    Control,
    #[error("the data thread runs nothing")]
    Data,
}

/// What is asked whether it works.
pub struct Watched {
    pub socket: PathBuf,
    pub handle: NodeHandle,
    pub data: Handle,
}

/// Sends the messages that the unit's `WatchdogSec=` asks for; `None` when it asks for none.
pub fn start(watched: Watched) -> Option<JoinHandle<()>> {
    let period = peerup_service::notify::watchdog_interval()?;
    Some(tokio::spawn(watch(watched, period)))
}

async fn watch(watched: Watched, period: Duration) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match watched.check().await {
            Ok(()) => peerup_service::notify::watchdog(),
            Err(unwell) => tracing::error!(%unwell, "not well: systemd is not told that all is"),
        }
    }
}

impl Watched {
    async fn check(&self) -> Result<(), Unwell> {
        let connected = timeout(PATIENCE, UnixStream::connect(&self.socket)).await;
        if !matches!(connected, Ok(Ok(_))) {
            return Err(Unwell::Socket);
        }
        if !matches!(timeout(PATIENCE, self.handle.auth_list()).await, Ok(Ok(_))) {
            return Err(Unwell::Control);
        }
        match timeout(PATIENCE, self.data.spawn(async {})).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Unwell::Data),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{net::UnixListener, runtime::Builder, sync::mpsc};

    use super::*;
    use crate::api::Request;

    #[tokio::test]
    async fn each_part_that_hangs_is_noticed() {
        tokio::time::pause();
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let (sender, mut requests) = mpsc::channel(1);
        let handle = NodeHandle::new(sender, Handle::current());
        let mut watched = Watched { socket: socket.clone(), handle, data: Handle::current() };
        assert_eq!(watched.check().await, Err(Unwell::Socket));
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(watched.check().await, Err(Unwell::Control), "nobody takes the request");
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                if let Request::AuthList(reply) = request {
                    let _ = reply.send(Vec::new());
                }
            }
        });
        assert_eq!(watched.check().await, Ok(()));
        let stuck = Builder::new_current_thread().build().unwrap();
        watched.data = stuck.handle().clone();
        assert_eq!(watched.check().await, Err(Unwell::Data), "nobody drives that runtime");
        stuck.shutdown_background();
    }
}
