//! The receiving end of one path: a task that turns the peer's stream into packets for the host.

use std::{rc::Rc, sync::Arc, time::Instant};

use futures::{AsyncRead, AsyncReadExt};
use peerup_lane::split_header;
use peerup_packet::{
    IpPacket,
    gso::{self, VirtioNetHeader},
};
use peerup_router::{DropReason, PeerIndex, RoutingTable};
use peerup_tun::Device;
use peerup_types::PathId;
use peerup_wire::{
    control::Control,
    frame::{Ack, Announce, BodyTooLong, Deframer, Frame, FrameKind, Probe, ProbeKind},
};

use super::{
    DataEvent,
    counters::PathCounters,
    order::{self, Numbering},
    peer::Peer,
    plane::Plane,
};

/// Control messages cost the control thread work, up to 64 signatures each. An honest peer sends a few per minute.
const CONTROL_BURST: f64 = 32.0;
const CONTROL_PER_SECOND: f64 = 4.0;

/// Bytes handled before other tasks get their turn: a transfer may have megabytes ready, and a datagram beside it waits.
const TURN: usize = 512 * 1024;

/// The largest MTU that a configuration may set: no honest peer has longer segments.
const MAX_SEGMENT: usize = 9000;

/// A token bucket for control messages of one stream.
struct Allowance {
    tokens: f64,
    at: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { tokens: CONTROL_BURST, at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * CONTROL_PER_SECOND;
        self.tokens = (self.tokens + earned).min(CONTROL_BURST);
        self.at = now;
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

#[derive(Debug, thiserror::Error)]
pub enum InletError {
    #[error("the peer closed its stream")]
    Closed,
    #[error("the stream failed: {0}")]
    Io(#[from] std::io::Error),
    #[error("the peer sent a frame that is too long")]
    Frame(#[from] BodyTooLong),
    #[error("the peer's stream ended inside a frame")]
    Truncated,
}

/// Reads until the stream ends or carries something that cannot be a frame.
pub async fn run<D: Device + 'static, R: AsyncRead + Unpin>(
    path: PathId,
    peer: Rc<Peer>,
    plane: Rc<Plane<D>>,
    counters: Arc<PathCounters>,
    mut stream: R,
) -> InletError {
    let mut deframer = Deframer::default();
    let mut allowance = Allowance::new(peerup_clock::now());
    let mut numbering = Numbering::default();
    let mut handled = 0;
    loop {
        if handled >= TURN {
            handled = 0;
            tokio::task::yield_now().await;
        }
        let read = match stream.read(deframer.space()).await {
            Ok(0) if deframer.finish().is_err() => return InletError::Truncated,
            Ok(0) => return InletError::Closed,
            Ok(read) => read,
            Err(error) => return error.into(),
        };
        handled += read;
        counters.reads.add(1);
        peer.outlet(path, |outlet| outlet.unheard.heard());
        let packets = peer.counters.rx_packets.get();
        deframer.filled(read);
        let skipped = deframer.skipped();
        let now = peerup_clock::now();
        let turn = peer.delivering.lock().await;
        let taken =
            take_frames(path, &peer, &plane, &mut deframer, &mut allowance, &mut numbering, now).await;
        drop(turn);
        if let Err(error) = taken {
            plane.shared.counters.malformed.add(1);
            return error.into();
        }
        order::watch_held(&plane, &peer);
        order::watch_acknowledgement(&peer, now);
        plane.shared.counters.skipped.add(deframer.skipped() - skipped);
        if peer.counters.rx_packets.get() > packets {
            plane.note_traffic(&peer, now);
        }
    }
}

async fn take_frames<D: Device + 'static>(
    path: PathId,
    peer: &Peer,
    plane: &Plane<D>,
    deframer: &mut Deframer,
    allowance: &mut Allowance,
    numbering: &mut Numbering,
    now: Instant,
) -> Result<(), BodyTooLong> {
    let table = plane.table();
    let index = table.as_ref().and_then(|table| table.index_of(&peer.id));
    while let Some(frame) = deframer.next_frame()? {
        let Frame { kind, body, .. } = frame;
        match kind {
            FrameKind::Packet | FrameKind::SuperPacket => {
                if numbering.admits(plane, peer, &frame, now) {
                    deliver(plane, peer, table.as_deref().zip(index), kind, body).await;
                }
                order::release(plane, peer, now).await;
            }
            FrameKind::Announce => match Announce::parse(body) {
                Ok(announce) => {
                    numbering.announced(announce, peer, now);
                    order::release(plane, peer, now).await;
                }
                Err(_) => plane.shared.counters.skipped.add(1),
            },
            FrameKind::Ack => acknowledged(peer, plane, body, now),
            FrameKind::Probe => handle_probe(path, peer, plane, body),
            FrameKind::Control => match Control::parse(body) {
                Ok(Control::Unknown(_)) | Err(_) => plane.shared.counters.skipped.add(1),
                Ok(control) if allowance.take(now) => {
                    plane.emit(DataEvent::Heard { path, control });
                }
                Ok(_) => plane.shared.counters.skipped.add(1),
            },
        }
    }
    Ok(())
}

/// Hands what a frame holds to the host if it may come from this peer.
pub async fn deliver<D: Device + 'static>(
    plane: &Plane<D>,
    peer: &Peer,
    route: Option<(&RoutingTable, PeerIndex)>,
    kind: FrameKind,
    body: &[u8],
) {
    match kind {
        FrameKind::SuperPacket => deliver_super(plane, peer, route, body).await,
        FrameKind::Packet => deliver_packet(plane, peer, route, body).await,
        FrameKind::Probe | FrameKind::Ack | FrameKind::Control | FrameKind::Announce => {}
    }
}

async fn deliver_packet<D: Device + 'static>(
    plane: &Plane<D>,
    peer: &Peer,
    route: Option<(&RoutingTable, PeerIndex)>,
    body: &[u8],
) {
    if admit(plane, peer, route, body).is_some() {
        plane.write(body).await;
    }
}

