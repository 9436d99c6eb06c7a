//! A node without a network device: the shell around `peerup-userspace`.
//!
//! Everything here runs on the data thread, also what other threads asked for, so the lock around the machine is never
//! contended; it is there because tasks may be spawned from elsewhere. [`Network`] is the device that packets come
//! from and go to ([`Device`](peerup_tun::Device)); [`inbound`] joins peers' connections to services of this host,
//! [`gateway`] those of an `exec` session to the Internet, [`pump()`] moves bytes between a connection and a socket.

mod device;
mod flow;
mod gateway;
mod inbound;
mod pump;
mod sessions;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use peerup_config::PortRange;
use peerup_types::OverlayAddrs;
use peerup_userspace::{Event, FlowId, SessionId, Settings, Stack, UdpId};
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc},
    task::AbortHandle,
};

pub use flow::{Conversation, Flow};
pub use gateway::RESOLVER;
pub use pump::{Local, pump};
pub use sessions::Beyond;

/// Connections of peers that wait to be looked at: as many as may be pending, and a few conversations.
const KNOCKS: usize = 2048;
/// Frames of `exec` sessions that wait for the data thread; a session whose frames do not fit waits.
const FORWARDED: usize = 256;

/// Clones name the same network.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    mtu: u16,
    state: Mutex<State>,
    /// There is a frame for a peer.
    frames: Notify,
    /// The earliest deadline has moved.
    deadline: Notify,
    /// A forwarded frame has left.
    forwarded: Notify,
}

struct State {
    stack: Stack,
    flows: BTreeMap<FlowId, Arc<Wake>>,
    conversations: BTreeMap<UdpId, Arc<Notify>>,
    sessions: BTreeMap<SessionId, Arc<peerup_tun::PassedTun>>,
    /// From `exec` sessions to peers.
    forward: VecDeque<Vec<u8>>,
    knocks: mpsc::Sender<Event>,
    /// Local ports that no peer reaches, the daemon's own front ends, and how many of them hold each.
    private_ports: BTreeMap<u16, usize>,
    inbound: Inbound,
    sleeping_until: Option<Instant>,
    tasks: Vec<AbortHandle>,
    closed: bool,
}

/// What peers may open on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// Whether they reach anything at all.
    pub allowed: bool,
    /// Ports that they reach although their service listens on 127.0.0.1 alone.
    pub loopback: Vec<PortRange>,
}

impl Default for Inbound {
    fn default() -> Self {
        Self { allowed: true, loopback: Vec::new() }
    }
}

/// Which services a peer reaches on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Never,
    /// Those that listen on every address of this host: what a peer would reach on an interface.
    Wildcard,
    /// Those that listen on 127.0.0.1 or ::1, too.
    Loopback,
}

/// Wakes both directions of a connection.
#[derive(Default)]
struct Wake {
    readable: Notify,
    writable: Notify,
}

impl Network {
    /// A network whose tasks run on `io`, the data thread's runtime.
    pub fn start(addresses: OverlayAddrs, mtu: u16, io: &Handle) -> Self {
        let (network, knocking) = Self::new(addresses, mtu);
        network.run(inbound::serve(network.clone(), knocking), io);
        network
    }

    /// A network that does nothing by itself yet, and what is asked of it.
    fn new(addresses: OverlayAddrs, mtu: u16) -> (Self, mpsc::Receiver<Event>) {
        let (knocks, knocking) = mpsc::channel(KNOCKS);
        let settings = Settings { addresses, mtu, seed: rand::random() };
        let state = State {
            stack: Stack::new(settings, peerup_clock::now()),
            flows: BTreeMap::new(),
            conversations: BTreeMap::new(),
            sessions: BTreeMap::new(),
            forward: VecDeque::new(),
            knocks,
            private_ports: BTreeMap::new(),
            inbound: Inbound::default(),
            sleeping_until: None,
            tasks: Vec::new(),
            closed: false,
        };
        let network = Self {
            inner: Arc::new(Inner {
                mtu,
                state: Mutex::new(state),
                frames: Notify::new(),
                deadline: Notify::new(),
                forwarded: Notify::new(),
            }),
        };
        (network, knocking)
    }

    fn run(&self, serve: impl Future<Output = ()> + Send + 'static, io: &Handle) {
        let tasks = [io.spawn(serve).abort_handle(), io.spawn(self.clone().keep_time()).abort_handle()];
        self.lock().tasks.extend(tasks);
    }

