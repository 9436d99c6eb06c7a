//! A peer, as the data thread knows it: its lane, its paths, what its packets ride on.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use peerup_lane::{Carrier, Carriers, Far, Inbound, Lane, PathFigures};
use peerup_swarm::Datagrams;
use peerup_types::{CarrierChoice, PathId, PeerId};
use peerup_wire::{
    frame::HEADER_LEN,
    hello::{FEATURE_ACKS, FEATURE_SUPER_PACKETS},
};
use tokio::sync::Mutex;

use super::{PeerCounters, datagrams::Outgoing, outlet::Outlet};

/// Before the first table says otherwise (RFC 8200 §5).
const MIN_MTU: u16 = 1280;

pub struct Peer {
    pub id: PeerId,
    pub lane: RefCell<Lane>,
    /// The frames that the peer sends, whatever paths they take.
    pub inbound: RefCell<Inbound>,
    pub counters: Arc<PeerCounters>,
    /// What the peer takes, and the MTU to cut super-packets to where it does not take them.
    pub features: Cell<u64>,
    pub mtu: Cell<u16>,
    /// The path of the lane, and the one whose datagrams are used beside it.
    active: Cell<Option<PathId>>,
    beside: Cell<Option<PathId>>,
    pub carriers: RefCell<Carriers>,
    pub outlets: RefCell<BTreeMap<PathId, Rc<Outlet>>>,
    pub wanted: Cell<Option<Instant>>,
    /// Whether a task looks after packets that wait for a path.
    pub watched: Cell<bool>,
    pub traffic: Cell<Option<Instant>>,
    /// Whether a task looks after frames to send again, after frames that wait for others, after acknowledgements.
    pub resending: Cell<bool>,
    pub releasing: Cell<bool>,
    pub acknowledging: Cell<bool>,
    /// An acknowledgement has waited for company long enough.
    pub ack_due: Cell<bool>,
    /// Streams of one peer take turns, a read at a time: what was put in order stays in order while the host is busy.
    pub delivering: Mutex<()>,
}

impl Peer {
    pub fn new(id: PeerId, counters: Arc<PeerCounters>, instance: u64, choice: CarrierChoice) -> Self {
        Self {
            id,
            lane: RefCell::new(Lane::new(instance)),
            inbound: RefCell::default(),
            counters,
            features: Cell::new(0),
            mtu: Cell::new(MIN_MTU),
            active: Cell::new(None),
            beside: Cell::new(None),
            carriers: RefCell::new(Carriers::new(choice)),
            outlets: RefCell::default(),
            wanted: Cell::new(None),
            watched: Cell::new(false),
            traffic: Cell::new(None),
            resending: Cell::new(false),
            releasing: Cell::new(false),
            acknowledging: Cell::new(false),
            ack_due: Cell::new(false),
            delivering: Mutex::default(),
        }
    }

    pub fn far(&self) -> Far {
        let features = self.features.get();
        Far {
            supers: features & FEATURE_SUPER_PACKETS != 0,
            acks: features & FEATURE_ACKS != 0,
            mtu: self.mtu.get().into(),
        }
    }

    pub fn active(&self) -> Option<PathId> {
        self.active.get()
    }

    pub fn uses(&self, path: PathId) -> bool {
        self.active.get() == Some(path)
    }

    /// Packets take `path`, and datagrams that of `beside`.
    pub fn switch(&self, path: Option<PathId>, beside: Option<PathId>, now: Instant) {
        let before = self.beside.replace(beside);
        if let Some(before) = before.filter(|_| before != beside) {
            self.outlet(before, |outlet| outlet.stand_alone(false));
        }
        if let Some(new) = beside {
            self.outlet(new, |outlet| outlet.stand_alone(path != beside));
        }
        if let Some(new) = beside.filter(|_| before != beside) {
            self.outlet(new, |outlet| outlet.unheard.heard());
        }
        if self.active.replace(path) == path {
            return;
        }
        self.lane.borrow_mut().switch(path, now);
        self.carriers.borrow_mut().path_changed(now);
        if let Some(path) = path {
            self.outlet(path, |outlet| outlet.unheard.heard());
        }
    }

    /// The path is gone.
    pub fn forget(&self, path: PathId, now: Instant) {
        if let Some(outlet) = self.outlets.borrow_mut().remove(&path) {
            outlet.close();
        }
        self.lane.borrow_mut().path_gone(path);
        if self.beside.get() == Some(path) {
            self.beside.set(None);
        }
        if self.uses(path) {
            self.switch(None, self.beside.get(), now);
        }
    }

    pub fn outlet(&self, path: PathId, act: impl FnOnce(&Outlet)) {
        if let Some(outlet) = self.outlets.borrow().get(&path) {
            act(outlet);
        }
    }

    pub fn wake(&self) {
        if let Some(path) = self.active.get() {
            self.outlet(path, Outlet::wake);
        }
    }

    /// The outlet whose datagrams `packet` takes, if it takes any, and how much one of them holds.
    pub fn datagrams_for(
        &self,
        packet: Outgoing<'_>,
        now: Instant,
    ) -> Option<(Rc<Outlet>, Datagrams, usize)> {
        let outlets = self.outlets.borrow();
        let outlet = outlets.get(&self.beside.get()?)?;
        let datagrams = outlet.datagrams.as_ref()?;
        let room = datagrams.max_len()?.checked_sub(HEADER_LEN)?;
        let mut carriers = self.carriers.borrow_mut();
        if carriers.wants_figures(now) {
            let peerup_swarm::PathFigures { rtt, sent, lost } = datagrams.figures();
            carriers.note_path(PathFigures { rtt, sent, lost }, now);
        }
        match carriers.carrier_of(packet.packet(), packet.longest(), room, now) {
            Carrier::Stream => None,
            Carrier::Datagram => Some((outlet.clone(), datagrams.clone(), room)),
        }
    }
}
