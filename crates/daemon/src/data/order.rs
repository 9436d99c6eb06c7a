//! What the machines of `peerup-lane` decide about order and acknowledgements, carried out.
//!
//! Frames and acknowledgements cost no task of their own while traffic flows both ways: acknowledgements ride with whatever
//! is written. The tasks here are for pauses, one of a kind per peer, and end by themselves.

use std::{rc::Rc, time::Instant};

use peerup_lane::{
    Arrival,
    inbound::{ACK_DELAY, Urgency},
};
use peerup_tun::Device;
use peerup_wire::frame::{Announce, Frame, FrameWriter};
use tokio::task::spawn_local;

use super::{inlet, peer::Peer, plane::Plane};

/// Whether the frames of a stream are numbered, and in which life of the peer's lane.
#[derive(Debug, Default)]
pub struct Numbering {
    instance: Option<u64>,
}

impl Numbering {
    /// The stream says which lane its frames belong to. There is one lane per peer; frames of others are taken as they
    /// come.
    pub fn announced(&mut self, announce: Announce, peer: &Peer, now: Instant) {
        if announce.lane == 0 {
            self.instance = Some(announce.instance);
            peer.inbound.borrow_mut().announced(announce, now);
        }
    }

    /// Whether a packet frame goes to the host at once.
    pub fn admits<D: Device + 'static>(
        &self,
        plane: &Plane<D>,
        peer: &Peer,
        frame: &Frame<'_>,
        now: Instant,
    ) -> bool {
        let Some(instance) = self.instance else { return true };
        let mut inbound = peer.inbound.borrow_mut();
        // An older life of the lane: its numbers say nothing about this one's frames.
        if !inbound.is(instance) {
            return true;
        }
        match inbound.receive(frame.seq, frame.kind, frame.body, now) {
            Arrival::Deliver => return true,
            Arrival::Duplicate => plane.shared.counters.duplicates.add(1),
            Arrival::Hold => plane.shared.counters.reordered.add(1),
        }
        false
    }
}

/// Delivers what need not wait any longer.
pub async fn release<D: Device + 'static>(plane: &Plane<D>, peer: &Peer, now: Instant) {
    loop {
        let ready = peer.inbound.borrow_mut().pop_ready(now);
        let Some(held) = ready else { return };
        let table = plane.table();
        let index = table.as_ref().and_then(|table| table.index_of(&peer.id));
        inlet::deliver(plane, peer, table.as_deref().zip(index), held.kind, &held.body).await;
        peer.inbound.borrow_mut().give_back(held);
    }
}

/// Looks after frames that wait, until none does.
pub fn watch_held<D: Device + 'static>(plane: &Rc<Plane<D>>, peer: &Rc<Peer>) {
    if !peer.inbound.borrow().is_holding() || peer.releasing.replace(true) {
        return;
    }
    let (plane, peer) = (plane.clone(), peer.clone());
    spawn_local(async move {
        loop {
            let timeout = peer.inbound.borrow().poll_timeout();
            let Some(at) = timeout else { break };
            tokio::time::sleep_until(at.into()).await;
            let _turn = peer.delivering.lock().await;
            release(&plane, &peer, peerup_clock::now()).await;
        }
        peer.releasing.set(false);
    });
}

/// Makes sure that what was received is acknowledged, soon or at once.
pub fn watch_acknowledgement(peer: &Rc<Peer>, now: Instant) {
    let urgency = peer.inbound.borrow().wants_ack(now);
    match urgency {
        None => {}
        Some(Urgency::AtOnce) => peer.wake(),
        Some(Urgency::Soon) => {
            if peer.acknowledging.replace(true) {
                return;
            }
            let peer = peer.clone();
            spawn_local(async move {
                tokio::time::sleep(ACK_DELAY).await;
                peer.acknowledging.set(false);
                peer.ack_due.set(true);
                peer.wake();
            });
        }
    }
}

/// Writes an acknowledgement with whatever else is written, or alone when it is due.
pub fn acknowledge(peer: &Peer, writer: &mut FrameWriter, now: Instant) {
    let mut inbound = peer.inbound.borrow_mut();
    let due = peer.ack_due.take() || inbound.wants_ack(now) == Some(Urgency::AtOnce);
    if (due || !writer.is_empty())
        && let Some(ack) = inbound.take_ack(now)
    {
        writer.push_ack(ack);
    }
}

/// Wakes the outlet when frames that went another way have been without acknowledgement for too long.
pub fn watch_resend(peer: &Rc<Peer>) {
    if peer.lane.borrow().poll_timeout().is_none() || peer.resending.replace(true) {
        return;
    }
    let peer = peer.clone();
    spawn_local(async move {
        loop {
            let timeout = peer.lane.borrow().poll_timeout();
            let Some(at) = timeout else { break };
            tokio::time::sleep_until(at.into()).await;
            peer.wake();
            // The outlet may be in the middle of a write that takes long.
            tokio::time::sleep(ACK_DELAY).await;
        }
        peer.resending.set(false);
    });
}
