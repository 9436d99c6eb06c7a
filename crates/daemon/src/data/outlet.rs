//! The sending end of one path: a task that turns a peer's lane into batches of frames on our stream.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures::{AsyncWrite, AsyncWriteExt};
use peerup_router::DropReason;
use peerup_swarm::Datagrams;
use peerup_types::PathId;
use peerup_wire::{
    control::Control,
    frame::{FrameWriter, Probe},
};
use tokio::sync::Notify;

use super::{counters::PathCounters, order, peer::Peer, plane::Shared, unheard::Unheard};

/// Probes and control messages waiting on one path: a handful per second at most, unless the path is stuck.
const MAX_URGENT: usize = 32;

/// A write that takes longer than any copy had to wait for the other end.
const WAITED: Duration = Duration::from_millis(2);

enum Urgent {
    Probe(Probe),
    Control(Control),
}

/// The handle of the task.
pub struct Outlet {
    pub path: PathId,
    pub counters: Arc<PathCounters>,
    /// Of a connection whose peer takes packets as datagrams.
    pub datagrams: Option<Datagrams>,
    pub unheard: Unheard,
    urgent: RefCell<VecDeque<Urgent>>,
    wake: Notify,
    closed: Cell<bool>,
}

impl Outlet {
    pub fn new(path: PathId, counters: Arc<PathCounters>, datagrams: Option<Datagrams>) -> Self {
        Self {
            path,
            counters,
            datagrams,
            unheard: Unheard::default(),
            urgent: RefCell::default(),
            wake: Notify::new(),
            closed: Cell::new(false),
        }
    }

    /// Whether this connection's datagrams have it for themselves, without a lane's stream.
    pub fn stand_alone(&self, alone: bool) {
        if let Some(datagrams) = &self.datagrams {
            datagrams.stand_alone(alone);
        }
    }

    /// There is something to send.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    pub fn probe(&self, probe: Probe) {
        self.push(Urgent::Probe(probe));
    }

    pub fn say(&self, control: Control) {
        self.push(Urgent::Control(control));
    }

    pub fn close(&self) {
        self.closed.set(true);
        self.wake();
    }

    fn push(&self, urgent: Urgent) {
        let mut queue = self.urgent.borrow_mut();
        // A path that takes no probes is about to be found dead; piling up more does not help it.
        if queue.len() < MAX_URGENT {
            queue.push_back(urgent);
            self.wake();
        }
    }

    fn collect(&self, writer: &mut FrameWriter) {
        while let Some(urgent) = self.urgent.borrow_mut().pop_front() {
            match urgent {
                Urgent::Probe(probe) => writer.push_probe(probe),
                Urgent::Control(control) => {
                    if let Err(error) = writer.push_control(&control) {
                        tracing::debug!(%error, "control message not sent");
                    }
                }
            }
        }
    }
}

/// Writes until the stream fails or the outlet is closed. Urgent frames go first, then packets, if this is the path
/// that the peer's packets take.
pub async fn run<W: AsyncWrite + Unpin>(
    outlet: Rc<Outlet>,
    peer: Rc<Peer>,
    shared: Rc<Shared>,
    mut stream: W,
) -> Result<(), std::io::Error> {
    let mut writer = FrameWriter::new();
    while !outlet.closed.get() {
        writer.clear();
        outlet.collect(&mut writer);
        if peer.uses(outlet.path) {
            let now = peerup_clock::now();
            let drained = peer.lane.borrow_mut().drain_into(&mut writer, peer.far(), now);
            shared.counters.resent.add(drained.resent);
            shared.counters.marked.add(drained.marked);
            shared.counters.dropped_many(DropReason::QueueCongestion, drained.congestion);
            shared.counters.dropped_many(DropReason::QueueDelay, drained.too_old);
            shared.counters.dropped_many(DropReason::TooBig, drained.unfit);
            peer.counters.tx_packets.add(drained.packets);
            peer.counters.tx_bytes.add(drained.bytes);
            order::acknowledge(&peer, &mut writer, now);
        }
        if writer.is_empty() {
            outlet.wake.notified().await;
            continue;
        }
        let begun = peerup_clock::now();
        stream.write_all(writer.as_bytes()).await?;
        stream.flush().await?;
        if peerup_clock::now().saturating_duration_since(begun) > WAITED {
            outlet.counters.resumed_writes.add(1);
        }
    }
    stream.close().await
}
