//! Services: what this node offers, the proxies it keeps, and the paths that sessions hold open.

use std::{collections::BTreeSet, time::Instant};

use peerup_control::{
    ApiError, ErrorKind,
    api::{ConnectReport, ConnectRequest, ExposeRequest, ProxyRow, ServiceRow},
};
use peerup_services::{Exposed, InUse, Listed, OfferError, Wanted};
use peerup_swarm::PathHandle;
use peerup_types::{DnsLabel, PathId, PeerId};
use peerup_wire::control::{Control, GoodbyeReason};
use tokio::sync::oneshot;

use super::{Controller, Mode};
use crate::{
    api::{NodeHandle, NotReached, Request},
    services::{self, PROXIES, Plan, Proxy},
    view,
};

type Reply<T> = oneshot::Sender<Result<T, ApiError>>;

/// What concerns services and proxies.
pub enum ServiceRequest {
    List(oneshot::Sender<Vec<ServiceRow>>),
    Expose {
        name: DnsLabel,
        exposed: Exposed,
        persist: bool,
        reply: Reply<()>,
    },
    Unexpose {
        name: DnsLabel,
        reply: Reply<()>,
    },
    /// The best path to a peer; asking for it starts a search where there is none.
    Path {
        peer: PeerId,
        reply: oneshot::Sender<Result<PathHandle, NotReached>>,
    },
    Proxies(oneshot::Sender<Vec<ProxyRow>>),
    AddProxy {
        proxy: Proxy,
        reply: Reply<String>,
    },
    RemoveProxy {
        id: String,
        reply: Reply<()>,
    },
}

impl Controller {
    pub(super) async fn on_service_request(&mut self, request: ServiceRequest) {
        // An answer that nobody waits for is not an error: the caller hung up.
        match request {
            ServiceRequest::List(reply) => {
                let listed = self.services.offers().list();
                let _ = reply.send(listed.into_iter().map(service_row).collect());
            }
            ServiceRequest::Expose { name, exposed, persist, reply } => {
                let _ = reply.send(self.expose(name, exposed, persist));
            }
            ServiceRequest::Unexpose { name, reply } => drop(reply.send(self.unexpose(&name))),
            ServiceRequest::Path { peer, reply } => drop(reply.send(self.best_path(&peer))),
            ServiceRequest::Proxies(reply) => {
                let _ = reply.send(self.services.proxies.rows(|peer| view::display_name(self, peer)));
            }
            ServiceRequest::AddProxy { proxy, reply } => {
                let added = self.services.proxies.add(proxy).ok_or_else(too_many_proxies);
                let _ = reply.send(added);
            }
            ServiceRequest::RemoveProxy { id, reply } => {
                let removed = self.services.proxies.remove(&id);
                let _ = reply.send(if removed { Ok(()) } else { Err(no_such_proxy(&id)) });
            }
        }
    }

    fn expose(&mut self, name: DnsLabel, exposed: Exposed, persist: bool) -> Result<(), ApiError> {
        if persist {
            self.files.add_service(&name, &exposed).map_err(ApiError::from)?;
            self.configure_services();
            return Ok(());
        }
        self.services.change(|offers| offers.expose(name, exposed)).map_err(offer_error)?;
        self.offer();
        Ok(())
    }

    fn unexpose(&mut self, name: &DnsLabel) -> Result<(), ApiError> {
        self.services.change(|offers| offers.unexpose(name)).map_err(offer_error)?;
        self.offer();
        Ok(())
    }

    /// Makes the configuration's services count.
    pub(super) fn configure_services(&mut self) {
        let config = &self.files.config;
        self.services.change(|offers| {
            offers.configure(&config.services, &config.service_ports, &config.protocols.ping_pong);
        });
        self.open_ports();
        self.offer();
    }

    /// Makes the list of members count.
    pub(super) fn offer_to(&mut self, members: &BTreeSet<PeerId>) {
        self.services.change(|offers| offers.set_members(members.clone()));
        self.offer();
    }

    /// A host that is there for one command offers nothing.
    fn offer(&mut self) {
        match self.mode {
            Mode::Member { .. } => {}
            Mode::Pairing | Mode::Visitor => return,
        }
        let offers = self.services.offers();
        self.swarm.set_services(offers.protocols());
    }

