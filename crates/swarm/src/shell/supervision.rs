//! Runs libp2p under supervision: a panic costs connections, not the process.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream as _;
use libp2p::{Multiaddr, swarm::SwarmEvent};
use tokio::time::{Instant, sleep};

use super::{PeerSwarm, rebinding::Rebinding};
use crate::{
    behaviour::BehaviourEvent,
    build::{Built, build},
    event::{Event, ListenError},
};

impl PeerSwarm {
    /// Polls libp2p; an error is its panic.
    pub(super) fn poll_supervised(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Result<Poll<SwarmEvent<BehaviourEvent>>, String> {
        let _io = self.config.io.enter();
        let (swarm, provoke) = (&mut self.swarm, std::mem::take(&mut self.provoke));
        catch_unwind(AssertUnwindSafe(|| {
            assert!(!provoke, "provoked by a test");
            match Pin::new(swarm).poll_next(cx) {
                Poll::Ready(Some(event)) => Poll::Ready(event),
                // A swarm's stream of events does not end.
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            }
        }))
        .map_err(|payload| panic_message(payload.as_ref()))
    }

    /// Replaces a swarm that panicked, and leaves the new one alone for a while when that happens again and again.
    /// Its connections die with it; reports that in the order a reader expects.
    pub(super) fn restart(&mut self, panic: String) {
        self.replace(&panic);
        self.apply_admission();
        self.restart_lookups();
        self.pending.extend(self.paths.drain().map(|(path, (peer, _))| Event::PathClosed { path, peer }));
        self.by_connection.clear();
        self.pending.extend(self.reservations.drain().map(|(_, relay)| Event::ReservationLost { relay }));
        self.listen_again();
        for address in std::mem::take(&mut self.external) {
            self.add_external_address(address);
        }
        self.relay_at(self.relaying_at.clone());
        self.rest();
        self.pending.push_back(Event::Restarted { panic });
    }

    fn replace(&mut self, panic: &str) {
        let first_path = self.swarm.behaviour().paths.next_path();
        let (swarm, inbound): Built = match build(&self.config, first_path, self.relaying.clone()) {
            Ok(built) => built,
            // The same configuration built before; without transports there is nothing to supervise.
            Err(error) => panic!("cannot rebuild the swarm after `{panic}`: {error}"),
        };
        let broken = std::mem::replace(&mut self.swarm, swarm);
        // Dropping a half-updated swarm may panic once more.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(broken)));
        self.inbound = inbound;
    }

    fn rest(&mut self) {
        let rest = self.restarts.record(Instant::now());
        if !rest.is_zero() {
            let _io = self.config.io.enter();
            self.resting = Some(Box::pin(sleep(rest)));
        }
    }

    /// Ready when libp2p may be polled.
    pub(super) fn poll_rested(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(resting) = &mut self.resting else { return Poll::Ready(()) };
        let rested = resting.as_mut().poll(cx);
        if rested.is_ready() {
            self.resting = None;
        }
        rested
    }

    fn listen_again(&mut self) {
        let mut addresses = std::mem::take(&mut self.listen);
        addresses.extend(self.rebinding.take().into_iter().flat_map(Rebinding::into_unbound));
        let failed = self.bind(addresses);
        let _io = self.config.io.enter();
        self.rebinding = Rebinding::new(failed);
    }

    fn bind(&mut self, addresses: Vec<Multiaddr>) -> Vec<ListenError> {
        let failed: Vec<_> = addresses.into_iter().filter_map(|address| self.listen(address).err()).collect();
        for error in &failed {
            tracing::debug!(%error, "not listening again yet");
        }
        failed
    }

    /// Tries the addresses whose time has come.
    pub(super) fn poll_rebinding(&mut self, cx: &mut Context<'_>) {
        let Some(mut rebinding) = self.rebinding.take() else { return };
        while let Poll::Ready(due) = rebinding.poll_due(cx) {
            let failed = self.bind(due);
            let _io = self.config.io.enter();
            self.pending.extend(rebinding.put_back(failed).into_iter().map(Event::ListenFailed));
            if rebinding.is_done() {
                return;
            }
        }
        self.rebinding = Some(rebinding);
    }
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
