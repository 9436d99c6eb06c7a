//! The data plane: packets between the TUN and the streams of paths.
//!
//! One thread with a current-thread runtime owns everything here, libp2p's connection tasks included; nothing is
//! locked and nothing is shared per packet (docs/adr/0004). The control thread sends [`Command`]s and receives
//! [`DataEvent`]s over bounded channels; neither carries packets.
//!
//! ```text
//!  TUN → device::read → RoutingTable::outbound → Lane (per peer) → outlet (per path) → stream
//!  stream → inlet (per path) → Inbound (per peer) → RoutingTable::inbound → TUN
//! ```
//!
//! A lane belongs to a peer, an outlet to a path: switching paths means that another outlet drains the lane. The
//! old outlet finishes the batch it is writing. What order and duplicates, acknowledgements and sending again have to
//! do with it is `peerup-lane`'s to say; [`order`] carries it out.

mod counters;
mod datagrams;
mod device;
mod inlet;
mod order;
mod outlet;
mod peer;
mod plane;
mod unheard;

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc, thread, time::Duration};

use peerup_router::RoutingTable;
use peerup_swarm::{Datagrams, Stream};
use peerup_tun::Device;
use peerup_types::{CarrierChoice, PathId, PeerId};
use peerup_wire::control::Control;
use tokio::{
    runtime::{self, Handle},
    sync::{mpsc, oneshot},
    task::LocalSet,
};

pub use counters::{PathCounters, PeerCounters, PlaneCounters};

use plane::Unstarted;

/// Commands in flight: the control thread sends a few per path event and waits when the data thread is behind.
const COMMANDS: usize = 256;
/// Events in flight. They are facts that can be asked for again (a wanted peer, a probe's answer), so the data
/// thread drops them when the control thread is this far behind.
const EVENTS: usize = 1024;

/// What the control thread tells the data thread.
pub enum Command<D> {
    /// Packets come from and go to this device.
    Attach(D),
    /// Close the device; the sender is told when its interface is gone.
    Detach(oneshot::Sender<()>),
    /// Which peers there are; `counters` are used for peers that are new.
    Table {
        table: Arc<RoutingTable>,
        counters: BTreeMap<PeerId, Arc<PeerCounters>>,
    },
    /// Which carriers packets may take.
    Carriers(CarrierChoice),
    /// Our stream on a path, hello done: an outlet. `features` are the peer's, of its hello; `datagrams` those of the
    /// connection.
    Outlet {
        path: PathId,
        peer: PeerId,
        stream: Stream,
        counters: Arc<PathCounters>,
        features: u64,
        datagrams: Option<Datagrams>,
    },
    /// The peer's stream on a path, hello done: an inlet.
    Inlet {
        path: PathId,
        peer: PeerId,
        stream: Stream,
        counters: Arc<PathCounters>,
        datagrams: Option<Datagrams>,
    },
    /// Packets for `peer` leave on this path; `None` parks them. Those that take datagrams leave on `beside`.
    Use {
        peer: PeerId,
        path: Option<PathId>,
        beside: Option<PathId>,
    },
    /// The path is gone or given up.
    Remove(PathId),
    Probe {
        path: PathId,
        id: u64,
    },
    Say {
        path: PathId,
        control: Control,
    },
}

/// What the data thread tells the control thread.
#[derive(Debug)]
pub enum DataEvent {
    /// A stream of this path ended or failed.
    Broken {
        path: PathId,
        error: String,
    },
    Answer {
        path: PathId,
        id: u64,
        rtt: Duration,
    },
    Heard {
        path: PathId,
        control: Control,
    },
    /// A packet waits for a peer without a path.
    Wanted(PeerId),
    /// Packets have left on this path for a while, and nothing came back on it.
    Unanswered(PathId),
    /// Packets go to or come from this peer; repeated every few seconds while they do.
    Traffic(PeerId),
    DeviceLost(String),
}

/// The running data thread.
pub struct DataPlane<D> {
    commands: mpsc::Sender<Command<D>>,
    events: mpsc::Receiver<DataEvent>,
    io: Handle,
    pub counters: Arc<PlaneCounters>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot start the data thread's runtime")]
    Runtime(#[source] std::io::Error),
    #[error("cannot start the data thread")]
    Thread(#[source] std::io::Error),
}

/// A data plane whose thread does not run yet. Devices can be made on its runtime, and privileges can be dropped
/// while the process still has one thread.
pub struct Prepared<D> {
    runtime: runtime::Runtime,
    _device: PhantomData<D>,
}

impl<D: Device + 'static> Prepared<D> {
    pub fn new() -> Result<Self, StartError> {
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
        Ok(Self { runtime, _device: PhantomData })
    }

    pub fn io(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Starts the thread. It ends when the returned value is dropped.
    pub fn start(self) -> Result<DataPlane<D>, StartError> {
        let Self { runtime, .. } = self;
        let io = runtime.handle().clone();
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (outbox, events) = mpsc::channel(EVENTS);
        let counters = Arc::new(PlaneCounters::default());
        let plane = Unstarted::new(outbox, counters.clone());
        thread::Builder::new()
            .name("peerup-data".into())
            .spawn(move || LocalSet::new().block_on(&runtime, plane.run(inbox)))
            .map_err(StartError::Thread)?;
        Ok(DataPlane { commands, events, io, counters })
    }
}

impl<D: Device + 'static> DataPlane<D> {
    /// The runtime that runs network I/O and connection tasks.
    pub fn io(&self) -> &Handle {
        &self.io
    }

    pub async fn send(&self, command: Command<D>) {
        // The thread ends only when this value is dropped.
        let _ = self.commands.send(command).await;
    }

    pub async fn next_event(&mut self) -> Option<DataEvent> {
        self.events.recv().await
    }
}