/// A packet that may come from this peer, counted whether it may or not.
pub fn admit<'a, D: Device + 'static>(
    plane: &Plane<D>,
    peer: &Peer,
    route: Option<(&RoutingTable, PeerIndex)>,
    body: &'a [u8],
) -> Option<IpPacket<'a>> {
    let refused = |reason| {
        plane.shared.counters.dropped(reason);
        None
    };
    let Some((table, index)) = route else { return refused(DropReason::UnknownPeer) };
    let Ok(packet) = IpPacket::parse(body) else { return refused(DropReason::Malformed) };
    if let Err(reason) = table.inbound(index, &packet) {
        return refused(reason);
    }
    peer.counters.rx_packets.add(1);
    peer.counters.rx_bytes.add(body.len() as u64);
    Some(packet)
}

/// The same for a super-packet. It goes into the kernel, so every field of its header is held against the packet.
async fn deliver_super<D: Device + 'static>(
    plane: &Plane<D>,
    peer: &Peer,
    route: Option<(&RoutingTable, PeerIndex)>,
    body: &[u8],
) {
    let counters = &plane.shared.counters;
    let Some((table, index)) = route else { return counters.dropped(DropReason::UnknownPeer) };
    let Some((header, packet)) = split_header(body) else { return counters.dropped(DropReason::Malformed) };
    let mtu = usize::from(table.mtu());
    let Ok(view) = gso::validate(VirtioNetHeader::parse(header), packet, MAX_SEGMENT) else {
        return counters.dropped(DropReason::Malformed);
    };
    if let Err(reason) = table.inbound(index, view.packet()) {
        return counters.dropped(reason);
    }
    peer.counters.rx_packets.add(1);
    peer.counters.rx_bytes.add(packet.len() as u64);
    plane.write_super(body, &view, mtu).await;
}

fn acknowledged<D: Device + 'static>(peer: &Peer, plane: &Plane<D>, body: &[u8], now: Instant) {
    let Ok(ack) = Ack::parse(body) else { return plane.shared.counters.skipped.add(1) };
    let acked = peer.lane.borrow_mut().acknowledge(ack, now);
    if let Some(path) = acked.path {
        peer.outlet(path, |outlet| outlet.counters.acknowledged.add(1));
    }
    // A lane that waited for it has room.
    if acked.room {
        peer.wake();
    }
}

fn handle_probe<D: Device + 'static>(path: PathId, peer: &Peer, plane: &Plane<D>, body: &[u8]) {
    match Probe::parse(body) {
        Ok(Probe { kind: ProbeKind::Request, id }) => {
            peer.outlet(path, |outlet| outlet.probe(Probe { kind: ProbeKind::Reply, id }));
        }
        Ok(Probe { kind: ProbeKind::Reply, id }) => plane.answered(path, id),
        Err(_) => plane.shared.counters.skipped.add(1),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_of_control_messages_is_cut_to_a_few_per_second() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let taken = (0..10_000).filter(|step| allowance.take(start + Duration::from_millis(*step))).count();
        assert!(taken <= 32 + 40, "{taken}");
        assert!(allowance.take(start + Duration::from_secs(60)), "it recovers");
    }
}
