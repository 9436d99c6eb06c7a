//! The data plane of a host: frames on streams, packets of applications, and what waits for a path.

use std::time::Duration;

use peerup_types::{PathId, PeerId};
use peerup_wire::control::Control;

use crate::{
    connection::Message,
    world::{HostId, World},
};

/// The daemon's bounds: on what waits for a path, on reports to the control thread.
const MAX_PARKED: usize = 64;
const PARKED_FOR: Duration = Duration::from_secs(3);
const TRAFFIC_EVERY: Duration = Duration::from_secs(5);
const UNHEARD_FOR: Duration = Duration::from_millis(500);
const WANTED_EVERY: Duration = Duration::from_millis(500);

/// Injected packets and their fate.
#[derive(Debug, Default)]
pub struct Packets {
    pub sent: u64,
    pub delivered: u64,
    /// Packets that waited for a path for too long, or in too long a queue.
    pub refused: u64,
}

impl World {
    pub(crate) fn send_frame(&mut self, host: HostId, path: PathId, message: Message) {
        let Some(running) = self.hosts[host.0].running() else { return };
        let greeted = running.outlets.contains_key(&path);
        if let Some(end) = running.ends.get(&path).copied().filter(|_| greeted) {
            self.transmit(end, message);
        }
    }

    pub(crate) fn say(&mut self, host: HostId, path: PathId, control: &Control) {
        if matches!(control, Control::PunchRequest(_)) {
            self.hosts[host.0].tally.punches += 1;
        }
        let body = control.encode().expect("nodes keep to the limits of the wire");
        self.send_frame(host, path, Message::Control(body));
    }

    pub(crate) fn probe(&mut self, host: HostId, path: PathId) {
        self.next_id += 1;
        let (id, now) = (self.next_id, self.now);
        let tally = &mut self.hosts[host.0].tally;
        tally.probes += 1;
        tally.last_probe = Some(now);
        if let Some(running) = self.hosts[host.0].running() {
            running.probes.insert((path, id), now);
        }
        self.send_frame(host, path, Message::Probe(id));
    }

    pub(crate) fn on_answer(&mut self, host: HostId, path: PathId, id: u64) {
        self.heard(host, path);
        let now = self.now;
        let sent = self.hosts[host.0].running().and_then(|running| running.probes.remove(&(path, id)));
        if let Some(sent) = sent {
            self.tell(host, move |node, at, _| node.handle_answer(path, now - sent, at));
        }
    }

    pub(crate) fn heard(&mut self, host: HostId, path: PathId) {
        if let Some(running) = self.hosts[host.0].running() {
            running.unheard.retain(|_, (on, ..)| *on != path);
        }
        self.tell(host, move |node, now, _| node.handle_heard(path, now));
    }

    pub(crate) fn switch(
        &mut self,
        host: HostId,
        peer: PeerId,
        path: Option<PathId>,
        beside: Option<PathId>,
    ) {
        let Some(running) = self.hosts[host.0].running() else { return };
        match beside {
            Some(beside) => running.beside.insert(peer, beside),
            None => running.beside.remove(&peer),
        };
        match path {
            Some(path) => running.active.insert(peer, path),
            None => running.active.remove(&peer),
        };
        let Some(path) = path else { return };
        for sent in running.parked.remove(&peer).unwrap_or_default() {
            self.send_frame(host, path, Message::Packet { sent });
        }
    }

    /// A packet from an application on `a` to one on `b`.
    pub fn send(&mut self, a: HostId, b: HostId) {
        let (peer, sent) = (self.hosts[b.0].peer, self.now());
        if !self.hosts[a.0].is_awake() || self.hosts[a.0].node().is_none() {
            return;
        }
        self.packets.sent += 1;
        let running = self.hosts[a.0].running().expect("checked above");
        match running.active.get(&peer).copied() {
            Some(path) => {
                self.note_traffic(a, peer);
                self.note_silence(a, peer, path);
                self.send_frame(a, path, Message::Packet { sent });
            }
            None => self.park(a, peer, sent),
        }
    }

    /// As the daemon's data plane does: packets leave, and nothing comes back.
    fn note_silence(&mut self, host: HostId, peer: PeerId, path: PathId) {
        let now = self.now;
        let Some(running) = self.hosts[host.0].running() else { return };
        let (_, since, told) = match running.unheard.get(&peer).filter(|(on, ..)| *on == path) {
            Some(known) => *known,
            None => (path, now, false),
        };
        let tell = now - since >= UNHEARD_FOR && !told;
        running.unheard.insert(peer, (path, since, told || tell));
        if tell {
            self.tell(host, |node, now, _| node.handle_unanswered(path, now));
        }
    }

    fn park(&mut self, host: HostId, peer: PeerId, sent: Duration) {
        let now = self.now;
        let Some(running) = self.hosts[host.0].running() else { return };
        let lane = running.parked.entry(peer).or_default();
        lane.push(sent);
        let before = lane.len();
        lane.retain(|at| *at + PARKED_FOR > sent);
        lane.drain(..lane.len().saturating_sub(MAX_PARKED));
        self.packets.refused += (before - lane.len()) as u64;
        if running.wanted.get(&peer).is_none_or(|at| *at + WANTED_EVERY <= now) {
            running.wanted.insert(peer, now);
            self.tell(host, |node, now, _| node.handle_wanted(&peer, now));
        }
    }

    pub(crate) fn note_traffic(&mut self, host: HostId, peer: PeerId) {
        let now = self.now;
        let Some(running) = self.hosts[host.0].running() else { return };
        if running.traffic.get(&peer).is_none_or(|at| *at + TRAFFIC_EVERY <= now) {
            running.traffic.insert(peer, now);
            self.tell(host, |node, now, _| node.handle_traffic(&peer, now));
        }
    }

    /// Packets from `a` to `b` at a fixed interval, until `duration` is over.
    pub fn flow(&mut self, a: HostId, b: HostId, every: Duration, duration: Duration) {
        let Some(left) = duration.checked_sub(every) else { return };
        self.send(a, b);
        self.after(every, move |world| world.flow(a, b, every, left));
    }
}
