//! The state of the data thread: peers with their lanes and outlets, the routing table, the device.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io::ErrorKind::WouldBlock,
    panic::AssertUnwindSafe,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use peerup_lane::{Form, PARKED_FOR};
use peerup_packet::gso::{self, Merged, Merger, Segmentation, SuperPacketView, VirtioNetHeader};
use peerup_packet::{FlowKey, IpPacket, Unreachable, protocol, unreachable};
use peerup_router::{DropReason, PeerIndex, RoutingTable};
use peerup_swarm::{Datagrams, Stream};
use peerup_tun::Device;
use peerup_types::{CarrierChoice, PathId, PeerId};
use peerup_wire::{
    frame::{Probe, ProbeKind},
    hello::FEATURE_DATAGRAMS,
};
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::{AbortHandle, JoinHandle, spawn_local},
};

use super::{
    Command, DataEvent, PathCounters, PeerCounters, PlaneCounters,
    datagrams::{self, Outgoing},
    device, inlet, order,
    outlet::{self, Outlet},
    peer::Peer,
};

/// At most one `Wanted` per peer in this time: the control thread needs to hear it once.
const WANTED_EVERY: Duration = Duration::from_millis(500);
/// Between two reports that a peer has traffic; well below the time after which it counts as idle.
const TRAFFIC_EVERY: Duration = Duration::from_secs(5);
/// Probes whose answer is awaited, all paths together; older ones are forgotten.
const MAX_PROBES: usize = 1024;

/// What every task may use.
pub struct Shared {
    pub counters: Arc<PlaneCounters>,
}

struct Attached<D> {
    device: Rc<D>,
    reader: JoinHandle<()>,
}

/// A panic in one task costs that stream or device, is reported, and is counted by the panic hook.
async fn guarded<T>(task: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(task).catch_unwind().await.map_err(|_| "the task panicked".to_owned())
}

/// Whether a device takes super-packets: kernels before Linux 6.2 take TCP whole and refuse datagrams put together.
fn takes_whole(device: &impl Device, udp: bool) -> bool {
    device.offload().is_some_and(|offload| offload.uso || !udp)
}

pub struct Plane<D> {
    pub shared: Rc<Shared>,
    events: mpsc::Sender<DataEvent>,
    table: RefCell<Option<Arc<RoutingTable>>>,
    peers: RefCell<BTreeMap<PeerId, Rc<Peer>>>,
    owners: RefCell<BTreeMap<PathId, Rc<Peer>>>,
    inlets: RefCell<BTreeMap<PathId, Vec<AbortHandle>>>,
    /// By number, so that the oldest is the first.
    probes: RefCell<BTreeMap<u64, (PathId, Instant)>>,
    attached: RefCell<Option<Attached<D>>>,
    choice: Cell<CarrierChoice>,
    /// Numbers the lanes of this process's life; begins with a number that no earlier process had.
    instances: Cell<u64>,
}

/// A plane that has not entered its thread: the `Rc`s inside [`Plane`] are made there.
pub struct Unstarted {
    events: mpsc::Sender<DataEvent>,
    counters: Arc<PlaneCounters>,
}

impl Unstarted {
    pub fn new(events: mpsc::Sender<DataEvent>, counters: Arc<PlaneCounters>) -> Self {
        Self { events, counters }
    }

    pub async fn run<D: Device + 'static>(self, mut commands: mpsc::Receiver<Command<D>>) {
        let plane = Rc::new(Plane::<D> {
            shared: Rc::new(Shared { counters: self.counters }),
            events: self.events,
            table: RefCell::new(None),
            peers: RefCell::default(),
            owners: RefCell::default(),
            inlets: RefCell::default(),
            probes: RefCell::default(),
            attached: RefCell::new(None),
            choice: Cell::default(),
            instances: Cell::new(peerup_clock::unix_millis() << 16),
        });
        while let Some(command) = commands.recv().await {
            plane.handle(command);
        }
    }
}

