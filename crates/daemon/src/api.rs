//! The [`Runtime`] of this node: requests to the control loop, answers back.

use std::time::Duration;

use peerup_control::api::{ConnectReport, ConnectRequest, ExposeRequest, ProxyRow, ServiceRow};
use peerup_control::api::{JournalReport, WhyReport};
use peerup_control::{
    Answer, ApiError, ErrorKind, Opening, Runtime,
    api::{
        AuthAdd, AuthEdit, AuthRow, ConfigReport, DownReport, Event, InviteEvent, InviteRequest, JoinReport,
        JoinRequest, NetcheckReport, OpenRequest, Overview, PathOverview, PathRow, PeerRow,
        PingReply as Reply, PingReport, PingRequest, PingStats, ResolveReport, ResolveRequest, ResolveSource,
        StatusReport, TraceReport, TraceRequest, UpReport,
    },
};
use peerup_types::PeerId;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::controller::ServiceRequest;
use crate::trace::RelayHop;

/// Requests waiting for the loop; further callers wait.
pub const REQUESTS: usize = 64;
/// How long a ping waits for its answer.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the first ping waits for a peer that is being reached.
const REACH_TIMEOUT: Duration = Duration::from_secs(8);
/// Between two looks at whether it has been reached.
const REACH_EVERY: Duration = Duration::from_millis(100);

pub enum Request {
    Services(ServiceRequest),
    Overview(oneshot::Sender<Overview>),
    Status(oneshot::Sender<StatusReport>),
    Peers { all: bool, reply: oneshot::Sender<Vec<PeerRow>> },
    Paths(oneshot::Sender<Vec<PathRow>>),
    Netcheck(oneshot::Sender<NetcheckReport>),
    Resolve { target: String, reply: oneshot::Sender<Result<Target, ApiError>> },
    Ping { peer: PeerId, reply: PingReply },
    RelayHop { peer: PeerId, reply: oneshot::Sender<Option<RelayHop>> },
    Invite { request: InviteRequest, reply: oneshot::Sender<Result<mpsc::Receiver<InviteEvent>, ApiError>> },
    Join { request: JoinRequest, reply: oneshot::Sender<Result<JoinReport, ApiError>> },
    AuthList(oneshot::Sender<Vec<AuthRow>>),
    AuthAdd { request: AuthAdd, reply: oneshot::Sender<Result<(), ApiError>> },
    AuthEdit { peer: PeerId, edit: AuthEdit, reply: oneshot::Sender<Result<(), ApiError>> },
    AuthRemove { peer: PeerId, reply: oneshot::Sender<Result<(), ApiError>> },
    Why { peer: PeerId, reply: oneshot::Sender<Result<WhyReport, ApiError>> },
    Journal { peer: PeerId, reply: oneshot::Sender<Result<JournalReport, ApiError>> },
    Events(oneshot::Sender<Result<mpsc::Receiver<Event>, ApiError>>),
    Config(oneshot::Sender<ConfigReport>),
    Metrics(oneshot::Sender<Option<String>>),
    Doors(oneshot::Sender<Result<crate::front::Doors, ApiError>>),
    Reload(oneshot::Sender<Result<(), ApiError>>),
    Up(oneshot::Sender<Result<UpReport, ApiError>>),
    Down(oneshot::Sender<Result<DownReport, ApiError>>),
    Shutdown(oneshot::Sender<Result<(), ApiError>>),
}

/// A probe under way and the path it took, or why there was none.
pub type PingReply = oneshot::Sender<Result<(oneshot::Receiver<Duration>, PathOverview), NotReached>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReached {
    Unknown,
    Connecting,
    Offline,
}

/// A peer that somebody named.
#[derive(Debug, Clone)]
pub struct Target {
    pub peer: PeerId,
    pub name: Option<String>,
    pub ips: Vec<std::net::IpAddr>,
    pub source: ResolveSource,
}