    fn best_path(&mut self, peer: &PeerId) -> Result<PathHandle, NotReached> {
        let Some(view) = self.node.peers().into_iter().find(|view| view.peer == *peer) else {
            return Err(NotReached::Unknown);
        };
        // The path machine puts TCP before QUIC where both answer, which suits sessions: over QUIC all streams share one
        // window, so that clients who stop reading hold up the tunnel; over TCP each has its own.
        match view.path.as_ref().and_then(|active| self.paths.get(&active.path)) {
            Some(known) => Ok(known.handle.clone()),
            None => {
                self.node.handle_wanted(peer, peerup_clock::now());
                Err(if view.connecting { NotReached::Connecting } else { NotReached::Offline })
            }
        }
    }

    /// A peer whose sessions move bytes has traffic: its path is probed, and its upgrade is wanted.
    pub(super) fn note_sessions(&mut self, now: Instant) {
        for known in self.paths.values_mut() {
            let heard = known.handle.usage.heard();
            if std::mem::replace(&mut known.sessions_heard, heard) != heard {
                self.node.handle_traffic(&known.handle.peer, now);
                self.last_seen.insert(known.handle.peer, peerup_clock::unix());
            }
        }
    }

    /// A path that goes away for being surplus is told from one that is given up.
    pub(super) fn note_retirement(&mut self, path: PathId, control: &Control) {
        if matches!(control, Control::Goodbye(GoodbyeReason::PathReplaced)) {
            self.services.retiring.insert(path);
        }
    }

    /// Sessions stay on a path that is only surplus. On one that is dead they are told by its closing.
    pub(super) fn close_unless_in_use(&mut self, path: PathId) {
        let in_use = self.paths.get(&path).is_some_and(|known| known.handle.usage.sessions() > 0);
        if in_use && self.services.retiring.contains(&path) {
            tracing::debug!(%path, "a surplus path stays open for its sessions");
            self.services.lingering.insert(path);
        } else {
            self.swarm.close(path);
        }
    }

    /// Lets go of surplus paths whose sessions have ended, and puts to the proof what sessions alone depend on.
    pub(super) fn tend_sessions(&mut self, now: Instant) {
        let in_use = self.paths.iter().filter(|(_, known)| known.handle.usage.sessions() > 0);
        let in_use: Vec<InUse> =
            in_use.map(|(path, known)| InUse { path: *path, heard: known.handle.usage.heard() }).collect();
        let is_idle = |path: &PathId| in_use.iter().all(|known| known.path != *path);
        let done: Vec<PathId> = self.services.lingering.iter().copied().filter(is_idle).collect();
        for path in done {
            self.services.lingering.remove(&path);
            self.swarm.close(path);
        }
        let asked = self.services.proofs.due(&in_use, now);
        if asked.is_empty() {
            return;
        }
        // Packets and their probes tell enough of the path that they take.
        let active = self.node.peers().into_iter().filter_map(|view| view.path);
        let active: BTreeSet<PathId> = active.map(|path| path.path).collect();
        asked.into_iter().filter(|path| !active.contains(path)).for_each(|path| self.check(path));
    }

    /// A path has answered a question, or has not.
    pub(super) fn on_checked(&mut self, path: PathId, alive: bool) {
        if alive {
            self.services.proofs.answered(path);
        } else if self.services.proofs.missed(path, peerup_clock::now()) {
            self.swarm.close(path);
        }
    }

    pub(super) fn forget_path_use(&mut self, path: PathId) {
        self.services.lingering.remove(&path);
        self.services.retiring.remove(&path);
    }
}

fn service_row(listed: Listed) -> ServiceRow {
    let Listed { name, protocol, local_address, enabled, allowed_peers, exposed } = listed;
    ServiceRow {
        name: name.to_string(),
        protocol,
        local_address: local_address.to_string(),
        enabled,
        allowed_peers,
        exposed,
    }
}

fn offer_error(error: OfferError) -> ApiError {
    match &error {
        OfferError::Configured { name } => ApiError::new(ErrorKind::Conflict, error.to_string())
            .with_hint(format!("peerup service remove {name}")),
        OfferError::Kept { name } => ApiError::new(ErrorKind::Conflict, error.to_string())
            .with_hint(format!("peerup service disable {name}")),
        OfferError::Unknown { .. } => {
            ApiError::new(ErrorKind::NotFound, error.to_string()).with_hint("peerup service list")
        }
        OfferError::TooMany => ApiError::new(ErrorKind::Conflict, error.to_string()),
    }
}

