//! A server on a real socket, with a node behind it that answers from memory.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use peerup_control::{
    Answer, ApiError, BindOptions, Client, ErrorKind, INVITE_EVENT_BOUND, Runtime, Server,
    api::{
        AuthAdd, AuthRow, DownReport, InviteEvent, InviteRequest, JoinReport, JoinRequest, Overview, PathRow,
        PeerRow, PingReply, PingReport, PingRequest, PingStats, Reachability, SCHEMA, SelfOverview,
        StatusReport, Timestamp, UpReport,
    },
};
use peerup_types::PeerId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

pub struct Daemon {
    pub dir: tempfile::TempDir,
    pub node: Arc<FakeNode>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Daemon {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), own_uids()).await
    }

    pub async fn start_in(dir: tempfile::TempDir, uids: Vec<u32>) -> Self {
        let options = options(dir.path(), uids);
        Self::start_with(dir, options).await
    }

    pub async fn start_with(dir: tempfile::TempDir, options: BindOptions) -> Self {
        let server = Server::bind(options).await.unwrap();
        let node = Arc::new(FakeNode::default());
        let (stop, stopped) = oneshot::channel();
        let runtime = node.clone();
        let task = tokio::spawn(async move {
            server.serve(runtime, async { stopped.await.unwrap() }).await.unwrap();
        });
        Self { dir, node, stop, task }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("peerup.sock")
    }

    pub fn cookie(&self) -> PathBuf {
        self.dir.path().join("cookie")
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.socket(), &self.cookie()).await.unwrap()
    }

    pub async fn raw(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        // The server may answer and close before it has read a body it refuses.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    pub async fn stop(self) -> tempfile::TempDir {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
        self.dir
    }
}

pub fn options(dir: &Path, allowed_uids: Vec<u32>) -> BindOptions {
    BindOptions {
        socket: dir.join("peerup.sock"),
        cookie: dir.join("cookie"),
        allowed_uids,
        group: None,
        owner: None,
    }
}

pub fn own_uids() -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    vec![fs::metadata("/proc/self").unwrap().uid()]
}

pub fn code() -> InviteEvent {
    InviteEvent::Code { code: "AEBA-GBAF".into(), expires_at: Timestamp::from_unix(1_767_225_600) }
}

pub fn bad_code() -> ApiError {
    ApiError::new(ErrorKind::NotAuthorised, "the code is wrong").with_hint("ask for a new one")
}

#[derive(Default)]
pub struct FakeNode {
    id: std::sync::OnceLock<PeerId>,
    /// Everything that was asked.
    pub asked: AtomicUsize,
    pub commands: AtomicUsize,
    pub invites: Mutex<Option<mpsc::Sender<InviteEvent>>>,
}

impl FakeNode {
    fn id(&self) -> PeerId {
        *self.id.get_or_init(PeerId::random)
    }

    fn command<T: Send + 'static>(&self, answer: T) -> Answer<'_, T> {
        self.commands.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(answer) })
    }

    fn absent<T: 'static>(&self) -> Answer<'_, T> {
        Box::pin(async { Err(ApiError::new(ErrorKind::NotFound, "not here")) })
    }
}

impl Runtime for FakeNode {
    fn overview(&self) -> Answer<'_, Overview> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let this = SelfOverview {
            id: self.id(),
            name: Some("laptop".into()),
            ips: vec!["10.64.0.1".parse().unwrap()],
            version: "0.1.0".into(),
            uptime_s: 1,
            reachability: Reachability::Private,
        };
        Box::pin(async {
            Ok(Overview {
                schema: SCHEMA,
                this,
                peers: vec![],
                relays: vec![],
                health: vec![],
                proxies: vec![],
                relaying: Default::default(),
            })
        })
    }

    fn status(&self) -> Answer<'_, StatusReport> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.absent()
    }

    fn peers(&self, _all: bool) -> Answer<'_, Vec<PeerRow>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(vec![]) })
    }

    fn paths(&self) -> Answer<'_, Vec<PathRow>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.absent()
    }

    fn ping(&self, request: PingRequest) -> Answer<'_, PingReport> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let peer_id = self.id();
        let results: Vec<_> =
            (1..=request.count).map(|seq| PingReply::lost(seq, peer_id, "timed out")).collect();
        let stats = PingStats::of(&results);
        Box::pin(async move { Ok(PingReport { peer_id, name: None, address: None, results, stats }) })
    }

    fn invite(&self, _request: InviteRequest) -> Answer<'_, mpsc::Receiver<InviteEvent>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (sender, receiver) = mpsc::channel(INVITE_EVENT_BOUND);
        *self.invites.lock().unwrap() = Some(sender);
        Box::pin(async { Ok(receiver) })
    }

    fn join(&self, _request: JoinRequest) -> Answer<'_, JoinReport> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Err(bad_code()) })
    }

    fn auth_list(&self) -> Answer<'_, Vec<AuthRow>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(vec![]) })
    }

    fn auth_add(&self, _request: AuthAdd) -> Answer<'_, ()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.command(())
    }

    fn auth_remove(&self, _peer: PeerId) -> Answer<'_, ()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.absent()
    }

    fn reload(&self) -> Answer<'_, ()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.command(())
    }

    fn up(&self) -> Answer<'_, UpReport> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.absent()
    }

    fn down(&self) -> Answer<'_, DownReport> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.command(DownReport { interface: None, daemon_exits: true })
    }

    fn shutdown(&self) -> Answer<'_, ()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.command(())
    }
}
