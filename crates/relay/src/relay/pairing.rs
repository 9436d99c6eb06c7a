//! Groups: machines that show a code of `peerup relay pair` become members, and all members are introduced.
//!
//! Codes live in a file that the command writes and this loop uses up (`peerup_trust::pairing`). A code is marked as
//! used before the machine is authorized, so that a crash in between leaves a code that this machine, and nobody
//! else, can show again.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt};
use peerup_service::files::{EditFileError, edit_private, read_private};
use peerup_swarm::{InboundStream, PathHandle, Stream};
use peerup_trust::pairing::{
    GroupId, Groups, GroupsError, Introduction, MAX_REQUEST, Member, PairingFailed, Redeemed, Request,
    Response,
};
use peerup_types::{PathId, PeerId};
use peerup_wire::protocol;
use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};

use super::Relay;
use crate::files::AppendError;

/// A message is small; who needs longer for it has gone.
const DEADLINE: Duration = Duration::from_secs(10);
/// Streams at once, whose other ends the relay knows nothing of.
const MAX_TASKS: usize = 32;
/// A code has 128 bits: who is wrong so often is not mistyping.
const MAX_FAILURES: u32 = 3;
/// Peers whose failures are remembered.
const MAX_FAILED: usize = 256;
const FILE_LIMIT: u64 = 1 << 20;

/// What the loop keeps for it.
pub(super) struct Pairing {
    file: PathBuf,
    groups: Groups,
    tasks: JoinSet<Option<Shown>>,
    handles: BTreeMap<PathId, PathHandle>,
    failed: BTreeMap<PeerId, u32>,
    /// Connections whose peers have been told of their groups.
    introduced: BTreeSet<PathId>,
}

/// A code that a peer has shown, and the stream that waits for the answer.
pub(super) struct Shown {
    peer: PeerId,
    request: Request,
    stream: Stream,
}

