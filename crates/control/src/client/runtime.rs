//! [`Runtime`] over the socket: one request per method.

use std::time::Duration;

use hyper::{Method, body::Bytes};
use peerup_types::PeerId;
use tokio::sync::mpsc;

use super::{Client, SLOW, encode};
use crate::api::{ConnectReport, ConnectRequest, ExposeRequest, ProxyRow, ServiceRow};
use crate::api::{JournalReport, WhyReport};
use crate::{
    api::{
        AuthAdd, AuthEdit, AuthRow, ConfigReport, DownReport, Event, InviteEvent, InviteRequest, JoinReport,
        JoinRequest, NetcheckReport, Overview, PathRow, PeerRow, PingReport, PingRequest, ResolveReport,
        ResolveRequest, StatusReport, StatusWord, TraceReport, TraceRequest, UpReport,
    },
    error::{ApiError, ErrorKind},
    runtime::{Answer, Runtime},
};

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

    fn resolve(&self, request: ResolveRequest) -> Answer<'_, ResolveReport> {
        Box::pin(async move { self.post("/v1/resolve", &request).await })
    }

    fn netcheck(&self) -> Answer<'_, NetcheckReport> {
        Box::pin(self.get("/v1/netcheck"))
    }

    fn trace(&self, request: TraceRequest) -> Answer<'_, TraceReport> {
        Box::pin(async move { self.ask(Method::POST, "/v1/traceroute", encode(&request), SLOW).await })
    }

    fn why(&self, peer: String) -> Answer<'_, WhyReport> {
        Box::pin(async move { self.get(&format!("/v1/why/{}", segment(&peer)?)).await })
    }

    fn journal(&self, peer: String) -> Answer<'_, JournalReport> {
        Box::pin(async move { self.get(&format!("/v1/why/{}/journal", segment(&peer)?)).await })
    }

    fn events(&self) -> Answer<'_, mpsc::Receiver<Event>> {
        Box::pin(self.follow(Method::GET, "/v1/events", Bytes::new()))
    }

    fn config(&self) -> Answer<'_, ConfigReport> {
        Box::pin(self.get("/v1/config"))
    }

    fn services(&self) -> Answer<'_, Vec<ServiceRow>> {
        Box::pin(self.get("/v1/services"))
    }

    fn expose(&self, request: ExposeRequest) -> Answer<'_, ()> {
        Box::pin(async move { self.post::<StatusWord>("/v1/expose", &request).await.map(drop) })
    }

    fn unexpose(&self, name: String) -> Answer<'_, ()> {
        Box::pin(async move { self.command(Method::DELETE, &format!("/v1/expose/{name}")).await })
    }

    fn proxies(&self) -> Answer<'_, Vec<ProxyRow>> {
        Box::pin(self.get("/v1/connect"))
    }

    fn connect(&self, request: ConnectRequest) -> Answer<'_, ConnectReport> {
        Box::pin(async move { self.post("/v1/connect", &request).await })
    }

    fn disconnect(&self, id: String) -> Answer<'_, ()> {
        Box::pin(async move { self.command(Method::DELETE, &format!("/v1/connect/{id}")).await })
    }

    fn invite(&self, request: InviteRequest) -> Answer<'_, mpsc::Receiver<InviteEvent>> {
        Box::pin(async move { self.follow(Method::POST, "/v1/invite", encode(&request)).await })
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

    fn auth_edit(&self, peer: PeerId, edit: AuthEdit) -> Answer<'_, ()> {
        Box::pin(async move { self.post::<StatusWord>(&format!("/v1/auth/{peer}"), &edit).await.map(drop) })
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

/// Names, addresses and peer IDs are plain; anything else is no peer and would make another path of the request.
fn segment(peer: &str) -> Result<&str, ApiError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if peer.is_empty() || peer.starts_with('.') || !peer.chars().all(plain) {
        return Err(ApiError::new(ErrorKind::NotFound, format!("no peer is called `{peer}`")));
    }
    Ok(peer)
}