fn too_many_proxies() -> ApiError {
    ApiError::new(ErrorKind::Conflict, format!("there are {PROXIES} proxies already"))
        .with_hint("peerup daemon disconnect ID")
}

fn no_such_proxy(id: &str) -> ApiError {
    let id: String = id.chars().take(32).filter(|letter| !letter.is_control()).collect();
    ApiError::new(ErrorKind::NotFound, format!("there is no proxy `{id}`")).with_hint("peerup status")
}

impl NodeHandle {
    pub(crate) async fn list_services(&self) -> Result<Vec<ServiceRow>, ApiError> {
        self.ask(|reply| Request::Services(ServiceRequest::List(reply))).await
    }

    pub(crate) async fn expose_service(&self, request: ExposeRequest) -> Result<(), ApiError> {
        let ExposeRequest { name, local_address, allowed_peers, persist } = request;
        let name = service_name(&name)?;
        let local_address = local_address.parse().map_err(|problem: peerup_config::Problem| {
            ApiError::bad_request(problem.to_string()).with_hint("write it as localhost:22")
        })?;
        let exposed = Exposed { local_address, allowed_peers };
        let expose = |reply| ServiceRequest::Expose { name, exposed, persist, reply };
        self.try_ask(|reply| Request::Services(expose(reply))).await
    }

    pub(crate) async fn unexpose_service(&self, name: String) -> Result<(), ApiError> {
        let name = service_name(&name)?;
        self.try_ask(|reply| Request::Services(ServiceRequest::Unexpose { name, reply })).await
    }

    pub(crate) async fn list_proxies(&self) -> Result<Vec<ProxyRow>, ApiError> {
        self.ask(|reply| Request::Services(ServiceRequest::Proxies(reply))).await
    }

    pub(crate) async fn path_to(&self, peer: PeerId) -> Result<Result<PathHandle, NotReached>, ApiError> {
        self.ask(|reply| Request::Services(ServiceRequest::Path { peer, reply })).await
    }

    /// Reaches the peer first, so that a proxy that leads nowhere is an error and not a surprise.
    pub(crate) async fn start_proxy(&self, request: ConnectRequest) -> Result<ConnectReport, ApiError> {
        let ConnectRequest { peer, service, listen } = request;
        let bad = |error: &dyn std::fmt::Display| ApiError::bad_request(error.to_string());
        let wanted: Wanted = service.parse().map_err(|error| bad(&error))?;
        let listen = services::listen_address(&listen)
            .map_err(|error| bad(&error).with_hint("write a port, or 127.0.0.1:8080"))?;
        let target = self.try_ask(|reply| Request::Resolve { target: peer, reply }).await?;
        let plan = Plan { peer: target.peer, wanted };
        let handle = self.clone();
        let starting = async move {
            services::reach(&handle, plan.peer).await.map_err(ApiError::from)?;
            services::start(handle, plan, listen).await.map_err(|error| cannot_listen(listen, &error))
        };
        let proxy =
            self.io.spawn(starting).await.map_err(|_| ApiError::failure("the proxy did not start"))??;
        let listen_address = proxy.listen.to_string();
        let id = self.try_ask(|reply| Request::Services(ServiceRequest::AddProxy { proxy, reply })).await?;
        Ok(ConnectReport { id, listen_address })
    }

    pub(crate) async fn stop_proxy(&self, id: String) -> Result<(), ApiError> {
        self.try_ask(|reply| Request::Services(ServiceRequest::RemoveProxy { id, reply })).await
    }
}

fn service_name(text: &str) -> Result<DnsLabel, ApiError> {
    peerup_config::service_name(text).map_err(|problem| ApiError::bad_request(problem.to_string()))
}

fn cannot_listen(address: std::net::SocketAddr, error: &std::io::Error) -> ApiError {
    let kind = match error.kind() {
        std::io::ErrorKind::AddrInUse => ErrorKind::Conflict,
        _ => ErrorKind::Failure,
    };
    ApiError::new(kind, format!("cannot listen on {address}: {error}")).with_hint("port 0 picks a free one")
}
