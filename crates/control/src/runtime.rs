//! Everything that can be asked of a running node.

use std::{future::Future, pin::Pin};

use tokio::{net::UnixStream, sync::mpsc};

use crate::api::{ConnectReport, ConnectRequest, ExposeRequest, ProxyRow, ServiceRow};
use crate::api::{JournalReport, WhyReport};
use crate::{
    api::{
        AuthAdd, AuthEdit, AuthRow, ConfigReport, DownReport, Event, InviteEvent, InviteRequest, JoinReport,
        JoinRequest, NetcheckReport, OpenReport, OpenRequest, Overview, PathRow, PeerRow, PingReport,
        PingRequest, ResolveReport, ResolveRequest, StatusReport, TraceReport, TraceRequest, UpReport,
    },
    error::{ApiError, ErrorKind},
};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What every request comes back as.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, ApiError>>;

/// Bound of the channel that [`Runtime::invite`] hands out. An invite makes at most one event per attempt and burns
/// after a few, so a reader that keeps up never fills it; a sender that finds it full may wait.
pub const INVITE_EVENT_BOUND: usize = 16;

/// Bound of the channel that [`Runtime::events`] hands out. A reader that lets it fill up misses events and is told
/// how many.
pub const EVENT_BOUND: usize = 256;

/// A running node, in this process or behind the socket. Methods with a default answer are what not every node offers: one
/// that only pairs has no services, and a fake of a test answers what the test asks.
pub trait Runtime: Send + Sync + 'static {
    fn overview(&self) -> Answer<'_, Overview>;
    fn status(&self) -> Answer<'_, StatusReport>;
    /// Connected peers; `all` includes hosts that are not peerup nodes or relays.
    fn peers(&self, all: bool) -> Answer<'_, Vec<PeerRow>>;
    fn paths(&self) -> Answer<'_, Vec<PathRow>>;
    fn ping(&self, request: PingRequest) -> Answer<'_, PingReport>;
    fn resolve(&self, request: ResolveRequest) -> Answer<'_, ResolveReport> {
        let _ = request;
        not_offered("resolving names")
    }
    /// Looks at the network, which takes a few seconds where relays do not answer.
    fn netcheck(&self) -> Answer<'_, NetcheckReport> {
        not_offered("looking at the network")
    }

    /// The machines that packets to a peer pass.
    fn trace(&self, request: TraceRequest) -> Answer<'_, TraceReport> {
        let _ = request;
        not_offered("traceroute")
    }
    /// Why packets to a peer take the path they take.
    fn why(&self, peer: String) -> Answer<'_, WhyReport> {
        let _ = peer;
        not_offered("explanations")
    }
    /// What that was decided from, for a replay.
    fn journal(&self, peer: String) -> Answer<'_, JournalReport> {
        let _ = peer;
        not_offered("journals")
    }
    /// What happens from here on. Dropping the receiver ends it.
    fn events(&self) -> Answer<'_, mpsc::Receiver<Event>> {
        not_offered("events")
    }
    /// Turns a caller's connection into something else.
    fn open(&self, request: OpenRequest) -> Answer<'_, Opening> {
        let _ = request;
        not_offered("connections to peers")
    }
    /// The configuration that the node follows.
    fn config(&self) -> Answer<'_, ConfigReport> {
        not_offered("showing its configuration")
    }
    /// Services that this node offers.
    fn services(&self) -> Answer<'_, Vec<ServiceRow>> {
        not_offered("services")
    }
    fn expose(&self, request: ExposeRequest) -> Answer<'_, ()> {
        let _ = request;
        not_offered("services")
    }
    fn unexpose(&self, name: String) -> Answer<'_, ()> {
        let _ = name;
        not_offered("services")
    }
    /// Listeners of this node that lead to services of peers.
    fn proxies(&self) -> Answer<'_, Vec<ProxyRow>> {
        not_offered("proxies")
    }
    fn connect(&self, request: ConnectRequest) -> Answer<'_, ConnectReport> {
        let _ = request;
        not_offered("proxies")
    }
    /// Stops a listener; what it carries goes on.
    fn disconnect(&self, id: String) -> Answer<'_, ()> {
        let _ = id;
        not_offered("proxies")
    }
    /// Opens an invite. Dropping the receiver withdraws it; the channel closes after the last event.
    fn invite(&self, request: InviteRequest) -> Answer<'_, mpsc::Receiver<InviteEvent>>;
    fn join(&self, request: JoinRequest) -> Answer<'_, JoinReport>;
    fn auth_list(&self) -> Answer<'_, Vec<AuthRow>>;
    fn auth_add(&self, request: AuthAdd) -> Answer<'_, ()>;
    /// Changes attributes of a key.
    fn auth_edit(&self, peer: peerup_types::PeerId, edit: AuthEdit) -> Answer<'_, ()> {
        let _ = (peer, edit);
        not_offered("editing keys")
    }
    /// Removes a key and closes its live connections.
    fn auth_remove(&self, peer: peerup_types::PeerId) -> Answer<'_, ()>;
    /// Reads configuration and `authorized_keys` again, as SIGHUP does.
    fn reload(&self) -> Answer<'_, ()>;
    /// Brings the interface up; does nothing when it is up already.
    fn up(&self) -> Answer<'_, UpReport>;
    /// Takes interface, routes and names away.
    fn down(&self) -> Answer<'_, DownReport>;
    fn shutdown(&self) -> Answer<'_, ()>;
}

/// What a caller's connection becomes.
pub struct Opening {
    pub report: OpenReport,
    /// Is given the connection, and does not wait for its end.
    pub serve: Box<dyn FnOnce(UnixStream) + Send>,
}

/// The default answer.
fn not_offered<T>(what: &str) -> Answer<'_, T>
where
    T: Send + 'static,
{
    let error = ApiError::new(ErrorKind::NotFound, format!("this node does not offer {what}"));
    Box::pin(std::future::ready(Err(error)))
}