/// Why a code does not count. The peer is told [`PairingFailed`] whatever it is.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Code(#[from] PairingFailed),
    #[error("that is the relay itself")]
    RelayItself,
    #[error("the file of codes is not valid")]
    Groups(#[source] GroupsError),
    #[error("the file of codes cannot be changed")]
    File(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the newcomer cannot be authorized")]
    Append(#[from] AppendError),
}

impl Pairing {
    pub fn load(file: PathBuf) -> Self {
        let mut pairing = Self {
            file,
            groups: Groups::default(),
            tasks: JoinSet::new(),
            handles: BTreeMap::new(),
            failed: BTreeMap::new(),
            introduced: BTreeSet::new(),
        };
        pairing.reload();
        pairing
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A file that cannot be read opens the relay to nobody.
    pub fn reload(&mut self) {
        self.groups = Groups::default();
        let text = match read_private(&self.file, FILE_LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.is_missing() => return,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                return tracing::error!(error, "pairing codes cannot be read: none counts");
            }
        };
        match Groups::parse(&String::from_utf8_lossy(&text)) {
            Ok(groups) => self.groups = groups,
            Err(error) => {
                tracing::error!(file = %self.file.display(), %error, "pairing codes cannot be read: none counts");
            }
        }
    }

    pub fn open_until(&self, unix_now: u64) -> Option<u64> {
        self.groups.open_until(unix_now)
    }

    pub fn handle_opened(&mut self, handle: PathHandle) {
        self.handles.insert(handle.path, handle);
    }

    pub fn handle_closed(&mut self, path: PathId) {
        self.handles.remove(&path);
        self.introduced.remove(&path);
    }

    pub fn handle_restart(&mut self) {
        self.handles.clear();
        self.introduced.clear();
    }

    pub async fn next(&mut self) -> Option<Result<Option<Shown>, JoinError>> {
        self.tasks.join_next().await
    }

    /// Counts a wrong code; true when there were too many from that peer.
    fn failed(&mut self, peer: PeerId) -> bool {
        if self.failed.len() >= MAX_FAILED && !self.failed.contains_key(&peer) {
            self.failed.pop_first();
        }
        let count = self.failed.entry(peer).or_default();
        *count += 1;
        *count >= MAX_FAILURES
    }

    fn redeem(&mut self, request: &Request, peer: PeerId, unix_now: u64) -> Result<Redeemed, Refusal> {
        let mut outcome = None;
        let edited = edit_private(&self.file, FILE_LIMIT, Some(""), |text| {
            let mut groups = Groups::parse(text).map_err(Refusal::Groups)?;
            let redeemed = groups.redeem(&request.token, peer, unix_now)?;
            let changed = redeemed.first.then(|| groups.to_text());
            outcome = Some((groups, redeemed));
            Ok(changed)
        });
        edited.map_err(|error| match error {
            EditFileError::Change(refusal) => refusal,
            other => Refusal::File(Box::new(io::Error::other(other.to_string()))),
        })?;
        let (groups, redeemed) = outcome.ok_or(PairingFailed)?;
        self.groups = groups;
        Ok(redeemed)
    }

    /// The latest connection to a peer: an earlier one may be of a process that has ended.
    fn path_to(&self, peer: &PeerId) -> Option<PathId> {
        self.handles.values().rev().find(|handle| handle.peer == *peer).map(|handle| handle.path)
    }

    fn send(&mut self, path: PathId, introduction: &Introduction) {
        let Some(handle) = self.handles.get(&path).cloned().filter(|_| self.tasks.len() < MAX_TASKS) else {
            return;
        };
        let (peer, group, bytes) = (handle.peer, introduction.group, introduction.encode());
        self.tasks.spawn(async move {
            match timeout(DEADLINE, introduce(handle, &bytes)).await {
                Ok(Ok(())) => tracing::info!(%peer, %group, "introduced to its group"),
                Ok(Err(error)) => tracing::debug!(%peer, %group, %error, "introduction not delivered"),
                Err(_) => tracing::debug!(%peer, %group, "introduction not delivered in time"),
            }
            None
        });
    }
}

impl Relay {
    pub(super) fn handle_code(&mut self, InboundStream { peer, mut stream, .. }: InboundStream) {
        let worn_out = self.pairing.failed.get(&peer).is_some_and(|count| *count >= MAX_FAILURES);
        if worn_out || self.pairing.tasks.len() >= MAX_TASKS {
            return tracing::debug!(%peer, "pairing stream dropped");
        }
        self.pairing.tasks.spawn(async move {
            let request = timeout(DEADLINE, read(&mut stream)).await.ok()?.ok()?;
            Some(Shown { peer, request, stream })
        });
    }

    pub(super) fn handle_pairing(&mut self, finished: Result<Option<Shown>, JoinError>) {
        match finished {
            Ok(Some(Shown { peer, request, stream })) => {
                let outcome = self.pair(peer, &request);
                self.answer_code(peer, stream, outcome);
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "a pairing task failed"),
        }
    }

    fn pair(&mut self, peer: PeerId, request: &Request) -> Result<Redeemed, Refusal> {
        if peer == self.report.peer_id {
            return Err(Refusal::RelayItself);
        }
        let unix_now = peerup_clock::unix();
        let redeemed = self.pairing.redeem(request, peer, unix_now)?;
        let member = Member { peer, name: request.name.clone() };
        self.keys.admit(&member, redeemed.group, redeemed.members_until, unix_now)?;
        tracing::info!(%peer, group = %redeemed.group, again = !redeemed.first, "paired");
        self.counters.paired += u64::from(redeemed.first);
        self.apply_admission();
        Ok(redeemed)
    }

    fn answer_code(&mut self, peer: PeerId, mut stream: Stream, outcome: Result<Redeemed, Refusal>) {
        let response = match &outcome {
            Ok(Redeemed { group, size, .. }) => {
                Response::Joined { group: *group, size: *size, members: self.others(*group, peer) }
            }
            Err(refusal) => {
                tracing::info!(%peer, refusal = refusal as &dyn std::error::Error, "pairing refused");
                self.counters.refused += 1;
                Response::Refused(PairingFailed.to_string())
            }
        };
        let last = matches!(outcome, Err(Refusal::Code(_))) && self.pairing.failed(peer);
        if last && !self.may_use_relay(&peer) {
            tracing::info!(%peer, "too many wrong codes: closing its connections");
            return self.swarm.disconnect(peer);
        }
        self.pairing.tasks.spawn(async move {
            let written = async {
                stream.write_all(&response.encode()).await?;
                stream.close().await
            };
            match timeout(DEADLINE, written).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%peer, %error, "pairing answer not delivered"),
                Err(_) => tracing::debug!(%peer, "pairing answer not delivered in time"),
            }
            None
        });
        if let Ok(Redeemed { group, first: true, .. }) = outcome {
            self.introduce_newcomer(group, peer);
        }
    }

    /// The others learn of a newcomer at once, those that are away when they come back.
    fn introduce_newcomer(&mut self, group: GroupId, newcomer: PeerId) {
        for Member { peer, .. } in self.others(group, newcomer) {
            let introduction = self.introduction(group, peer);
            if let Some(path) = self.pairing.path_to(&peer) {
                self.pairing.send(path, &introduction);
            }
        }
    }

    /// A member has connected: it may have missed others. It is told once on each connection.
    pub(super) fn introduce_to(&mut self, peer: PeerId, path: PathId) {
        if !self.keys.is_authorized(&peer, peerup_clock::unix()) || !self.pairing.introduced.insert(path) {
            return;
        }
        for group in self.keys.groups_of(&peer) {
            let introduction = self.introduction(group, peer);
            if !introduction.members.is_empty() {
                self.pairing.send(path, &introduction);
            }
        }
    }

    fn introduction(&self, group: GroupId, to: PeerId) -> Introduction {
        let members = self.others(group, to);
        let members_in_all = u8::try_from(members.len() + 1).unwrap_or(u8::MAX);
        Introduction { group, members_in_all, members }
    }

    fn others(&self, group: GroupId, than: PeerId) -> Vec<Member> {
        let mut members = self.keys.members_of(group, peerup_clock::unix());
        members.retain(|member| member.peer != than);
        members
    }
}

/// A request ends where its stream does.
async fn read(stream: &mut Stream) -> io::Result<Request> {
    let mut bytes = Vec::new();
    stream.take(MAX_REQUEST as u64 + 1).read_to_end(&mut bytes).await?;
    Request::parse(&bytes).map_err(io::Error::other)
}

async fn introduce(handle: PathHandle, bytes: &[u8]) -> io::Result<()> {
    let mut stream = handle.open(protocol::PEER_NOTIFY).await.map_err(io::Error::other)?;
    stream.write_all(bytes).await?;
    stream.close().await
}
