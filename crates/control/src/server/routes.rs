//! The endpoints, and the cookie check before all of them.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::Deserialize;

use super::answer::{Asked, Data, Reply, bounded, event_lines, within};
use crate::{
    api::{
        AuthAdd, AuthRow, DownReport, InviteRequest, JoinReport, JoinRequest, Overview, PathRow, PeerRow,
        PingReport, PingRequest, StatusReport, StatusWord, UpReport,
    },
    cookie::Cookie,
    error::{ApiError, ErrorKind},
    runtime::{Answer, Runtime},
};

type Node = State<Arc<dyn Runtime>>;

const READ_LIMIT: Duration = Duration::from_secs(10);
const WRITE_LIMIT: Duration = Duration::from_secs(60);
/// Opening an invite reaches a relay; joining also finds the inviter there.
const PAIRING_LIMIT: Duration = Duration::from_secs(90);
/// A ping may have to connect first.
const PING_MARGIN: Duration = Duration::from_secs(30);

pub(super) fn router(runtime: Arc<dyn Runtime>, cookie: Cookie) -> Router {
    Router::new()
        .route("/v1/overview", get(overview))
        .route("/v1/status", get(status))
        .route("/v1/peers", get(peers))
        .route("/v1/paths", get(paths))
        .route("/v1/auth", get(auth_list).post(auth_add))
        .route("/v1/auth/{peer}", delete(auth_remove))
        .route("/v1/ping", post(ping))
        .route("/v1/invite", post(invite))
        .route("/v1/join", post(join))
        .route("/v1/reload", post(reload))
        .route("/v1/up", post(up))
        .route("/v1/down", post(down))
        .route("/v1/shutdown", post(shutdown))
        .fallback(unknown_endpoint)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(cookie, require_cookie))
        .with_state(runtime)
}

/// What a uid without permission meets, whatever it asks.
pub(super) fn refusal() -> Router {
    Router::new().fallback(|| async {
        ApiError::new(ErrorKind::NotAuthorised, "this user may not control the daemon")
            .with_hint("run the command as the user the daemon belongs to, or with sudo")
    })
}

async fn require_cookie(State(cookie): State<Cookie>, request: Request, next: Next) -> Response {
    if bearer(request.headers()).is_some_and(|presented| cookie.matches(presented)) {
        return next.run(request).await;
    }
    ApiError::new(ErrorKind::NotAuthenticated, "the request does not carry the daemon's cookie")
        .into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(header::AUTHORIZATION)?.as_bytes().strip_prefix(b"Bearer ")
}

async fn unknown_endpoint() -> ApiError {
    ApiError::new(ErrorKind::NotFound, "no such endpoint")
}

async fn wrong_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, ApiError::bad_request("this endpoint does not take that method"))
        .into_response()
}

async fn overview(node: Node) -> Reply<Overview> {
    within(READ_LIMIT, node.overview()).await
}

async fn status(node: Node) -> Reply<StatusReport> {
    within(READ_LIMIT, node.status()).await
}

#[derive(Deserialize)]
struct PeersQuery {
    #[serde(default)]
    all: bool,
}

async fn peers(node: Node, query: Result<Query<PeersQuery>, QueryRejection>) -> Reply<Vec<PeerRow>> {
    let Query(query) = query.map_err(|error| ApiError::bad_request(error.body_text()))?;
    within(READ_LIMIT, node.peers(query.all)).await
}

async fn paths(node: Node) -> Reply<Vec<PathRow>> {
    within(READ_LIMIT, node.paths()).await
}

async fn ping(node: Node, Asked(request): Asked<PingRequest>) -> Reply<PingReport> {
    let request = request.normalised();
    let run = Duration::from_millis(request.interval_ms) * request.count;
    within(run + PING_MARGIN, node.ping(request)).await
}

async fn invite(node: Node, Asked(request): Asked<InviteRequest>) -> Result<Response, ApiError> {
    bounded(PAIRING_LIMIT, node.invite(request)).await.map(event_lines)
}

async fn join(node: Node, Asked(request): Asked<JoinRequest>) -> Reply<JoinReport> {
    within(PAIRING_LIMIT, node.join(request)).await
}

async fn auth_list(node: Node) -> Reply<Vec<AuthRow>> {
    within(READ_LIMIT, node.auth_list()).await
}

async fn auth_add(node: Node, Asked(request): Asked<AuthAdd>) -> Reply<StatusWord> {
    done("added", node.auth_add(request)).await
}

async fn auth_remove(node: Node, Path(peer): Path<String>) -> Reply<StatusWord> {
    let peer = peer.parse().map_err(|_| ApiError::bad_request(format!("`{peer}` is not a peer ID")))?;
    done("removed", node.auth_remove(peer)).await
}

async fn reload(node: Node) -> Reply<StatusWord> {
    done("reloaded", node.reload()).await
}

async fn up(node: Node) -> Reply<UpReport> {
    within(WRITE_LIMIT, node.up()).await
}

async fn down(node: Node) -> Reply<DownReport> {
    within(WRITE_LIMIT, node.down()).await
}

async fn shutdown(node: Node) -> Reply<StatusWord> {
    done("shutting down", node.shutdown()).await
}

async fn done(word: &str, answer: Answer<'_, ()>) -> Reply<StatusWord> {
    bounded(WRITE_LIMIT, answer).await?;
    Ok(Data::of(StatusWord { status: word.to_owned() }))
}
