//! What local callers ask for.

use peerup_control::{
    ApiError, ErrorKind,
    api::{AuthAdd, AuthEdit, AuthRow, DownReport, Timestamp, UpReport},
};
use peerup_trust::authorized_keys::{AuthorizedKeys, SetAttributeError, UnknownPeer};
use peerup_types::PeerId;

use super::{Controller, Mode, data::PING_IDS};
use crate::{
    api::{NotReached, Request},
    data::Command,
    error::describe,
    view, why,
};

impl Controller {
    pub(super) async fn on_request(&mut self, request: Request) {
        // An answer that nobody waits for is not an error: the caller hung up.
        match request {
            Request::Services(request) => self.on_service_request(request).await,
            Request::Overview(reply) => drop(reply.send(view::overview(self))),
            Request::Status(reply) => drop(reply.send(view::status(self))),
            Request::Peers { all, reply } => drop(reply.send(view::peers(self, all))),
            Request::Paths(reply) => drop(reply.send(view::paths(self))),
            Request::Netcheck(reply) => self.netcheck(reply),
            Request::Resolve { target, reply } => drop(reply.send(view::resolve(self, &target))),
            Request::Ping { peer, reply } => self.ping(peer, reply).await,
            Request::RelayHop { peer, reply } => drop(reply.send(self.relay_hop(&peer))),
            Request::Invite { request, reply } => {
                let opened = self.open_invite(request);
                let _ = reply.send(opened);
            }
            Request::Join { request, reply } => self.start_join(request, reply),
            Request::AuthList(reply) => drop(reply.send(auth_rows(&self.keys))),
            Request::AuthAdd { request, reply } => drop(reply.send(self.auth_add(request))),
            Request::AuthEdit { peer, edit, reply } => drop(reply.send(self.auth_edit(&peer, &edit))),
            Request::AuthRemove { peer, reply } => drop(reply.send(self.auth_remove(&peer))),
            Request::Why { peer, reply } => drop(reply.send(why::explain(self, &peer))),
            Request::Journal { peer, reply } => drop(reply.send(why::journal(self, &peer))),
            Request::Events(reply) => drop(reply.send(self.follow_events())),
            Request::Metrics(reply) => drop(reply.send(self.metrics_page())),
            Request::Config(reply) => drop(reply.send(view::config(self))),
            Request::Doors(reply) => drop(reply.send(self.doors())),
            Request::Reload(reply) => {
                self.reload().await;
                let problem = self.config_problem.clone().or_else(|| self.keys_problem.clone());
                let _ = reply.send(problem.map_or(Ok(()), |problem| Err(ApiError::bad_request(problem))));
            }
            Request::Up(reply) => drop(reply.send(self.bring_up().await.map_err(ApiError::from))),
            Request::Down(reply) => {
                let report = self.go_down().await;
                let _ = reply.send(report);
            }
            Request::Shutdown(reply) => {
                self.stop();
                let _ = reply.send(Ok(()));
            }
        }
    }

    async fn ping(&mut self, peer: PeerId, reply: crate::api::PingReply) {
        let Some(view) = self.node.peers().into_iter().find(|view| view.peer == peer) else {
            return drop(reply.send(Err(NotReached::Unknown)));
        };
        let Some(path) = view.path else {
            self.node.handle_wanted(&peer, peerup_clock::now());
            let why = if view.connecting { NotReached::Connecting } else { NotReached::Offline };
            return drop(reply.send(Err(why)));
        };
        self.next_probe += 1;
        let id = PING_IDS | self.next_probe;
        let (answered, answer) = tokio::sync::oneshot::channel();
        self.pings.retain(|_, waiting| !waiting.is_closed());
        self.pings.insert(id, answered);
        self.data.send(Command::Probe { path: path.path, id }).await;
        let via = view::path_overview(&path, view.since, self.started);
        drop(reply.send(Ok((answer, via))));
    }

    async fn go_down(&mut self) -> Result<DownReport, ApiError> {
        let interface = self.take_down().await.map_err(ApiError::from)?;
        let daemon_exits = self.mode == Mode::Member { started_by_up: true };
        if daemon_exits {
            self.stop();
        }
        Ok(DownReport { interface, daemon_exits })
    }

    pub(super) fn up_report(&self, already_up: bool) -> UpReport {
        UpReport {
            interface: self.interface.as_ref().map_or(String::new(), |interface| interface.name().to_owned()),
            addresses: self.node.membership().own_addrs().iter().collect(),
            name: self.node.name().map(ToString::to_string),
            peers: self.node.peers().iter().map(|peer| view::display_name(self, &peer.peer)).collect(),
            already_up,
        }
    }

    fn auth_add(&mut self, request: AuthAdd) -> Result<(), ApiError> {
        self.change_keys(|keys| {
            keys.add(request.peer_id, request.comment.as_deref())
                .map_err(|error| ApiError::new(ErrorKind::Conflict, error.to_string()).with_hint(WHO_IS))?;
            set_options(keys, &request.peer_id, request.options.iter().map(|(key, value)| (key, Some(value))))
        })
    }

    fn auth_edit(&mut self, peer: &PeerId, edit: &AuthEdit) -> Result<(), ApiError> {
        let options = edit.options.iter().map(|(key, value)| (key, value.as_ref()));
        self.change_keys(|keys| set_options(keys, peer, options))
    }

    fn auth_remove(&mut self, peer: &PeerId) -> Result<(), ApiError> {
        self.change_keys(|keys| keys.remove(peer).map_err(unknown))
    }

    /// Reads the file, changes it, writes it, and lets the result count at once. The file is read first so that a
    /// change made by hand a moment ago is not lost.
    pub(crate) fn change_keys(
        &mut self,
        change: impl FnOnce(&mut AuthorizedKeys) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        self.keys = self.files.edit_keys(change)?;
        self.apply_trust();
        Ok(())
    }
}

const WHO_IS: &str = "`peerup auth list` shows who is";

fn unknown(error: UnknownPeer) -> ApiError {
    ApiError::new(ErrorKind::NotFound, error.to_string()).with_hint(WHO_IS)
}

fn set_options<'a>(
    keys: &mut AuthorizedKeys,
    peer: &PeerId,
    options: impl Iterator<Item = (&'a String, Option<&'a String>)>,
) -> Result<(), ApiError> {
    for (key, value) in options {
        keys.set_attribute(peer, key, value.map(String::as_str)).map_err(|error| match error {
            SetAttributeError::UnknownPeer(error) => unknown(error),
            SetAttributeError::InvalidKey(_)
            | SetAttributeError::InvalidValue(_)
            | SetAttributeError::Unreadable(_)
            | SetAttributeError::Full => ApiError::bad_request(describe(&error)),
        })?;
    }
    Ok(())
}

fn auth_rows(keys: &AuthorizedKeys) -> Vec<AuthRow> {
    keys.entries()
        .map(|entry| AuthRow {
            peer_id: entry.peer(),
            comment: entry.comment().map(str::to_owned),
            verified: entry.verified().map(str::to_owned),
            expires_at: entry.expires().map(Timestamp::from_unix),
            group: entry.group().map(str::to_owned),
        })
        .collect()
}
