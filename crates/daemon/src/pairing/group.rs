//! Groups of a relay: joining one with a code of `peerup relay pair`, and being introduced to the others.
//!
//! What a relay may introduce is decided by [`Memberships`], from what this node noted when it joined.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use futures::{AsyncReadExt, AsyncWriteExt};
use peerup_config::PeerAddr;
use peerup_control::{
    ApiError, ErrorKind,
    api::{GroupMember, GroupReport, JoinReport},
};
use peerup_service::files::{read_private, write_private_atomic};
use peerup_swarm::{OpenError, PathHandle, Stream};
use peerup_trust::{
    NodeName, Token,
    code::PairingCode,
    handshake::Grant,
    pairing::{
        GroupId, Introduction, MAX_RESPONSE, Member, Memberships, MessageError, Request, Response, with_group,
    },
};
use peerup_types::PeerId;
use peerup_wire::protocol;
use tokio::time::{timeout, timeout_at};

use crate::{
    controller::{Controller, Done},
    error::DaemonError,
};

/// An introduction is small; a relay that needs longer for it has gone.
const DEADLINE: Duration = Duration::from_secs(10);
const FILE_LIMIT: u64 = 1 << 20;

/// The relay's answer to a code that counts.
pub struct Group {
    id: GroupId,
    size: u8,
    members: Vec<Member>,
}

#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    #[error("the relay does not pair: {0}")]
    Open(#[from] OpenError),
    #[error("the stream to the relay failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("the relay's answer is not valid: {0}")]
    Message(#[from] MessageError),
    #[error("the relay did not accept the code: {0}")]
    Refused(String),
    /// What a machine meets that is not let in any more.
    #[error("the relay hung up without an answer")]
    NoAnswer,
    #[error("the relay did not answer in time")]
    TimedOut,
}

impl GroupError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Open(_) | Self::Io(_) | Self::Refused(_) | Self::NoAnswer => ErrorKind::NotAuthorised,
            Self::Message(_) => ErrorKind::Failure,
            Self::TimedOut => ErrorKind::Timeout,
        }
    }

    /// Whether the relay closed the connection without a word, as it does with whom it does not know: also with the
    /// holder of a code that it has not read yet.
    pub fn is_hang_up(&self) -> bool {
        matches!(self, Self::NoAnswer | Self::Io(_) | Self::Open(OpenError::Closed | OpenError::Io(_)))
    }
}

/// Shows the token to the relay at the other end of `path`.
pub async fn show(
    path: &PathHandle,
    token: Token<16>,
    name: NodeName,
    deadline: Instant,
) -> Result<Group, GroupError> {
    let exchange = async {
        let mut stream = path.open(protocol::RELAY_PAIR).await?;
        stream.write_all(&Request { token, name: Some(name) }.encode()).await?;
        stream.close().await?;
        let answer = read(&mut stream, MAX_RESPONSE).await?;
        if answer.is_empty() {
            return Err(GroupError::NoAnswer);
        }
        match Response::parse(&answer)? {
            Response::Joined { group, size, members } => Ok(Group { id: group, size, members }),
            Response::Refused(message) => Err(GroupError::Refused(message)),
        }
    };
    timeout_at(deadline.into(), exchange).await.unwrap_or(Err(GroupError::TimedOut))
}

/// Reads the introduction on a stream that a relay opened.
pub async fn read_introduction(mut stream: Stream) -> Result<Introduction, GroupError> {
    let reading = async { Ok(Introduction::parse(&read(&mut stream, Introduction::MAX_BYTES).await?)?) };
    timeout(DEADLINE, reading).await.unwrap_or(Err(GroupError::TimedOut))
}