/// A handle on the control loop. The loop of a pairing host ends with its last handle.
#[derive(Clone)]
pub struct NodeHandle {
    requests: mpsc::Sender<Request>,
    /// The runtime of the data thread, where sessions run.
    pub io: Handle,
}

impl NodeHandle {
    pub fn new(requests: mpsc::Sender<Request>, io: Handle) -> Self {
        Self { requests, io }
    }

    pub async fn doors(&self) -> Result<crate::front::Doors, ApiError> {
        self.try_ask(Request::Doors).await
    }

    pub async fn target(&self, target: String) -> Result<Target, ApiError> {
        self.try_ask(|reply| Request::Resolve { target, reply }).await
    }

    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        let stopped = || ApiError::new(ErrorKind::NotRunning, "the daemon is stopping");
        self.requests.send(request(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }

    pub(crate) async fn try_ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, ApiError>>) -> Request,
    ) -> Result<T, ApiError> {
        self.ask(request).await?
    }

    /// The page for Prometheus; `None` when metrics are off or the daemon is stopping.
    pub async fn metrics_page(&self) -> Option<String> {
        self.ask(Request::Metrics).await.ok()?
    }

    async fn resolve_one(&self, request: ResolveRequest) -> Result<ResolveReport, ApiError> {
        let name = request.name.clone();
        let found = self.try_ask(|reply| Request::Resolve { target: request.name, reply }).await?;
        let Target { peer, name: known_as, ips, source } = found;
        Ok(ResolveReport { name, peer_id: peer, source, known_as, ips })
    }

    async fn ping_all(&self, request: PingRequest) -> Result<PingReport, ApiError> {
        let PingRequest { peer, count, interval_ms } = request.normalised();
        let target = self.try_ask(|reply| Request::Resolve { target: peer, reply }).await?;
        let mut results = Vec::new();
        for seq in 1..=count {
            let next = Instant::now() + Duration::from_millis(interval_ms);
            results.push(self.ping_once(seq, target.peer).await?);
            if seq < count {
                sleep_until(next).await;
            }
        }
        let stats = PingStats::of(&results);
        Ok(PingReport {
            peer_id: target.peer,
            name: target.name,
            address: target.ips.first().copied(),
            results,
            stats,
        })
    }

    pub(crate) async fn ping_once(&self, seq: u32, peer: PeerId) -> Result<Reply, ApiError> {
        let give_up = Instant::now() + REACH_TIMEOUT;
        loop {
            match self.ask(|reply| Request::Ping { peer, reply }).await? {
                Ok((answer, via)) => return Ok(await_answer(seq, peer, answer, via).await),
                Err(NotReached::Unknown) => return Ok(Reply::lost(seq, peer, "not an authorized peer")),
                Err(NotReached::Connecting | NotReached::Offline) if Instant::now() < give_up => {
                    sleep(REACH_EVERY).await;
                }
                Err(NotReached::Connecting) => return Ok(Reply::lost(seq, peer, "no path yet")),
                Err(NotReached::Offline) => return Ok(Reply::lost(seq, peer, "offline")),
            }
        }
    }
}

async fn await_answer(
    seq: u32,
    peer: PeerId,
    answer: oneshot::Receiver<Duration>,
    via: PathOverview,
) -> Reply {
    match timeout(PING_TIMEOUT, answer).await {
        Ok(Ok(rtt)) => Reply::answered(seq, peer, rtt.as_secs_f64() * 1000.0, via),
        Ok(Err(_)) | Err(_) => Reply::lost(seq, peer, "no answer"),
    }
}

