//! Envelopes: `{"data": …}` or `{"error": …, "hint": …}`, and bodies read within bounds.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Request, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures::stream;
use http_body_util::{BodyExt, Collected, LengthLimitError, Limited};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    MAX_REQUEST_BODY,
    api::{PlainText, StatusWord},
    error::{ApiError, ErrorKind},
    runtime::{Answer, Runtime},
};

const BODY_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const READ_LIMIT: Duration = Duration::from_secs(10);
pub(super) const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// What a handler asks.
pub(super) type Node = State<Arc<dyn Runtime>>;

pub(super) type Reply<T> = Result<Data<T>, ApiError>;

/// A successful answer.
#[derive(Serialize)]
pub(super) struct Data<T> {
    data: T,
}

impl<T> Data<T> {
    pub(super) fn of(data: T) -> Self {
        Self { data }
    }
}

impl<T: Serialize> IntoResponse for Data<T> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self)).into_response()
    }
}

/// Waits for the runtime, but not for ever.
pub(super) async fn within<T>(limit: Duration, answer: Answer<'_, T>) -> Reply<T> {
    bounded(limit, answer).await.map(Data::of)
}

pub(super) async fn bounded<T>(limit: Duration, answer: Answer<'_, T>) -> Result<T, ApiError> {
    let late = |_| ApiError::new(ErrorKind::Timeout, format!("no answer within {} s", limit.as_secs()));
    timeout(limit, answer).await.map_err(late)?
}

/// The answer of endpoints that have nothing to report but success.
pub(super) async fn done(word: &str, answer: Answer<'_, ()>) -> Reply<StatusWord> {
    bounded(WRITE_LIMIT, answer).await?;
    Ok(Data::of(StatusWord { status: word.to_owned() }))
}

/// The form the caller asked for: text with `?format=text` or `Accept: text/plain`, else JSON. Errors are JSON always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Json,
    Text,
}

impl Wanted {
    pub(super) fn show<T>(self, reply: Reply<T>) -> Shown<T> {
        Shown { wanted: self, reply }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let asked = parts
            .uri
            .query()
            .into_iter()
            .flat_map(|query| query.split('&'))
            .any(|pair| pair == "format=text");
        let accepts =
            |value: &header::HeaderValue| value.to_str().is_ok_and(|text| text.contains("text/plain"));
        let accepted = parts.headers.get_all(header::ACCEPT).iter().any(accepts);
        Ok(if asked || accepted { Self::Text } else { Self::Json })
    }
}

/// An answer that has a text form.
pub(super) struct Shown<T> {
    wanted: Wanted,
    reply: Reply<T>,
}

impl<T: Serialize + PlainText> IntoResponse for Shown<T> {
    fn into_response(self) -> Response {
        match (self.wanted, self.reply) {
            (Wanted::Text, Ok(Data { data })) => data.plain_text().into_response(),
            (Wanted::Json, Ok(data)) => data.into_response(),
            (Wanted::Json | Wanted::Text, Err(error)) => error.into_response(),
        }
    }
}

/// A JSON request body of at most 1 MiB; an empty one reads as `{}`, unknown fields are ignored.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = read_body(request.into_body()).await?;
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| ApiError::bad_request(format!("the request body is not understood: {error}")))
    }
}

async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    let Ok(read) = timeout(BODY_TIMEOUT, Limited::new(body, MAX_REQUEST_BODY).collect()).await else {
        return Err(ApiError::new(ErrorKind::Timeout, "the request body did not arrive in time"));
    };
    read.map(Collected::to_bytes).map_err(|error| match error.is::<LengthLimitError>() {
        true => ApiError::new(ErrorKind::TooLarge, "the request body is larger than 1 MiB"),
        false => ApiError::bad_request("the request body broke off"),
    })
}

/// One JSON object per line, each sent as it happens. The caller hanging up drops the receiver.
pub(super) fn lines<T: Serialize + Send + 'static>(events: mpsc::Receiver<T>) -> Response {
    let lines = stream::unfold(events, |mut events| async move {
        let event = events.recv().await?;
        let mut line = serde_json::to_string(&event).expect("events have string keys only");
        line.push('\n');
        Some((Ok::<_, Infallible>(line), events))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
