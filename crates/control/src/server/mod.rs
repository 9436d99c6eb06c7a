//! The daemon's side: a private socket, a cookie beside it, and one task per connection.
//!
//! Life cycle: [`Server::bind`] dials an existing socket first, so a live daemon is never displaced and the leftovers
//! of a crashed one are replaced; the socket becomes visible only when its mode and owner are right; the cookie is
//! written after it. [`Server::serve`] answers until told to stop, gives requests in flight a moment, and removes
//! both files unless somebody else has put theirs in place.

mod answer;
mod endpoint;
mod routes;
mod socket;

use std::{fmt, future::Future, io, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use self::socket::SocketFiles;
use crate::{cookie::Cookie, runtime::Runtime};

/// Local callers at once; the rest wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 64;
/// A caller that connects has this long to send its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// What requests in flight get when the server stops.
const GRACE: Duration = Duration::from_secs(3);
/// Pause after a failed accept (out of file descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone)]
pub struct BindOptions {
    pub socket: PathBuf,
    pub cookie: PathBuf,
    /// Who may ask: the daemon's own uid, 0, and the user behind sudo. Anyone else is refused even with the cookie.
    pub allowed_uids: Vec<u32>,
    /// Who may ask besides them.
    pub group: Option<SocketGroup>,
    /// Who owns socket and cookie, when it is not the daemon's own user.
    pub owner: Option<(u32, u32)>,
}

/// A group that may use the socket. The directory belongs to it and hands its group on to what is created inside, so
/// that this room changes modes only.
#[derive(Clone)]
pub struct SocketGroup {
    /// Whether a uid, whose process runs under this gid, is a member.
    pub admits: Arc<dyn Fn(u32, u32) -> bool + Send + Sync>,
}

impl fmt::Debug for SocketGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketGroup").finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("a daemon is already running at {}", socket.display())]
    AlreadyRunning { socket: PathBuf },
    #[error("cannot create the control socket {}", socket.display())]
    Socket { socket: PathBuf, source: io::Error },
    #[error("cannot write the cookie {}", cookie.display())]
    Cookie { cookie: PathBuf, source: io::Error },
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the control socket cannot be served")]
    Listener(#[source] io::Error),
}

/// A request that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub method: &'a str,
    /// The endpoint as `docs/api.md` writes it, or `unknown`: never what the caller wrote.
    pub route: &'a str,
    pub status: u16,
    pub took: Duration,
}

/// Told of every request after its answer, refused ones included.
pub type RequestObserver = Arc<dyn Fn(&Seen<'_>) + Send + Sync>;

/// A bound, private socket that nobody is served on yet.
pub struct Server {
    listener: std::os::unix::net::UnixListener,
    cookie: Cookie,
    allowed_uids: Vec<u32>,
    group: Option<SocketGroup>,
    files: SocketFiles,
    observer: Option<RequestObserver>,
}

impl Server {
    /// The OpenAPI description that every server answers `GET /v1/openapi.json` with.
    pub fn description() -> serde_json::Value {
        routes::description()
    }

    pub async fn bind(options: BindOptions) -> Result<Self, BindError> {
        let BindOptions { socket, cookie: cookie_path, allowed_uids, group, owner } = options;
        let (socket_mode, cookie_mode) = if group.is_some() { (0o660, 0o640) } else { (0o600, 0o600) };
        let (listener, files) = socket::bind(socket, cookie_path, socket_mode, owner).await?;
        let cookie = Cookie::generate();
        cookie.write(files.cookie(), cookie_mode, owner).map_err(|source| files.cookie_error(source))?;
        Ok(Self { listener, cookie, allowed_uids, group, files, observer: None })
    }

    pub fn observed_by(self, observer: RequestObserver) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// Answers until `shutdown` resolves. Runs on any tokio runtime, not only the one it was bound on.
    pub async fn serve(
        self,
        runtime: Arc<dyn Runtime>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let listener = UnixListener::from_std(self.listener).map_err(ServeError::Listener)?;
        let router = routes::router(runtime, self.cookie, self.observer);
        let door = Door { router, allowed_uids: self.allowed_uids, group: self.group };
        let (stop, stopping) = watch::channel(());
        let mut connections = JoinSet::new();
        accept_until(shutdown, &listener, &door, &stopping, &mut connections).await;
        drop(listener);
        stop.send_replace(());
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(GRACE, drained).await.is_err() {
            connections.shutdown().await;
        }
        drop(self.files);
        Ok(())
    }
}

/// Decides by uid which router a connection meets.
struct Door {
    router: Router,
    allowed_uids: Vec<u32>,
    group: Option<SocketGroup>,
}

impl Door {
    fn admits(&self, uid: u32, gid: u32) -> bool {
        self.allowed_uids.contains(&uid) || self.group.as_ref().is_some_and(|group| (group.admits)(uid, gid))
    }

    fn open(&self, stream: &UnixStream) -> Router {
        match stream.peer_cred() {
            Ok(credentials) if self.admits(credentials.uid(), credentials.gid()) => self.router.clone(),
            Ok(credentials) => {
                warn!(uid = credentials.uid(), "refused a local user at the control socket");
                routes::refusal()
            }
            Err(error) => {
                warn!(%error, "cannot tell who connected to the control socket");
                routes::refusal()
            }
        }
    }
}

async fn accept_until(
    shutdown: impl Future<Output = ()>,
    listener: &UnixListener,
    door: &Door,
    stopping: &watch::Receiver<()>,
    connections: &mut JoinSet<()>,
) {
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, "a control request ended badly");
                }
            }
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let router = door.open(&stream);
                    connections.spawn(answer_connection(stream, router, stopping.clone()));
                }
                Err(error) => {
                    warn!(%error, "cannot accept on the control socket");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn answer_connection(stream: UnixStream, router: Router, mut stopping: watch::Receiver<()>) {
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
            .with_upgrades()
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a control connection broke off");
    }
}