impl Runtime for NodeHandle {
    fn overview(&self) -> Answer<'_, Overview> {
        Box::pin(self.ask(Request::Overview))
    }

    fn status(&self) -> Answer<'_, StatusReport> {
        Box::pin(self.ask(Request::Status))
    }

    fn peers(&self, all: bool) -> Answer<'_, Vec<PeerRow>> {
        Box::pin(self.ask(move |reply| Request::Peers { all, reply }))
    }

    fn paths(&self) -> Answer<'_, Vec<PathRow>> {
        Box::pin(self.ask(Request::Paths))
    }

    fn netcheck(&self) -> Answer<'_, NetcheckReport> {
        Box::pin(self.ask(Request::Netcheck))
    }

    fn ping(&self, request: PingRequest) -> Answer<'_, PingReport> {
        Box::pin(self.ping_all(request))
    }

    fn trace(&self, request: TraceRequest) -> Answer<'_, TraceReport> {
        Box::pin(self.trace_route(request))
    }

    fn resolve(&self, request: ResolveRequest) -> Answer<'_, ResolveReport> {
        Box::pin(self.resolve_one(request))
    }

    fn why(&self, peer: String) -> Answer<'_, WhyReport> {
        Box::pin(async move {
            let target = self.try_ask(|reply| Request::Resolve { target: peer, reply }).await?;
            self.try_ask(|reply| Request::Why { peer: target.peer, reply }).await
        })
    }

    fn journal(&self, peer: String) -> Answer<'_, JournalReport> {
        Box::pin(async move {
            let target = self.try_ask(|reply| Request::Resolve { target: peer, reply }).await?;
            self.try_ask(|reply| Request::Journal { peer: target.peer, reply }).await
        })
    }

    fn events(&self) -> Answer<'_, mpsc::Receiver<Event>> {
        Box::pin(self.try_ask(Request::Events))
    }

    fn config(&self) -> Answer<'_, ConfigReport> {
        Box::pin(self.ask(Request::Config))
    }

    fn open(&self, request: OpenRequest) -> Answer<'_, Opening> {
        Box::pin(crate::front::open(self, request))
    }

    fn invite(&self, request: InviteRequest) -> Answer<'_, mpsc::Receiver<InviteEvent>> {
        Box::pin(self.try_ask(move |reply| Request::Invite { request, reply }))
    }

    fn join(&self, request: JoinRequest) -> Answer<'_, JoinReport> {
        Box::pin(self.try_ask(move |reply| Request::Join { request, reply }))
    }

    fn services(&self) -> Answer<'_, Vec<ServiceRow>> {
        Box::pin(self.list_services())
    }

    fn expose(&self, request: ExposeRequest) -> Answer<'_, ()> {
        Box::pin(self.expose_service(request))
    }

    fn unexpose(&self, name: String) -> Answer<'_, ()> {
        Box::pin(self.unexpose_service(name))
    }

    fn proxies(&self) -> Answer<'_, Vec<ProxyRow>> {
        Box::pin(self.list_proxies())
    }

    fn connect(&self, request: ConnectRequest) -> Answer<'_, ConnectReport> {
        Box::pin(self.start_proxy(request))
    }

    fn disconnect(&self, id: String) -> Answer<'_, ()> {
        Box::pin(self.stop_proxy(id))
    }

    fn auth_list(&self) -> Answer<'_, Vec<AuthRow>> {
        Box::pin(self.ask(Request::AuthList))
    }

    fn auth_add(&self, request: AuthAdd) -> Answer<'_, ()> {
        Box::pin(self.try_ask(move |reply| Request::AuthAdd { request, reply }))
    }

    fn auth_edit(&self, peer: PeerId, edit: AuthEdit) -> Answer<'_, ()> {
        Box::pin(self.try_ask(move |reply| Request::AuthEdit { peer, edit, reply }))
    }

    fn auth_remove(&self, peer: PeerId) -> Answer<'_, ()> {
        Box::pin(self.try_ask(move |reply| Request::AuthRemove { peer, reply }))
    }

    fn reload(&self) -> Answer<'_, ()> {
        Box::pin(self.try_ask(Request::Reload))
    }

    fn up(&self) -> Answer<'_, UpReport> {
        Box::pin(self.try_ask(Request::Up))
    }

    fn down(&self) -> Answer<'_, DownReport> {
        Box::pin(self.try_ask(Request::Down))
    }

    fn shutdown(&self) -> Answer<'_, ()> {
        Box::pin(self.try_ask(Request::Shutdown))
    }
}