/// A message ends where its stream does; one byte more than it may have shows that it does not.
async fn read(stream: &mut Stream, max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(max as u64 + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

impl Controller {
    /// Keeps the relay, notes the group, and makes those members that have come before us ours. The code counts again
    /// for this machine, so what fails in the middle is done by joining once more.
    pub(super) fn adopt_group(&mut self, code: &PairingCode, group: Group) -> Result<JoinReport, ApiError> {
        let Group { id, size, members } = group;
        // A code has room for one address, and relays listen on one port for both transports unless told otherwise.
        let socket = code.relay_address.into();
        let relays = [PeerAddr::tcp(socket, code.relay), PeerAddr::quic(socket, code.relay)];
        self.files.learn(None, &relays).map_err(ApiError::from)?;
        // The configuration holds it from here on.
        self.extra_relays.remove(&code.relay);
        let mut groups = self.memberships()?;
        groups.join(id, code.relay, size).map_err(|error| ApiError::failure(error.to_string()))?;
        self.keep_memberships(&groups)?;
        let all = Introduction { group: id, members_in_all: 0, members: members.clone() };
        self.introduce(code.relay, &all)?;
        let address = self.address_in_group(members.len());
        self.apply_relays();
        self.apply_trust();
        self.node.handle_wake(peerup_clock::now());
        let members = members.iter().map(|Member { peer, name }| GroupMember {
            peer_id: *peer,
            name: name.as_ref().map(ToString::to_string),
        });
        Ok(JoinReport {
            inviter: code.relay,
            inviter_name: None,
            address,
            inviter_address: None,
            relay_authorised: false,
            group: Some(GroupReport { id: id.to_string(), size, members: members.collect() }),
        })
    }

    pub(crate) fn on_introduction_stream(&mut self, relay: PeerId, stream: Stream) {
        let done = self.done.clone();
        tokio::spawn(async move {
            let result = read_introduction(stream).await;
            let _ = done.send(Done::Introduced { relay, result }).await;
        });
    }

    pub(crate) fn on_introduced(&mut self, relay: PeerId, result: Result<Introduction, GroupError>) {
        // A relay that is not ours any more has nobody to introduce.
        if !self.relays().contains_key(&relay) {
            return tracing::info!(%relay, "introduced by a relay that this node does not use");
        }
        let introduced = result.map_err(|error| ApiError::failure(error.to_string()));
        if let Err(error) = introduced.and_then(|introduction| self.introduce(relay, &introduction)) {
            tracing::warn!(%relay, error = error.message, "an introduction does not count");
        }
    }

    /// Makes members of those whom the relay introduces for the first time.
    fn introduce(&mut self, relay: PeerId, introduction: &Introduction) -> Result<(), ApiError> {
        let mut groups = self.memberships()?;
        let new = groups
            .introduce(relay, self.swarm.local_peer(), introduction)
            .map_err(|error| ApiError::new(ErrorKind::NotAuthorised, error.to_string()))?;
        let group = introduction.group;
        for Member { peer, name } in &new {
            let name = name.clone().unwrap_or_else(|| NodeName::of_peer(peer));
            self.authorize(*peer, &name, &[])?;
            self.change_keys(|keys| {
                let known = keys.get(peer).and_then(|entry| entry.group()).map(str::to_owned);
                let value = with_group(known.as_deref(), group);
                keys.set_attribute(peer, "group", Some(&value))
                    .map_err(|error| ApiError::failure(error.to_string()))
            })?;
            tracing::info!(%peer, %group, %relay, "a relay introduced a member of its group");
        }
        // Last, so that whom a crash came before is introduced again.
        match new.is_empty() {
            true => Ok(()),
            false => self.keep_memberships(&groups),
        }
    }

    /// Members take addresses in the order in which they join, so that they seldom meet with the same one.
    fn address_in_group(&mut self, before: usize) -> Option<Ipv4Addr> {
        let prefix = self.node.membership().prefix();
        let address = prefix.hosts().nth(before);
        let place = address.map(|address| Grant {
            address,
            prefix,
            inviter_address: None,
            claims: Vec::new(),
            relays: Vec::new(),
        });
        self.take_address(place.as_ref())
            .or_else(|_| self.take_address(None))
            .inspect_err(|error| tracing::error!(%error, "joined without an address"))
            .ok()
    }

    fn memberships(&self) -> Result<Memberships, ApiError> {
        let path = &self.files.state.groups;
        let text = match read_private(path, FILE_LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.is_missing() => return Ok(Memberships::default()),
            Err(error) => return Err(DaemonError::from(error).into()),
        };
        Memberships::parse(&String::from_utf8_lossy(&text)).map_err(|error| {
            ApiError::failure(format!("{}: {error}", path.display()))
                .with_hint("remove the file, and ask the owners of your relays for new codes")
        })
    }

    fn keep_memberships(&self, groups: &Memberships) -> Result<(), ApiError> {
        let written = write_private_atomic(&self.files.state.groups, groups.to_text().as_bytes());
        written.map_err(|error| DaemonError::from(error).into())
    }
}
