//! Connections that stop being HTTP.

use std::time::Duration;

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tracing::debug;

use crate::{
    OPENED,
    api::{OpenReport, OpenRequest},
    error::ApiError,
    runtime::Opening,
    server::{
        answer::{Asked, Node, bounded},
        endpoint::{Endpoint, Form, Group},
    },
};

/// A peer may have to be reached first.
const OPEN_LIMIT: Duration = Duration::from_secs(45);

pub(super) fn group() -> Group {
    Group::default().on(
        Endpoint::post::<OpenReport>(
            "/v1/open",
            "Turns this connection into one to a peer, or into a proxy's",
        )
        .takes::<OpenRequest>()
        .form(Form::Upgrade),
        open,
    )
}

async fn open(node: Node, mut request: Request) -> Result<Response, ApiError> {
    let upgrading = hyper::upgrade::on(&mut request);
    let Asked(asked) = Asked::<OpenRequest>::from_request(request, &()).await?;
    let Opening { report, serve } = bounded(OPEN_LIMIT, node.open(asked)).await?;
    tokio::spawn(async move {
        let upgraded = match upgrading.await {
            Ok(upgraded) => upgraded,
            Err(error) => return debug!(%error, "a connection was opened for a caller that hung up"),
        };
        // The caller says nothing before it has read the answer, so nothing of it is left in a buffer.
        if let Ok(parts) = upgraded.downcast::<TokioIo<UnixStream>>() {
            serve(parts.io.into_inner());
        }
    });
    let report = serde_json::to_string(&report).map_err(|error| ApiError::failure(error.to_string()))?;
    let report = HeaderValue::from_str(&report).map_err(|error| ApiError::failure(error.to_string()))?;
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("peerup")),
        (header::HeaderName::from_static(OPENED), report),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}
