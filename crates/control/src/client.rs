//! The caller's side: [`Runtime`] over the socket, one connection per request.
//!
//! "Not running" is decided by dialing, never by the existence of files, so the leftovers of a crashed daemon count as
//! no daemon.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use peerup_types::PeerId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, sync::mpsc, task::AbortHandle, time::timeout};

use crate::{
    api::{
        AuthAdd, AuthRow, DownReport, InviteEvent, InviteRequest, JoinReport, JoinRequest, Overview, PathRow,
        PeerRow, PingReport, PingRequest, StatusReport, StatusWord, UpReport,
    },
    cookie::Cookie,
    error::{ApiError, ErrorKind},
    runtime::{Answer, INVITE_EVENT_BOUND, Runtime},
};

const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// A little more than the daemon's own limits, so that its explanation arrives before ours.
const QUICK: Duration = Duration::from_secs(15);
const SLOW: Duration = Duration::from_secs(95);
const MAX_RESPONSE_BODY: usize = 16 << 20;
const MAX_EVENT_LINE: usize = 64 << 10;

/// A daemon that answered when it was dialed.
#[derive(Clone)]
pub struct Client {
    socket: PathBuf,
    cookie: Cookie,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No socket, no cookie, or nobody behind them.
    #[error("the daemon is not running")]
    NotRunning { socket: PathBuf },
    #[error("not allowed to talk to the daemon at {}", path.display())]
    Forbidden { path: PathBuf, source: io::Error },
    #[error("cannot talk to the daemon at {}", path.display())]
    Broken { path: PathBuf, source: io::Error },
}

impl ClientError {
    fn new(socket: &Path, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut => {
                Self::NotRunning { socket: socket.to_owned() }
            }
            io::ErrorKind::PermissionDenied => Self::Forbidden { path, source },
            _ => Self::Broken { path, source },
        }
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotRunning { .. } => ErrorKind::NotRunning,
            Self::Forbidden { .. } => ErrorKind::NotAuthorised,
            Self::Broken { .. } => ErrorKind::Failure,
        }
    }

    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotRunning { .. } => Some("start it with `peerup up`"),
            Self::Forbidden { .. } => Some("run the command as the user the daemon belongs to, or with sudo"),
            Self::Broken { .. } => None,
        }
    }
}

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        let answer = Self::new(error.kind(), error.to_string());
        match error.hint() {
            Some(hint) => answer.with_hint(hint),
            None => answer,
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the cookie and dials once, so that success means somebody is there.
    pub async fn connect(socket: &Path, cookie: &Path) -> Result<Self, ClientError> {
        dial(socket).await.map_err(|source| ClientError::new(socket, socket, source))?;
        let read = Cookie::read(cookie).map_err(|source| ClientError::new(socket, cookie, source))?;
        Ok(Self { socket: socket.to_owned(), cookie: read })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.ask(Method::GET, path, Bytes::new(), QUICK).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ApiError> {
        self.ask(Method::POST, path, encode(body), SLOW).await
    }

    async fn command(&self, method: Method, path: &str) -> Result<(), ApiError> {
        self.ask::<StatusWord>(method, path, Bytes::new(), SLOW).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<T, ApiError> {
        let asked = async {
            let (response, _connection) = self.send(method, path, body).await?;
            decode(response).await
        };
        timeout(limit, asked).await.map_err(|_| no_answer(limit))?
    }

    /// The response head, and the guard that keeps the connection driven while its body is read.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Connection), ApiError> {
        let stream = dial(&self.socket)
            .await
            .map_err(|source| ClientError::new(&self.socket, &self.socket, source))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke_off)?;
        let guard = Connection(tokio::spawn(connection).abort_handle());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "peerup")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.cookie.as_str()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|_| ApiError::bad_request(format!("{path:?} is not a request path")))?;
        Ok((sender.send_request(request).await.map_err(broke_off)?, guard))
    }

    async fn open_invite(&self, request: &InviteRequest) -> Result<mpsc::Receiver<InviteEvent>, ApiError> {
        let opening = self.send(Method::POST, "/v1/invite", encode(request));
        let (response, connection) = timeout(SLOW, opening).await.map_err(|_| no_answer(SLOW))??;
        if !response.status().is_success() {
            return Err(decode_error(response).await);
        }
        let (events, receiver) = mpsc::channel(INVITE_EVENT_BOUND);
        tokio::spawn(async move {
            let _connection = connection;
            tokio::select! {
                () = forward_events(response.into_body(), &events) => {}
                () = events.closed() => {}
            }
        });
        Ok(receiver)
    }
}