    /// Ends every connection. Clones find nothing from here on.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.tasks.drain(..).for_each(|task| task.abort());
        state.sessions.clear();
        std::mem::take(&mut state.flows).values().for_each(|wake| wake.both());
        std::mem::take(&mut state.conversations).values().for_each(|wake| wake.notify_one());
    }

    pub fn set_addresses(&self, addresses: OverlayAddrs) {
        self.with(|stack, _| stack.set_addresses(addresses));
    }

    /// Keeps peers away from a port of the daemon's own for as long as the answer is held; then it may be somebody
    /// else's.
    pub fn keep_private(&self, port: u16) -> PrivatePort {
        *self.lock().private_ports.entry(port).or_default() += 1;
        PrivatePort { network: self.clone(), port }
    }

    /// What new connections and conversations may reach.
    pub fn set_inbound(&self, inbound: Inbound) {
        self.lock().inbound = inbound;
    }

    /// How a peer's connection may reach a port of this host.
    fn access(&self, port: u16) -> Access {
        let state = self.lock();
        if !state.inbound.allowed || state.private_ports.contains_key(&port) {
            Access::Never
        } else if state.inbound.loopback.iter().any(|range| range.contains(port)) {
            Access::Loopback
        } else {
            Access::Wildcard
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the machine, and then what follows from it.
    fn with<T>(&self, act: impl FnOnce(&mut Stack, Instant) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state.stack, peerup_clock::now());
        self.follow_up(&mut state);
        result
    }

    fn follow_up(&self, state: &mut State) {
        while let Some(event) = state.stack.poll_event() {
            state.pass_on(event);
        }
        if state.stack.wants_to_send() || !state.forward.is_empty() {
            self.inner.frames.notify_one();
        }
        let next = state.stack.poll_timeout();
        if next.is_some_and(|at| state.sleeping_until.is_none_or(|until| at < until)) {
            self.inner.deadline.notify_one();
        }
    }

    async fn keep_time(self) {
        loop {
            let next = {
                let mut state = self.lock();
                let next = state.stack.poll_timeout();
                state.sleeping_until = next;
                next
            };
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => self.with(|stack, now| stack.handle_timeout(now)),
                () = self.inner.deadline.notified() => {}
            }
        }
    }
}

/// A port that no peer reaches.
pub struct PrivatePort {
    network: Network,
    port: u16,
}

impl Drop for PrivatePort {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        if let Some(holders) = state.private_ports.get_mut(&self.port) {
            *holders -= 1;
            if *holders == 0 {
                state.private_ports.remove(&self.port);
            }
        }
    }
}

impl State {
    fn pass_on(&mut self, event: Event) {
        match event {
            Event::Ready(flow) => {
                if let Some(wake) = self.flows.get(&flow) {
                    wake.both();
                }
            }
            Event::Datagrams(conversation) => {
                if let Some(wake) = self.conversations.get(&conversation) {
                    wake.notify_one();
                }
            }
            Event::Accept { flow, .. } => {
                if self.knocks.try_send(event).is_err() {
                    self.stack.refuse(flow);
                }
            }
            Event::Opened { conversation, .. } => {
                // There before its task is, so that no datagram goes unnoticed.
                self.conversations.insert(conversation, Arc::default());
                if self.knocks.try_send(event).is_err() {
                    self.conversations.remove(&conversation);
                    self.stack.close_udp(conversation);
                }
            }
        }
    }
}

impl Wake {
    fn both(&self) {
        self.readable.notify_one();
        self.writable.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_is_private_until_its_last_holder_lets_go() {
        let addresses = OverlayAddrs { v4: None, v6: "fd00::1".parse().unwrap() };
        let network = Network::start(addresses, 1380, &Handle::current());
        let (listener, association) = (network.keep_private(1080), network.keep_private(1080));
        drop(association);
        assert_eq!(network.access(1080), Access::Never);
        drop(listener);
        assert_eq!(network.access(1080), Access::Wildcard);
    }

    #[tokio::test]
    async fn a_node_that_is_closed_to_its_peers_has_no_port_for_them() {
        let addresses = OverlayAddrs { v4: None, v6: "fd00::1".parse().unwrap() };
        let network = Network::start(addresses, 1380, &Handle::current());
        let loopback = vec!["8000-8099".parse().unwrap()];
        network.set_inbound(Inbound { allowed: true, loopback: loopback.clone() });
        assert_eq!((network.access(8000), network.access(22)), (Access::Loopback, Access::Wildcard));
        network.set_inbound(Inbound { allowed: false, loopback });
        assert_eq!((network.access(8000), network.access(22)), (Access::Never, Access::Never));
    }
}
