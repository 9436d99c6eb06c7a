//! The receiving end of one path: a task that turns the peer's stream into packets for the host.

use std::{rc::Rc, sync::Arc};

use futures::{AsyncRead, AsyncReadExt};
use peerup_packet::IpPacket;
use peerup_router::{DropReason, PeerIndex, RoutingTable};
use peerup_tun::Device;
use peerup_types::PathId;
use peerup_wire::{
    control::Control,
    frame::{BodyTooLong, Deframer, Frame, FrameKind, Probe, ProbeKind},
};

use super::{
    DataEvent,
    counters::PathCounters,
    plane::{Peer, Plane},
};

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
    loop {
        let read = match stream.read(deframer.space()).await {
            Ok(0) if deframer.finish().is_err() => return InletError::Truncated,
            Ok(0) => return InletError::Closed,
            Ok(read) => read,
            Err(error) => return error.into(),
        };
        counters.reads.add(1);
        let packets = peer.counters.rx_packets.get();
        deframer.filled(read);
        let skipped = deframer.skipped();
        if let Err(error) = take_frames(path, &peer, &plane, &mut deframer).await {
            plane.shared.counters.malformed.add(1);
            return error.into();
        }
        plane.shared.counters.skipped.add(deframer.skipped() - skipped);
        if peer.counters.rx_packets.get() > packets {
            plane.note_traffic(&peer, peerup_clock::now());
        }
    }
}

async fn take_frames<D: Device + 'static>(
    path: PathId,
    peer: &Peer,
    plane: &Plane<D>,
    deframer: &mut Deframer,
) -> Result<(), BodyTooLong> {
    let table = plane.table();
    let index = table.as_ref().and_then(|table| table.index_of(&peer.id));
    while let Some(Frame { kind, body, .. }) = deframer.next_frame()? {
        match kind {
            FrameKind::Packet => deliver(plane, peer, table.as_deref().zip(index), body).await,
            FrameKind::Probe => handle_probe(path, peer, plane, body),
            FrameKind::Control => match Control::parse(body) {
                Ok(control) => plane.emit(DataEvent::Heard { path, control }),
                Err(_) => plane.shared.counters.skipped.add(1),
            },
            // Neither feature is offered in our hello, so a peer has no reason to send these.
            FrameKind::SuperPacket | FrameKind::Ack => plane.shared.counters.skipped.add(1),
        }
    }
    Ok(())
}

/// Hands a packet to the host if it may come from this peer.
async fn deliver<D: Device + 'static>(
    plane: &Plane<D>,
    peer: &Peer,
    route: Option<(&RoutingTable, PeerIndex)>,
    body: &[u8],
) {
    let counters = &plane.shared.counters;
    let Some((table, index)) = route else { return counters.dropped(DropReason::UnknownPeer) };
    let Ok(packet) = IpPacket::parse(body) else { return counters.dropped(DropReason::Malformed) };
    if let Err(reason) = table.inbound(index, &packet) {
        return counters.dropped(reason);
    }
    peer.counters.rx_packets.add(1);
    peer.counters.rx_bytes.add(body.len() as u64);
    plane.write(body).await;
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
