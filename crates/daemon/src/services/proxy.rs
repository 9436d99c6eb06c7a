//! The asking side: a local listener whose connections become sessions with a peer's service.
//!
//! Each connection opens a stream of its own, on the path that is best at that moment, and stays on it: a stream
//! cannot change its connection (docs/adr/0061). A better path takes the next connections; the old one stays open
//! until its sessions have ended.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use peerup_control::api::ProxyRow;
use peerup_services::Wanted;
use peerup_types::PeerId;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::AbortHandle,
    time::sleep,
};

use super::{
    copy::copy,
    open::{explain, open},
    side::{Local, reset},
    traffic::{Bytes, Traffic},
};
use crate::api::NodeHandle;

/// Sessions of one proxy; further clients wait in the kernel's backlog.
const SESSIONS: usize = 4096;
/// Proxies at once.
pub const PROXIES: usize = 64;
/// Pause after a failed accept (out of file descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Clients that come faster than streams open.
const BACKLOG: u32 = 4096;

/// What to carry where.
#[derive(Debug, Clone)]
pub struct Plan {
    pub peer: PeerId,
    pub wanted: Wanted,
}

/// A listener that is served.
pub struct Proxy {
    pub plan: Plan,
    pub listen: SocketAddr,
    pub traffic: Arc<Traffic>,
    accepting: AbortHandle,
}

impl Drop for Proxy {
    /// Nobody new comes in; sessions under way go on.
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The proxies of this node, by number.
#[derive(Default)]
pub struct Proxies {
    open: BTreeMap<u64, Proxy>,
    last: u64,
}

impl Proxies {
    /// The new proxy's ID; `None`, and no proxy, when there are too many.
    pub fn add(&mut self, proxy: Proxy) -> Option<String> {
        if self.open.len() >= PROXIES {
            return None;
        }
        self.last += 1;
        self.open.insert(self.last, proxy);
        Some(id(self.last))
    }

    pub fn remove(&mut self, wanted: &str) -> bool {
        let number = self.open.keys().copied().find(|number| id(*number) == wanted);
        number.and_then(|number| self.open.remove(&number)).is_some()
    }

    pub fn rows(&self, name: impl Fn(&PeerId) -> String) -> Vec<ProxyRow> {
        let row = |(number, proxy): (&u64, &Proxy)| ProxyRow {
            id: id(*number),
            peer_id: proxy.plan.peer,
            peer: name(&proxy.plan.peer),
            service: proxy.plan.wanted.to_string(),
            listen_address: proxy.listen.to_string(),
            sessions: proxy.traffic.active(),
            accepted: proxy.traffic.accepted(),
            failed: proxy.traffic.failed(),
            tx_bytes: proxy.traffic.sent.get(),
            rx_bytes: proxy.traffic.received.get(),
            last_error: proxy.traffic.last_error(),
        };
        self.open.iter().map(row).collect()
    }
}

fn id(number: u64) -> String {
    format!("proxy-{number}")
}

/// Listens and serves, on the runtime this is called on.
pub async fn start(node: NodeHandle, plan: Plan, listen: SocketAddr) -> std::io::Result<Proxy> {
    let listener = listen_on(listen)?;
    let listen = listener.local_addr()?;
    let traffic = Arc::<Traffic>::default();
    let accepting = tokio::spawn(accept(listener, node, plan.clone(), traffic.clone())).abort_handle();
    Ok(Proxy { plan, listen, traffic, accepting })
}

fn listen_on(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, node: NodeHandle, plan: Plan, traffic: Arc<Traffic>) {
    let room = Arc::new(Semaphore::new(SESSIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                traffic.accept();
                let (node, plan, traffic) = (node.clone(), plan.clone(), traffic.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    carry(client, &node, &plan, &traffic).await;
                    traffic.end();
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a proxy cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn carry(client: TcpStream, node: &NodeHandle, plan: &Plan, traffic: &Traffic) {
    let remote = match open(node, plan.peer, &plan.wanted).await {
        Ok(remote) => remote,
        Err(error) => {
            reset(&client);
            return failed(plan, traffic, error.to_string());
        }
    };
    let answer = Bytes::default();
    let received = (&answer, &traffic.received);
    if let Err(error) = copy(Local::new(client), remote, &traffic.sent, &received).await {
        failed(plan, traffic, explain(&error, &plan.wanted, answer.get() > 0));
    }
}

fn failed(plan: &Plan, traffic: &Traffic, error: String) {
    tracing::debug!(peer = %plan.peer, service = %plan.wanted, error, "a session failed");
    traffic.fail(error);
}