impl<D: Device + 'static> Plane<D> {
    pub fn table(&self) -> Option<Arc<RoutingTable>> {
        self.table.borrow().clone()
    }

    pub fn emit(&self, event: DataEvent) {
        let Err(TrySendError::Full(event)) = self.events.try_send(event) else { return };
        match event {
            // One per stream or device, and nothing repeats them: they wait for room.
            DataEvent::Broken { .. } | DataEvent::DeviceLost(_) => {
                let events = self.events.clone();
                spawn_local(async move { events.send(event).await });
            }
            // Facts that come again: the control thread is far behind and will hear the next one.
            DataEvent::Answer { .. }
            | DataEvent::Heard { .. }
            | DataEvent::Unanswered(_)
            | DataEvent::Wanted(_)
            | DataEvent::Traffic(_) => {
                tracing::debug!("an event was dropped: the control thread is behind");
            }
        }
    }

    /// Sends a packet from the host as datagrams, if that is what it takes. `false`: it has to be queued.
    pub fn send_datagrams(&self, peer: &Peer, packet: Outgoing<'_>) -> bool {
        let now = peerup_clock::now();
        let Some((outlet, datagrams, room)) = peer.datagrams_for(packet, now) else { return false };
        let sent = datagrams::send(peer, &self.shared, &datagrams, packet, room);
        if sent {
            self.note_traffic(peer, now);
            self.note_silence(&outlet, now);
        }
        sent
    }

    /// Queues a packet from the host. Without a path it waits and the control thread is told.
    pub fn queue(self: &Rc<Self>, peer: Rc<Peer>, flow: FlowKey, form: Form, body: &[u8]) {
        let now = peerup_clock::now();
        let Some(path) = peer.active() else { return self.park(peer, flow, form, body, now) };
        self.note_traffic(&peer, now);
        peer.outlet(path, |outlet| self.note_silence(outlet, now));
        let dropped = peer.lane.borrow_mut().push(flow, form, body, now);
        self.shared.counters.dropped_many(DropReason::QueueFull, dropped);
        peer.wake();
    }

    /// Tells the control thread that packets want `peer`, now and then.
    pub fn want(&self, peer: &PeerId) {
        let Some(peer) = self.peer(peer) else { return };
        let now = peerup_clock::now();
        if peer.wanted.get().is_none_or(|at| at + WANTED_EVERY <= now) {
            peer.wanted.set(Some(now));
            self.emit(DataEvent::Wanted(peer.id));
        }
    }

    /// Tells the control thread when packets leave on a path and nothing comes back.
    fn note_silence(&self, outlet: &Outlet, now: Instant) {
        if outlet.unheard.sent(now) {
            self.emit(DataEvent::Unanswered(outlet.path));
        }
    }

    pub fn note_traffic(&self, peer: &Peer, now: Instant) {
        if peer.traffic.get().is_none_or(|at| at + TRAFFIC_EVERY <= now) {
            peer.traffic.set(Some(now));
            self.emit(DataEvent::Traffic(peer.id));
        }
    }

    /// Keeps a packet for a peer that is being reached, and answers it when that takes too long.
    fn park(self: &Rc<Self>, peer: Rc<Peer>, flow: FlowKey, form: Form, body: &[u8], now: Instant) {
        self.want(&peer.id);
        let dropped = peer.lane.borrow_mut().park(flow, form, body, now);
        self.shared.counters.dropped_many(DropReason::QueueFull, dropped);
        self.watch_parked(peer);
    }

    /// Makes sure that packets of a peer without a path do not wait for ever.
    fn watch_parked(self: &Rc<Self>, peer: Rc<Peer>) {
        if peer.lane.borrow().is_empty() || peer.watched.replace(true) {
            return;
        }
        let plane = self.clone();
        spawn_local(async move {
            plane.expire_parked(&peer).await;
            peer.watched.set(false);
        });
    }

    async fn expire_parked(&self, peer: &Peer) {
        while peer.active().is_none() && !peer.lane.borrow().is_empty() {
            tokio::time::sleep(PARKED_FOR / 4).await;
            if peer.active().is_none() {
                let expired = peer.lane.borrow_mut().expired(peerup_clock::now());
                self.answer_unreachable(expired);
            }
        }
    }

    /// Hands a packet to the host.
    pub async fn write(&self, packet: &[u8]) {
        let Some(device) = self.device() else { return };
        let written = match device.try_send_packet(packet) {
            Err(busy) if busy.kind() == WouldBlock => device.send_packet(packet).await,
            written => written,
        };
        self.count_refusal(written);
    }

    /// Hands a super-packet to the host: whole where the device takes it, else packet by packet. `frame` is what
    /// arrived, `view` what was found in it.
    pub async fn write_super(&self, frame: &[u8], view: &SuperPacketView<'_>, mtu: usize) {
        let Some(device) = self.device() else { return };
        if !takes_whole(&*device, view.segmentation() == Segmentation::Udp) {
            return self.write_cut(view, mtu).await;
        }
        // The kernel gets the header that was made from the packet. An honest peer sends the same one, and then
        // nothing is copied.
        let header = view.header().emit();
        let remade = (!frame.starts_with(&header)).then(|| [&header[..], view.packet().as_bytes()].concat());
        let frame = remade.as_deref().unwrap_or(frame);
        let written = match device.try_send(frame) {
            Err(busy) if busy.kind() == WouldBlock => device.send(frame).await,
            written => written,
        };
        self.count_refusal(written);
    }

    /// Whether the host takes packets like this one put together.
    pub fn takes_merged(&self, packet: &IpPacket<'_>) -> bool {
        let udp = packet.protocol() == protocol::UDP;
        self.attached.borrow().as_ref().is_some_and(|attached| takes_whole(&*attached.device, udp))
    }

    /// Hands the host what was put together, if anything was.
    pub async fn write_merged(&self, merger: &mut Merger) {
        match merger.finish() {
            Merged::Nothing => return,
            Merged::Packet(packet) => self.write(packet).await,
            // Cut again, if it has to be, it is what came.
            Merged::Frame(frame) => {
                let split = frame.split_first_chunk();
                let parsed = split.map(|(header, packet)| (VirtioNetHeader::parse(header), packet));
                if let Some(Ok(view)) =
                    parsed.map(|(header, packet)| gso::validate(header, packet, usize::MAX))
                {
                    self.write_super(frame, &view, usize::MAX).await;
                }
            }
        }
        merger.clear();
    }

    async fn write_cut(&self, view: &SuperPacketView<'_>, mtu: usize) {
        let Ok(mut segments) = view.segments_within(mtu) else { return };
        let mut scratch = Vec::new();
        while let Some(packet) = segments.next(&mut scratch) {
            self.write(packet).await;
        }
    }

    fn device(&self) -> Option<Rc<D>> {
        self.attached.borrow().as_ref().map(|attached| attached.device.clone())
    }

    fn count_refusal(&self, written: std::io::Result<()>) {
        if written.is_err() {
            self.shared.counters.dropped(DropReason::TunWrite);
        }
    }

    pub fn answered(&self, path: PathId, id: u64) {
        let asked = self.probes.borrow_mut().remove(&id);
        if let Some((_, sent)) = asked.filter(|(on, _)| *on == path) {
            let rtt = peerup_clock::now().saturating_duration_since(sent);
            self.emit(DataEvent::Answer { path, id, rtt });
        }
    }

    fn handle(self: &Rc<Self>, command: Command<D>) {
        match command {
            Command::Attach(device) => self.attach(device),
            Command::Detach(closed) => self.detach(Some(closed)),
            Command::Table { table, counters } => self.set_table(table, counters),
            Command::Carriers(choice) => {
                self.choice.set(choice);
                for peer in self.peers.borrow().values() {
                    peer.carriers.borrow_mut().choose(choice);
                }
            }
            Command::Outlet { path, peer, stream, counters, features, datagrams } => {
                let datagrams = datagrams.filter(|_| features & FEATURE_DATAGRAMS != 0);
                self.add_outlet(peer, stream, features, Outlet::new(path, counters, datagrams));
            }
            Command::Inlet { path, peer, stream, counters, datagrams } => {
                self.add_inlet(path, peer, stream, counters, datagrams);
            }
            Command::Use { peer, path, beside } => self.switch(peer, path, beside),
            Command::Remove(path) => self.remove(path),
            Command::Probe { path, id } => self.probe(path, id),
            Command::Say { path, control } => {
                if let Some(peer) = self.owners.borrow().get(&path) {
                    peer.outlet(path, |outlet| outlet.say(control));
                }
            }
        }
    }

    fn attach(self: &Rc<Self>, device: D) {
        self.detach(None);
        let device = Rc::new(device);
        let (plane, source) = (self.clone(), device.clone());
        let reader = spawn_local(async move {
            let lost = guarded(device::read(plane.clone(), source)).await;
            plane.emit(DataEvent::DeviceLost(lost.unwrap_or_else(|panic| panic)));
        });
        *self.attached.borrow_mut() = Some(Attached { device, reader });
    }

    /// Closes the device when nothing uses it any more: the reader first, then whoever is writing a packet.
    fn detach(&self, closed: Option<oneshot::Sender<()>>) {
        let Some(Attached { device, reader }) = self.attached.borrow_mut().take() else { return };
        reader.abort();
        spawn_local(async move {
            // An aborted task ends with an error, which is what was asked for.
            let _ = reader.await;
            while Rc::strong_count(&device) > 1 {
                tokio::task::yield_now().await;
            }
            drop(device);
            if let Some(closed) = closed {
                let _ = closed.send(());
            }
        });
    }

    /// Takes a new table. Peers that it does not name lose their lane; the others keep it.
    fn set_table(&self, table: Arc<RoutingTable>, mut counters: BTreeMap<PeerId, Arc<PeerCounters>>) {
        let mut peers = self.peers.borrow_mut();
        peers.retain(|id, _| table.index_of(id).is_some());
        for (index, id) in table.peers() {
            let counters = counters.remove(id).unwrap_or_default();
            let peer = peers.entry(*id).or_insert_with(|| {
                self.instances.update(|instance| instance + 1);
                Rc::new(Peer::new(*id, counters, self.instances.get(), self.choice.get()))
            });
            peer.mtu.set(table.mtu_to(index));
        }
        *self.table.borrow_mut() = Some(table);
    }

    fn add_outlet(self: &Rc<Self>, peer: PeerId, stream: Stream, features: u64, outlet: Outlet) {
        let Some(peer) = self.peer(&peer) else { return };
        peer.features.set(features);
        let (path, outlet) = (outlet.path, Rc::new(outlet));
        peer.outlets.borrow_mut().insert(path, outlet.clone());
        let plane = self.clone();
        let task = outlet::run(outlet, peer.clone(), self.shared.clone(), stream);
        self.owners.borrow_mut().insert(path, peer);
        // Not aborted with the path: it finishes the batch it is writing and then sees that it is closed.
        spawn_local(async move {
            match guarded(task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => plane.emit(DataEvent::Broken { path, error: error.to_string() }),
                Err(error) => plane.emit(DataEvent::Broken { path, error }),
            }
        });
    }

    fn add_inlet(
        self: &Rc<Self>,
        path: PathId,
        peer: PeerId,
        stream: Stream,
        counters: Arc<PathCounters>,
        datagrams: Option<Datagrams>,
    ) {
        let Some(peer) = self.peer(&peer) else { return };
        let plane = self.clone();
        let unreliable = datagrams.map(|datagrams| {
            datagrams::receive(path, peer.clone(), self.clone(), counters.clone(), datagrams)
        });
        let reliable = inlet::run(path, peer.clone(), self.clone(), counters, stream);
        self.owners.borrow_mut().insert(path, peer);
        let reliable = spawn_local(async move {
            let error = guarded(reliable).await.map_or_else(|panic| panic, |error| error.to_string());
            plane.emit(DataEvent::Broken { path, error });
        });
        // A panic among its datagrams costs the path its datagrams, and is counted by the panic hook.
        let unreliable = unreliable.map(|task| spawn_local(guarded(task)).abort_handle());
        let tasks = [reliable.abort_handle()].into_iter().chain(unreliable).collect();
        let older = self.inlets.borrow_mut().insert(path, tasks);
        older.into_iter().flatten().for_each(|task| task.abort());
    }

    fn switch(self: &Rc<Self>, peer: PeerId, path: Option<PathId>, beside: Option<PathId>) {
        let Some(peer) = self.peer(&peer) else { return };
        peer.switch(path, beside, peerup_clock::now());
        peer.wake();
        order::watch_resend(&peer);
        if path.is_none() {
            self.watch_parked(peer);
        }
    }

    fn remove(self: &Rc<Self>, path: PathId) {
        self.probes.borrow_mut().retain(|_, (of, _)| *of != path);
        if let Some(peer) = self.owners.borrow_mut().remove(&path) {
            peer.forget(path, peerup_clock::now());
            match peer.active() {
                None => self.watch_parked(peer),
                Some(_) => order::watch_resend(&peer),
            }
        }
        let inlets = self.inlets.borrow_mut().remove(&path);
        inlets.into_iter().flatten().for_each(|task| task.abort());
    }

    fn probe(&self, path: PathId, id: u64) {
        let mut probes = self.probes.borrow_mut();
        while probes.len() >= MAX_PROBES {
            probes.pop_first();
        }
        probes.insert(id, (path, peerup_clock::now()));
        if let Some(peer) = self.owners.borrow().get(&path) {
            peer.outlet(path, |outlet| outlet.probe(Probe { kind: ProbeKind::Request, id }));
        }
    }

    /// Answers packets that waited in vain (RFC 1812 §5.2.7.1: host unreachable).
    fn answer_unreachable(&self, packets: Vec<Vec<u8>>) {
        let Some(device) = self.attached.borrow().as_ref().map(|attached| attached.device.clone()) else {
            return;
        };
        self.shared.counters.dropped_many(DropReason::ConnectTimeout, packets.len() as u64);
        for bytes in packets {
            let Ok(packet) = IpPacket::parse(&bytes) else { continue };
            if let Some(reply) = unreachable(&packet, packet.destination(), Unreachable::Host) {
                // Lost when the host is busy, like any packet.
                let _ = device.try_send_packet(&reply);
            }
        }
    }

    /// The peer that a packet is routed to.
    pub fn next_hop(&self, table: &RoutingTable, index: PeerIndex) -> Option<Rc<Peer>> {
        let peer = table.peer(index).and_then(|id| self.peer(id));
        if peer.is_none() {
            self.shared.counters.dropped(DropReason::UnknownPeer);
        }
        peer
    }

    fn peer(&self, id: &PeerId) -> Option<Rc<Peer>> {
        self.peers.borrow().get(id).cloned()
    }
}
