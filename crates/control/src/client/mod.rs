//! The caller's side: [`Runtime`](crate::Runtime) over the socket, one connection per request.
//!
//! "Not running" is decided by dialing, never by the existence of files, so the leftovers of a crashed daemon count as
//! no daemon.

mod lines;
mod open;

pub use open::Opened;
mod runtime;

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
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, sync::mpsc, task::AbortHandle, time::timeout};

use self::lines::Line;
use crate::{
    api::StatusWord,
    cookie::Cookie,
    error::{ApiError, ErrorKind},
};

const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// A little more than the daemon's own limits, so that its explanation arrives before ours.
const QUICK: Duration = Duration::from_secs(15);
const SLOW: Duration = Duration::from_secs(95);
const MAX_RESPONSE_BODY: usize = 16 << 20;

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

    /// Lines of JSON as they come. Dropping the receiver hangs up.
    async fn follow<T: Line>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<mpsc::Receiver<T>, ApiError> {
        let opening = self.send(method, path, body);
        let (response, connection) = timeout(SLOW, opening).await.map_err(|_| no_answer(SLOW))??;
        if !response.status().is_success() {
            return Err(decode_error(response).await);
        }
        let (lines, receiver) = mpsc::channel(T::BOUND);
        tokio::spawn(async move {
            let _connection = connection;
            tokio::select! {
                () = lines::forward(response.into_body(), &lines) => {}
                () = lines.closed() => {}
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
