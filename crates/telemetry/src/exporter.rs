//! The HTTP listener for Prometheus and for health checks: `/metrics`, and `/healthz` on a relay.
//!
//! It listens on loopback unless told otherwise. Bound wider, `/metrics` wants a bearer token (RFC 6750), since it
//! tells how many peers there are and what they do; `/healthz` answers loopback only, wherever it is bound.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use subtle::ConstantTimeEq;
use tokio::{net::TcpListener, time::timeout};

/// What `prometheus-client` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The loop that owns the numbers answers within milliseconds, or is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// Asks for a page; `None` when nobody answers any more.
pub type Page = Arc<dyn Fn() -> BoxFuture<Option<String>> + Send + Sync>;

/// What is served.
#[derive(Clone, Default)]
pub struct Pages {
    pub metrics: Option<Page>,
    /// A JSON object.
    pub health: Option<Page>,
    /// Whoever shows it may read `/metrics` from elsewhere than loopback; without one nobody may.
    pub token: Option<Arc<str>>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for metrics and health checks")]
pub struct ExportError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// A listener that nobody is answered on yet.
pub struct Exporter {
    listener: TcpListener,
    pages: Pages,
}

impl Exporter {
    pub async fn bind(address: SocketAddr, pages: Pages) -> Result<Self, ExportError> {
        let listener = TcpListener::bind(address).await.map_err(|source| ExportError { address, source })?;
        Ok(Self { listener, pages })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the task is dropped.
    pub async fn serve(self) {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(health))
            .layer(DefaultBodyLimit::max(0))
            .with_state(self.pages);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        if let Err(error) = axum::serve(self.listener, service).await {
            tracing::error!(%error, "metrics and health checks are not answered any more");
        }
    }
}

async fn metrics(
    State(pages): State<Pages>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let Some(page) = pages.metrics else { return StatusCode::NOT_FOUND.into_response() };
    if !is_loopback(from.ip()) && !shows(&headers, pages.token.as_deref()) {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response();
    }
    answer(&page, OPEN_METRICS).await
}

async fn health(State(pages): State<Pages>, ConnectInfo(from): ConnectInfo<SocketAddr>) -> Response {
    let Some(page) = pages.health else { return StatusCode::NOT_FOUND.into_response() };
    if !is_loopback(from.ip()) {
        return StatusCode::FORBIDDEN.into_response();
    }
    answer(&page, "application/json").await
}

async fn answer(page: &Page, content_type: &'static str) -> Response {
    match timeout(PATIENCE, page()).await {
        Ok(Some(text)) => ([(header::CONTENT_TYPE, content_type)], text).into_response(),
        Ok(None) | Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// A listener for both families sees IPv4 callers in their mapped form.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn shows(headers: &HeaderMap, token: Option<&str>) -> bool {
    let shown =
        headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    match (shown, token) {
        (Some(shown), Some(token)) => bool::from(shown.ct_eq(token.as_bytes())),
        (Some(_) | None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &'static str) -> Page {
        Arc::new(move || Box::pin(async move { Some(text.to_owned()) }))
    }

    async fn ask(pages: Pages, from: &str, path: &str, bearer: Option<&str>) -> StatusCode {
        let mut headers = HeaderMap::new();
        if let Some(bearer) = bearer {
            headers.insert(header::AUTHORIZATION, format!("Bearer {bearer}").parse().unwrap());
        }
        let from = ConnectInfo(from.parse().unwrap());
        let response = match path {
            "/metrics" => metrics(State(pages), from, headers).await,
            _ => health(State(pages), from).await,
        };
        response.status()
    }

    #[tokio::test]
    async fn metrics_are_for_loopback_and_for_who_shows_the_token() {
        let pages = Pages { metrics: Some(page("x 1")), health: None, token: Some("secret".into()) };
        for (from, bearer, status) in [
            ("127.0.0.1:1", None, 200),
            ("[::1]:1", None, 200),
            ("[::ffff:127.0.0.1]:1", None, 200),
            ("192.0.2.1:1", Some("secret"), 200),
            ("192.0.2.1:1", Some("secre"), 401),
            ("192.0.2.1:1", None, 401),
        ] {
            assert_eq!(
                ask(pages.clone(), from, "/metrics", bearer).await.as_u16(),
                status,
                "{from} {bearer:?}"
            );
        }
        let without = Pages { token: None, ..pages };
        assert_eq!(ask(without, "192.0.2.1:1", "/metrics", Some("")).await.as_u16(), 401);
    }

    #[tokio::test]
    async fn health_is_for_loopback_only_and_what_is_off_is_not_there() {
        let pages = Pages { health: Some(page("{}")), ..Pages::default() };
        assert_eq!(ask(pages.clone(), "127.0.0.1:1", "/healthz", None).await.as_u16(), 200);
        assert_eq!(ask(pages.clone(), "192.0.2.1:1", "/healthz", None).await.as_u16(), 403);
        assert_eq!(ask(pages, "127.0.0.1:1", "/metrics", None).await.as_u16(), 404);
    }
}
