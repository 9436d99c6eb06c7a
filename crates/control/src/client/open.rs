//! The caller's side of `POST /v1/open`.

use http_body_util::Full;
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};

use super::{Client, SLOW, broke_off, decode_error, dial, encode, no_answer, not_understood};
use crate::{
    ClientError, OPENED,
    api::{OpenReport, OpenRequest},
    error::ApiError,
};

/// A connection that is no HTTP any more.
pub struct Opened {
    pub socket: UnixStream,
    /// What arrived right behind the answer: a server that speaks first.
    pub early: Vec<u8>,
    pub report: OpenReport,
}

impl Client {
    /// Opens what is asked for; the socket is this process's from here on.
    pub async fn open(&self, request: &OpenRequest) -> Result<Opened, ApiError> {
        timeout(SLOW, self.upgrade(request)).await.map_err(|_| no_answer(SLOW))?
    }

    async fn upgrade(&self, request: &OpenRequest) -> Result<Opened, ApiError> {
        let stream = dial(&self.socket)
            .await
            .map_err(|source| ClientError::new(&self.socket, &self.socket, source))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke_off)?;
        tokio::spawn(connection.with_upgrades());
        let request = Request::post("/v1/open")
            .header(header::HOST, "peerup")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.cookie.as_str()))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "peerup")
            .body(Full::new(encode(request)))
            .map_err(|error| ApiError::failure(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(broke_off)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(decode_error(response).await);
        }
        let report = response.headers().get(OPENED).map_or(&[][..], |value| value.as_bytes());
        let report = serde_json::from_slice(report).map_err(not_understood)?;
        let upgraded = hyper::upgrade::on(response).await.map_err(broke_off)?;
        let parts = upgraded
            .downcast::<TokioIo<UnixStream>>()
            .map_err(|_| ApiError::failure("the connection to the daemon is no unix socket"))?;
        Ok(Opened { socket: parts.io.into_inner(), early: parts.read_buf.to_vec(), report })
    }
}
