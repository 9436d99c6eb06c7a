//! The task that keeps a lease.

use std::{net::SocketAddrV4, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    lease::{Gateway, Lease, MapError, Options, Ports, Protocol, acquire},
    pause::{until_renewal, until_retry},
};

/// A router gets this long to take its ports back when the node ends.
const RELEASE: Duration = Duration::from_secs(1);

/// What is known about the mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Searching,
    Unavailable { reason: String },
    Mapped { protocol: Protocol, udp: Option<SocketAddrV4>, tcp: Option<SocketAddrV4>, lifetime: Duration },
}

/// Handle on the task. Dropping it leaves the mapping to expire; [`PortMapper::close`] removes it.
#[derive(Debug)]
pub struct PortMapper {
    state: watch::Receiver<State>,
    gateway: watch::Sender<Option<Gateway>>,
    task: JoinHandle<()>,
}

impl PortMapper {
    /// Begins with this gateway; `None` waits for one. Needs a tokio runtime with I/O and time.
    pub fn start(ports: Ports, gateway: Option<Gateway>, options: Options) -> Self {
        let (publish, state) = watch::channel(State::Searching);
        let (sender, receiver) = watch::channel(gateway);
        let task = tokio::spawn(keep(ports, options, receiver, publish));
        Self { state, gateway: sender, task }
    }

    /// The network changed: whatever the gateway is, it is asked anew.
    pub fn set_gateway(&self, gateway: Option<Gateway>) {
        // The task ends only after this handle is gone.
        let _ = self.gateway.send(gateway);
    }

    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// The next state that has not been returned yet. Cancel-safe.
    pub async fn changed(&mut self) -> State {
        if self.state.changed().await.is_err() {
            // The task is gone, and with it every change.
            std::future::pending::<()>().await;
        }
        self.state.borrow_and_update().clone()
    }

    /// Removes the mapping and ends the task, within a second or so.
    pub async fn close(self) {
        let Self { gateway, task, state } = self;
        drop((gateway, state));
        let _ = timeout(RELEASE * 2, task).await;
    }
}

async fn keep(
    ports: Ports,
    options: Options,
    mut gateways: watch::Receiver<Option<Gateway>>,
    publish: watch::Sender<State>,
) {
    let mut held: Option<(Gateway, Lease)> = None;
    let mut failures = 0;
    loop {
        let gateway = *gateways.borrow_and_update();
        // Elsewhere the lease of the last network cannot be given back; it expires.
        held = held.filter(|(from, _)| Some(*from) == gateway);
        let pause = match gateway {
            None => {
                announce(&publish, State::Unavailable { reason: "there is no IPv4 router".to_owned() });
                None
            }
            Some(gateway) => tokio::select! {
                outcome = ask(held.take(), gateway, ports, options) => Some(match outcome {
                    Ok(lease) => {
                        failures = 0;
                        let pause = until_renewal(lease.lifetime);
                        announce(&publish, describe(&lease));
                        held = Some((gateway, lease));
                        pause
                    }
                    Err(error) => {
                        failures += 1;
                        announce(&publish, State::Unavailable { reason: error.to_string() });
                        until_retry(failures)
                    }
                }),
                // The answer that is awaited concerns a network that is left.
                changed = gateways.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => break,
                },
            },
        };
        tokio::select! {
            () = pause_for(pause) => {}
            changed = gateways.changed() => match changed {
                Ok(()) => failures = 0,
                Err(_) => break,
            },
        }
    }
    if let Some((_, lease)) = held {
        let _ = timeout(RELEASE, lease.release()).await;
    }
}

async fn ask(
    held: Option<(Gateway, Lease)>,
    gateway: Gateway,
    ports: Ports,
    options: Options,
) -> Result<Lease, MapError> {
    match held {
        Some((_, lease)) => lease.renew(gateway, ports, options).await,
        None => acquire(gateway, ports, options).await,
    }
}

async fn pause_for(pause: Option<Duration>) {
    match pause {
        Some(pause) => sleep(pause).await,
        None => std::future::pending().await,
    }
}

fn announce(publish: &watch::Sender<State>, state: State) {
    publish.send_if_modified(|known| {
        let news = *known != state;
        if news {
            *known = state;
        }
        news
    });
}

fn describe(lease: &Lease) -> State {
    State::Mapped { protocol: lease.protocol, udp: lease.udp, tcp: lease.tcp, lifetime: lease.lifetime }
}
