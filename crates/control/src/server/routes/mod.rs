//! The endpoints, one file per subject, and the cookie check before all of them.
//!
//! A new endpoint needs: its words in `api/`, a method of [`Runtime`](crate::Runtime) with a default answer, its
//! request in `client/runtime.rs`, its handler in a file here, and its section in `docs/api.md`, which a test asks
//! for. A new file is merged in [`groups`].

mod config;
mod events;
mod lifecycle;
mod node;
mod open;
mod openapi;
mod pairing;
mod services;
mod tools;
mod trust;
mod why;

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};

use super::{
    RequestObserver, Seen,
    endpoint::{Group, Shared},
};
use crate::{
    cookie::Cookie,
    error::{ApiError, ErrorKind},
};

fn groups() -> Group {
    Group::default()
        .merge(node::group())
        .merge(trust::group())
        .merge(tools::group())
        .merge(pairing::group())
        .merge(lifecycle::group())
        .merge(config::group())
        .merge(events::group())
        .merge(services::group())
        .merge(open::group())
        .merge(why::group())
}

pub(super) fn router(runtime: Shared, cookie: Cookie, observer: Option<RequestObserver>) -> Router {
    let (routes, endpoints) = groups().into_parts();
    let (description, _) = openapi::group(&endpoints).into_parts();
    let router = routes
        .merge(description)
        .fallback(unknown_endpoint)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(cookie, require_cookie))
        .with_state(runtime);
    match observer {
        Some(observer) => router.layer(middleware::from_fn_with_state(observer, observe)),
        None => router,
    }
}

/// Tells of the endpoint, not of the request's text, so that there are as many labels as endpoints.
async fn observe(
    State(observer): State<RequestObserver>,
    endpoint: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let (method, began) = (known(request.method()), tokio::time::Instant::now());
    let response = next.run(request).await;
    let route = endpoint.as_ref().map_or("unknown", MatchedPath::as_str);
    observer(&Seen { method, route, status: response.status().as_u16(), took: began.elapsed() });
    response
}

/// HTTP lets callers invent methods.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// The OpenAPI description of every endpoint.
pub(super) fn description() -> serde_json::Value {
    openapi::describe(&groups().into_parts().1)
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

/// The one cookie that was presented; two of them are none.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut presented = headers.get_all(header::AUTHORIZATION).iter();
    let only = presented.next().filter(|_| presented.next().is_none())?;
    only.as_bytes().strip_prefix(b"Bearer ")
}

async fn unknown_endpoint() -> ApiError {
    ApiError::new(ErrorKind::NotFound, "no such endpoint").with_hint("GET /v1/openapi.json lists them")
}

async fn wrong_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, ApiError::bad_request("this endpoint does not take that method"))
        .into_response()
}
