//! The relay's part in an invite: it lets a joiner in while the code is open (an *admission*), and keeps the joiner
//! once that has paired.
//!
//! A relay grants an hour at most and forgets it when it restarts, so it is asked again halfway through the hour and
//! whenever it grants us a reservation, each time for what is left of the code. A relay that knows no vouching, or
//! has it off, still serves joiners that it admits already; the user is told once.

use std::time::{Duration, Instant};

use peerup_control::api::InviteEvent;
use peerup_swarm::PathHandle;
use peerup_trust::{NodeName, invite::InviteState};
use peerup_types::PeerId;
use peerup_wire::vouch::Request;
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

use super::{
    invite::{Report, Step},
    serve::{Acceptance, Verdict},
};
use crate::{
    controller::{Controller, Done},
    vouch::{self, AskError},
};

/// What a relay grants at once (docs/wire.md, "Vouching").
const GRANTED: Duration = Duration::from_secs(3600);
/// Before the relay is asked again after a failure that may pass.
const RETRY: Duration = Duration::from_secs(60);
/// A withdrawal needs one round trip; one that takes longer is not worth waiting for, since admissions expire.
const WITHDRAWAL: Duration = Duration::from_secs(1);

type Answer = Result<(), AskError>;

/// What we know of an admission.
pub struct Admission {
    pub relay: PeerId,
    /// The last time we asked, the relay said yes.
    open: bool,
    /// The relay keeps the joiner and has closed the admission; asking again would open it to others.
    used: bool,
    renew_at: Option<Instant>,
}

impl Admission {
    pub fn new(relay: PeerId) -> Self {
        Self { relay, open: true, used: false, renew_at: None }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.renew_at
    }

    /// How much to ask for at `now`, if it is time or an `early` reason to ask has come up.
    fn poll_request(&mut self, early: bool, now: Instant, expires: Instant) -> Option<Duration> {
        let due = early || self.renew_at.is_some_and(|at| at <= now);
        let left = expires.saturating_duration_since(now);
        if !due || self.used || left.is_zero() {
            return None;
        }
        self.renew_at = None;
        Some(left)
    }

    /// The relay's answer. True when joiners can no longer get in, or never could.
    fn handle_answer(&mut self, answer: &Answer, now: Instant, expires: Instant) -> bool {
        let (again, open) = match answer {
            Ok(()) => (now + GRANTED / 2, true),
            Err(AskError::Refused(_)) => (expires, false),
            Err(
                AskError::Unreachable
                | AskError::Open(_)
                | AskError::Io(_)
                | AskError::Message(_)
                | AskError::Timeout,
            ) => (now + RETRY, false),
        };
        let covered = if open { now + GRANTED } else { now };
        self.renew_at = (again < expires && covered < expires).then_some(again);
        std::mem::replace(&mut self.open, open) && !open
    }
}

/// Tasks that talk to the relay.
#[derive(Default)]
pub struct Errands {
    asking: Option<JoinHandle<()>>,
    withdrawing: Option<JoinHandle<()>>,
}

impl Controller {
    /// Asks the relay of the open invite for an admission; the answer comes back as a step.
    pub(super) fn ask_admission(
        &mut self,
        relay: PeerId,
        ttl: Duration,
        report: impl FnOnce(Answer) -> Report + Send + 'static,
    ) {
        let Some(invite) = self.invites.open_id() else { return };
        // Rounded up: the relay ends it on time, and a second of nothing would be refused.
        let ttl_s = u32::try_from(ttl.as_secs() + 1).unwrap_or(u32::MAX);
        let (path, done) = (self.path_to(&relay), self.done.clone());
        self.invites.errands.asking = Some(tokio::spawn(async move {
            let answer = vouch::ask(path, &Request::OpenAdmission { ttl_s }).await;
            let _ = done.send(Done::Invite(Step { invite, report: report(answer) })).await;
        }));
    }

    /// A relay that restarted has forgotten the admission; it grants a reservation again before a joiner can come.
    pub fn on_invite_reserved(&mut self, relay: PeerId) {
        if self.invites.waiting().is_some_and(|waiting| waiting.admission.relay == relay) {
            self.renew_admission(true);
        }
    }

    pub(super) fn renew_admission(&mut self, early: bool) {
        let Some(waiting) = self.invites.waiting() else { return };
        if waiting.session.state() != InviteState::Open {
            return;
        }
        let (relay, expires) = (waiting.admission.relay, waiting.session.expires());
        if let Some(ttl) = waiting.admission.poll_request(early, peerup_clock::now(), expires) {
            self.ask_admission(relay, ttl, Report::Admission);
        }
    }

    pub(super) fn on_admission(&mut self, answer: &Answer) {
        let Some(waiting) = self.invites.waiting() else { return };
        let expires = waiting.session.expires();
        let closed = waiting.admission.handle_answer(answer, peerup_clock::now(), expires);
        if let (true, Err(error)) = (closed, answer) {
            let text = format!("the relay does not let the other machine in on our word: {error}");
            let hint = "`peerup relay authorize ID` on the relay, with what `peerup whoami` prints on the other machine";
            self.tell(InviteEvent::Warning { text, hint: Some(hint.into()) });
        }
    }

