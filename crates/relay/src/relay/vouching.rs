//! Vouching: requests are read and answered by tasks, and judged here.

use std::time::Duration;

use peerup_swarm::{InboundStream, Stream};
use peerup_types::PeerId;
use peerup_wire::vouch::{Request, VouchError};
use tokio::task::JoinError;

use super::Relay;
use crate::vouch::{self, Refusal};

/// Streams whose request is being read. An inviter needs one for a moment.
const MAX_READING: usize = 16;
/// Streams above that are told so, and dropped when even telling piles up.
const MAX_TASKS: usize = 2 * MAX_READING;

/// A request, and the stream that waits for the answer.
pub(super) struct Asked {
    inviter: PeerId,
    request: Result<Request, VouchError>,
    stream: Stream,
}

impl Relay {
    pub(super) fn handle_stream(&mut self, InboundStream { peer, mut stream, .. }: InboundStream) {
        match self.vouching.len() {
            0..MAX_READING => {
                self.vouching.spawn(async move {
                    let request = vouch::read(&mut stream).await.ok()?;
                    Some(Asked { inviter: peer, request, stream })
                });
            }
            MAX_READING..MAX_TASKS => self.answer(peer, stream, Err(Refusal::Busy)),
            MAX_TASKS.. => tracing::debug!(%peer, "vouching stream dropped"),
        }
    }

    pub(super) fn handle_vouching(&mut self, finished: Result<Option<Asked>, JoinError>) {
        match finished {
            Ok(Some(Asked { inviter, request, stream })) => {
                let outcome = request.map_err(Refusal::from).and_then(|request| self.vouch(inviter, request));
                self.answer(inviter, stream, outcome);
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "a vouching task failed"),
        }
    }

    fn answer(&mut self, inviter: PeerId, stream: Stream, outcome: Result<(), Refusal>) {
        if let Err(refusal) = &outcome {
            tracing::info!(%inviter, refusal = refusal as &dyn std::error::Error, "vouching refused");
            self.counters.refused += 1;
        }
        let response = vouch::response(&outcome);
        self.vouching.spawn(async move {
            if let Err(error) = vouch::answer(stream, &response).await {
                tracing::debug!(%inviter, %error, "vouching answer not delivered");
            }
            None
        });
    }

    fn vouch(&mut self, inviter: PeerId, request: Request) -> Result<(), Refusal> {
        if !self.config.relay.vouching {
            return Err(Refusal::Off);
        }
        // The key may have been removed since the stream was opened.
        if !self.keys.is_authorized(&inviter, peerup_clock::unix()) {
            return Err(Refusal::NotAuthorized);
        }
        match request {
            Request::OpenAdmission { ttl_s } => self.open_admission(inviter, ttl_s)?,
            Request::Authorize { peer, name } => self.authorize(inviter, peer, &name)?,
            Request::CloseAdmission => self.close_admission(&inviter),
        }
        self.apply_admission();
        Ok(())
    }

    fn open_admission(&mut self, inviter: PeerId, ttl_s: u32) -> Result<(), Refusal> {
        self.admissions.open(inviter, Duration::from_secs(ttl_s.into()), peerup_clock::now())?;
        tracing::info!(%inviter, ttl_s, "admission open");
        Ok(())
    }

    /// Uses the inviter's admission up, once the newcomer's key is safely in the file.
    fn authorize(&mut self, inviter: PeerId, peer: PeerId, name: &str) -> Result<(), Refusal> {
        if !self.admissions.is_open(&inviter, peerup_clock::now()) {
            return Err(Refusal::NoAdmission);
        }
        if peer == self.report.peer_id {
            return Err(Refusal::RelayItself);
        }
        if !self.keys.is_authorized(&peer, peerup_clock::unix()) {
            self.keys.append(peer, &vouch::comment(name, &inviter)).map_err(Refusal::of_append)?;
            tracing::info!(%inviter, %peer, "authorized on the word of its inviter");
            self.counters.vouched += 1;
        }
        self.close_admission(&inviter);
        Ok(())
    }

    fn close_admission(&mut self, inviter: &PeerId) {
        let guests = self.admissions.close(inviter);
        self.cut_off(guests);
    }
}