/// Ends the connection's task, and with it the connection, when dropped.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn dial(socket: &Path) -> io::Result<UnixStream> {
    timeout(DIAL_TIMEOUT, UnixStream::connect(socket)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

fn encode(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("requests have string keys only").into()
}

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

async fn decode<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ApiError> {
    if !response.status().is_success() {
        return Err(decode_error(response).await);
    }
    let bytes = read(response).await?;
    let envelope: Envelope<T> = serde_json::from_slice(&bytes).map_err(not_understood)?;
    Ok(envelope.data)
}

async fn decode_error(response: Response<Incoming>) -> ApiError {
    let status = response.status();
    let fallback = || ApiError::failure(format!("the daemon answered {status}"));
    match read(response).await {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|_| fallback()),
        Err(_) => fallback(),
    }
}

async fn read(response: Response<Incoming>) -> Result<Bytes, ApiError> {
    let body = Limited::new(response.into_body(), MAX_RESPONSE_BODY).collect().await;
    body.map(|body| body.to_bytes())
        .map_err(|error| ApiError::failure(format!("the daemon's answer: {error}")))
}

/// Splits the body into lines and hands each over; a torn stream or a bad line ends it with `Failed`.
async fn forward_events(mut body: Incoming, events: &mpsc::Sender<InviteEvent>) {
    let mut pending = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        pending.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let event = parse_event(&line);
            let last = event.is_last();
            if events.send(event).await.is_err() || last {
                return;
            }
        }
        if pending.len() > MAX_EVENT_LINE {
            break;
        }
    }
    let _ = events
        .send(InviteEvent::Failed(ApiError::failure("the daemon stopped while the invite was open")))
        .await;
}

fn parse_event(line: &[u8]) -> InviteEvent {
    serde_json::from_slice(line).unwrap_or_else(|error| InviteEvent::Failed(not_understood(error)))
}

fn broke_off(error: hyper::Error) -> ApiError {
    ApiError::failure(format!("the connection to the daemon broke off: {error}"))
}

fn not_understood(error: serde_json::Error) -> ApiError {
    ApiError::failure(format!("the daemon's answer is not understood: {error}"))
        .with_hint("daemon and command differ in version: restart it with `peerup down` and `peerup up`")
}

fn no_answer(limit: Duration) -> ApiError {
    ApiError::new(ErrorKind::Timeout, format!("the daemon did not answer within {} s", limit.as_secs()))
}

impl Runtime for Client {
    fn overview(&self) -> Answer<'_, Overview> {
        Box::pin(self.get("/v1/overview"))
    }

    fn status(&self) -> Answer<'_, StatusReport> {
        Box::pin(self.get("/v1/status"))
    }

    fn peers(&self, all: bool) -> Answer<'_, Vec<PeerRow>> {
        Box::pin(self.get(if all { "/v1/peers?all=true" } else { "/v1/peers" }))
    }

    fn paths(&self) -> Answer<'_, Vec<PathRow>> {
        Box::pin(self.get("/v1/paths"))
    }

    fn ping(&self, request: PingRequest) -> Answer<'_, PingReport> {
        Box::pin(async move {
            let request = request.normalised();
            let run = Duration::from_millis(request.interval_ms) * request.count;
            self.ask(Method::POST, "/v1/ping", encode(&request), run + SLOW).await
        })
    }

    fn invite(&self, request: InviteRequest) -> Answer<'_, mpsc::Receiver<InviteEvent>> {
        Box::pin(async move { self.open_invite(&request).await })
    }

    fn join(&self, request: JoinRequest) -> Answer<'_, JoinReport> {
        Box::pin(async move { self.post("/v1/join", &request).await })
    }

    fn auth_list(&self) -> Answer<'_, Vec<AuthRow>> {
        Box::pin(self.get("/v1/auth"))
    }

    fn auth_add(&self, request: AuthAdd) -> Answer<'_, ()> {
        Box::pin(async move { self.post::<StatusWord>("/v1/auth", &request).await.map(drop) })
    }

    fn auth_remove(&self, peer: PeerId) -> Answer<'_, ()> {
        Box::pin(async move { self.command(Method::DELETE, &format!("/v1/auth/{peer}")).await })
    }

    fn reload(&self) -> Answer<'_, ()> {
        Box::pin(self.command(Method::POST, "/v1/reload"))
    }

    fn up(&self) -> Answer<'_, UpReport> {
        Box::pin(self.post("/v1/up", &()))
    }

    fn down(&self) -> Answer<'_, DownReport> {
        Box::pin(self.post("/v1/down", &()))
    }

    fn shutdown(&self) -> Answer<'_, ()> {
        Box::pin(self.command(Method::POST, "/v1/shutdown"))
    }
}