    /// Asks the relay to keep the joiner, then lets the joiner have its answer.
    pub(super) fn vouch_for(
        &mut self,
        peer: PeerId,
        joiner: NodeName,
        acceptance: Acceptance,
        reply: oneshot::Sender<Verdict>,
    ) {
        let Some(invite) = self.invites.open_id() else { return };
        let Some(waiting) = self.invites.waiting() else { return };
        if waiting.admission.used {
            return drop(reply.send(Ok(acceptance)));
        }
        let relay = waiting.admission.relay;
        let (path, done) = (self.path_to(&relay), self.done.clone());
        tokio::spawn(async move {
            let answer = vouch::ask(path, &Request::Authorize { peer, name: joiner.to_string() }).await;
            let _ = done
                .send(Done::Invite(Step { invite, report: Report::Vouched { peer, joiner, answer } }))
                .await;
            let _ = reply.send(Ok(acceptance));
        });
    }

    /// Without the relay's consent the join still stands, and the relay's owner can give it.
    pub(super) fn on_vouched(&mut self, peer: PeerId, joiner: &NodeName, answer: Answer) {
        let Some(waiting) = self.invites.waiting() else { return };
        let Err(error) = answer else {
            waiting.admission.used = true;
            return;
        };
        if !waiting.admission.open {
            // It came in without our word, so it does not need it.
            return tracing::info!(%peer, %error, "the relay does not keep the joiner on our word");
        }
        let text = format!("the relay will not let {joiner} in again: {error}");
        let hint = format!("`peerup relay authorize {peer}` on the relay");
        self.tell(InviteEvent::Warning { text, hint: Some(hint) });
    }

    /// Lets nobody in any more. A question under way is waited for, or it might open the door after us.
    pub(super) fn withdraw_admission(&mut self, relay: PeerId) {
        let Some(path) = self.path_to(&relay) else { return };
        let asking = self.invites.errands.asking.take();
        self.invites.errands.withdrawing = Some(tokio::spawn(async move {
            if let Some(asking) = asking {
                let _ = asking.await;
            }
            if let Err(error) = vouch::ask(Some(path), &Request::CloseAdmission).await {
                tracing::debug!(%error, "the relay's admission ends by itself");
            }
        }));
    }

    /// The last words to the relay go out before the process ends.
    pub(super) async fn await_withdrawal(&mut self) {
        let Some(withdrawing) = self.invites.errands.withdrawing.take() else { return };
        let finished = timeout(WITHDRAWAL, withdrawing);
        tokio::pin!(finished);
        loop {
            tokio::select! {
                _ = &mut finished => return,
                _ = self.swarm.next_event() => {}
            }
        }
    }

    fn path_to(&self, peer: &PeerId) -> Option<PathHandle> {
        self.paths.values().map(|known| &known.handle).find(|handle| handle.peer == *peer).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_code_that_outlives_the_admission_renews_it_at_half_time_for_what_is_left() {
        let (mut admission, now) = admission();
        let expires = now + DAY;
        assert!(!admission.handle_answer(&Ok(()), now, expires));
        let half = now + GRANTED / 2;
        assert_eq!(admission.poll_timeout(), Some(half));
        assert_eq!(admission.poll_request(false, half - MINUTE, expires), None);
        assert_eq!(admission.poll_request(false, half, expires), Some(DAY - GRANTED / 2));
        assert_eq!(admission.poll_timeout(), None, "one question at a time");
        admission.handle_answer(&Ok(()), half, expires);
        assert_eq!(admission.poll_timeout(), Some(now + GRANTED));
        admission.handle_answer(&Ok(()), expires - GRANTED, expires);
        assert_eq!(admission.poll_timeout(), None, "the last hour is covered");
    }

    #[test]
    fn a_new_reservation_asks_again_until_the_joiner_is_kept() {
        let (mut admission, now) = admission();
        let expires = now + 10 * MINUTE;
        admission.handle_answer(&Ok(()), now, expires);
        assert_eq!(admission.poll_request(true, now + MINUTE, expires), Some(9 * MINUTE));
        assert_eq!(admission.poll_request(true, expires, expires), None);
        admission.used = true;
        assert_eq!(admission.poll_request(true, now + MINUTE, expires), None);
    }

    #[test]
    fn a_failure_that_may_pass_is_tried_again_and_a_refusal_is_not_and_either_is_told_once() {
        let (mut admission, now) = admission();
        let expires = now + 10 * MINUTE;
        assert!(admission.handle_answer(&Err(AskError::Timeout), now, expires));
        assert_eq!(admission.poll_timeout(), Some(now + RETRY));
        assert!(!admission.handle_answer(&Err(AskError::Refused("off".into())), now, expires));
        assert_eq!(admission.poll_timeout(), None);
        assert!(!admission.handle_answer(&Ok(()), now, expires));
        assert!(admission.handle_answer(&Err(AskError::Unreachable), now, expires));
    }

    fn admission() -> (Admission, Instant) {
        (Admission::new(PeerId::random()), peerup_clock::now())
    }
}
