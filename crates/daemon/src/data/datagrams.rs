//! Packets as QUIC datagrams: one frame in each, no acknowledgement, no order, no queue of ours.
//!
//! The connection beside the lane's carries little else, so what is handed to it leaves at once; when it cannot, its
//! oldest datagrams give way (docs/adr/0056).

use std::{rc::Rc, sync::Arc};

use futures::FutureExt;
use peerup_packet::{
    IpPacket,
    gso::{Merger, SuperPacketView},
};
use peerup_swarm::{Datagrams, SendError};
use peerup_tun::Device;
use peerup_types::PathId;
use peerup_wire::frame::{FrameHeader, FrameKind, HEADER_LEN};

use super::{
    counters::PathCounters,
    inlet,
    peer::Peer,
    plane::{Plane, Shared},
};

/// Datagrams handled before other tasks get their turn.
const BATCH: usize = 64;

/// A packet from the host, checked and routed.
#[derive(Clone, Copy)]
pub enum Outgoing<'a> {
    Plain(&'a IpPacket<'a>),
    Super(&'a SuperPacketView<'a>),
}

impl<'a> Outgoing<'a> {
    pub fn packet(&self) -> &IpPacket<'a> {
        match self {
            Self::Plain(packet) => packet,
            Self::Super(view) => view.packet(),
        }
    }

    /// The length of the packet, or of the longest that it will be cut into.
    pub fn longest(&self) -> usize {
        match self {
            Self::Plain(packet) => packet.as_bytes().len(),
            Self::Super(view) => view.segment_len(),
        }
    }
}

/// Sends a packet, cut to datagrams of at most `room` bytes. `false` when nothing of it left and it has to go another
/// way.
pub fn send(peer: &Peer, shared: &Shared, datagrams: &Datagrams, packet: Outgoing<'_>, room: usize) -> bool {
    match packet {
        Outgoing::Plain(packet) => send_one(peer, shared, datagrams, packet.as_bytes()).is_ok(),
        Outgoing::Super(view) => {
            let Ok(mut segments) = view.segments_within(room) else { return false };
            let (mut scratch, mut sent) = (Vec::new(), false);
            while let Some(segment) = segments.next(&mut scratch) {
                // The path may shrink between two of them; the rest is lost like any packet that is too long.
                if send_one(peer, shared, datagrams, segment).is_err() {
                    break;
                }
                sent = true;
            }
            sent
        }
    }
}

fn send_one(peer: &Peer, shared: &Shared, datagrams: &Datagrams, packet: &[u8]) -> Result<(), SendError> {
    let header = FrameHeader::new(FrameKind::Packet, 0, 0, packet.len()).map_err(|_| SendError::TooLong)?;
    datagrams.send(&[&header.emit(), packet])?;
    peer.counters.tx_packets.add(1);
    peer.counters.tx_bytes.add(packet.len() as u64);
    shared.counters.datagrams_sent.add(1);
    Ok(())
}

/// Hands the peer's datagrams on one path to the host until the connection ends. That end shows on its streams too, and
/// is reported there.
pub async fn receive<D: Device + 'static>(
    path: PathId,
    peer: Rc<Peer>,
    plane: Rc<Plane<D>>,
    counters: Arc<PathCounters>,
    datagrams: Datagrams,
) {
    while let Ok(mut datagram) = datagrams.receive().await {
        // Of those that are there already, consecutive ones of a flow are written as one.
        let mut merger = Merger::default();
        let (mut handled, mut packets) = (0, false);
        loop {
            counters.reads.add(1);
            handled += 1;
            packets |= take(&plane, &peer, &datagram, &mut merger).await;
            if handled == BATCH {
                break;
            }
            match datagrams.receive().now_or_never() {
                Some(Ok(next)) => datagram = next,
                // The end shows again.
                Some(Err(_)) | None => break,
            }
        }
        plane.write_merged(&mut merger).await;
        peer.outlet(path, |outlet| outlet.unheard.heard());
        if packets {
            plane.note_traffic(&peer, peerup_clock::now());
        }
        if handled == BATCH {
            tokio::task::yield_now().await;
        }
    }
}

/// Puts a packet to those before it, or writes them and then the packet. `false`: it is no packet.
async fn take<D: Device + 'static>(
    plane: &Plane<D>,
    peer: &Peer,
    datagram: &[u8],
    merger: &mut Merger,
) -> bool {
    let Some(body) = packet_in(datagram) else {
        plane.shared.counters.skipped.add(1);
        return false;
    };
    plane.shared.counters.datagrams_received.add(1);
    let table = plane.table();
    let index = table.as_ref().and_then(|table| table.index_of(&peer.id));
    let Some(packet) = inlet::admit(plane, peer, table.as_deref().zip(index), body) else { return true };
    let mergeable = plane.takes_merged(&packet);
    if !(mergeable && merger.offer(&packet)) {
        plane.write_merged(merger).await;
        if !(mergeable && merger.offer(&packet)) {
            plane.write(body).await;
        }
    }
    true
}

/// The packet of a datagram that is one whole packet frame.
fn packet_in(datagram: &[u8]) -> Option<&[u8]> {
    let (header, body) = datagram.split_first_chunk::<HEADER_LEN>()?;
    let header = FrameHeader::parse(header).ok()?;
    (header.kind() == Some(FrameKind::Packet) && header.body_len() == body.len()).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_holds_one_whole_packet_frame_or_nothing() {
        let frame = |kind, announced: usize, body: &[u8]| {
            let header = FrameHeader::new(kind, 0, 0, announced).unwrap().emit();
            [&header, body].concat()
        };
        assert_eq!(packet_in(&frame(FrameKind::Packet, 3, b"abc")), Some(&b"abc"[..]));
        for bad in [
            frame(FrameKind::Packet, 4, b"abc"),
            frame(FrameKind::Packet, 2, b"abc"),
            frame(FrameKind::SuperPacket, 3, b"abc"),
            frame(FrameKind::Control, 3, b"abc"),
            vec![1; HEADER_LEN - 1],
            Vec::new(),
        ] {
            assert_eq!(packet_in(&bad), None, "{bad:?}");
        }
    }
}
