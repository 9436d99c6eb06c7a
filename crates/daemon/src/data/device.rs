//! Packets from the host: read, checked, routed, queued. Never waits for a peer.

use std::rc::Rc;

use peerup_packet::{
    IpPacket, clamp_mss,
    gso::{self, VirtioNetHeader},
};
use peerup_router::{DropReason, RoutingTable, reply_for};
use peerup_tun::{Device, MAX_FRAME_LEN};

use peerup_lane::Form;

use super::{datagrams::Outgoing, plane::Plane};

/// Packets handled before other tasks get their turn.
const BATCH: usize = 64;

/// Reads the device until it fails, and says why.
pub async fn read<D: Device + 'static>(plane: Rc<Plane<D>>, device: Rc<D>) -> String {
    let mut buffer = vec![0; MAX_FRAME_LEN];
    loop {
        match device.recv(&mut buffer).await {
            Ok(len) => route(&plane, &device, &mut buffer[..len]),
            Err(error) => return error.to_string(),
        }
        for _ in 1..BATCH {
            let Ok(len) = device.try_recv(&mut buffer) else { break };
            route(&plane, &device, &mut buffer[..len]);
        }
        tokio::task::yield_now().await;
    }
}

fn route<D: Device + 'static>(plane: &Rc<Plane<D>>, device: &D, frame: &mut [u8]) {
    let Some(table) = plane.table() else { return };
    if !device.has_vnet_header() {
        clamp_mss(frame, table.mtu());
        return route_plain(plane, device, &table, frame);
    }
    let Some((header, packet)) = frame.split_first_chunk_mut() else {
        return plane.shared.counters.dropped(DropReason::Malformed);
    };
    let described = VirtioNetHeader::parse(header);
    gso::clamp_mss(described, packet, table.mtu());
    if described.is_ordinary() {
        return route_plain(plane, device, &table, packet);
    }
    let Ok(view) = gso::validate(described, packet, usize::MAX) else {
        // What no peer may send, the own kernel may: a checksum inside a tunnel of its own. Completed, it is ordinary.
        return match gso::complete_checksum(described, packet) {
            Ok(()) => route_plain(plane, device, &table, packet),
            Err(_) => plane.shared.counters.dropped(DropReason::Malformed),
        };
    };
    match table.outbound_within(view.packet(), view.segment_len()) {
        Ok(index) => {
            let Some(peer) = plane.next_hop(&table, index) else { return };
            if !plane.send_datagrams(&peer, Outgoing::Super(&view)) {
                let flow = view.packet().flow_key();
                *header = view.header().emit();
                plane.queue(peer, flow, Form::Super, frame);
            }
        }
        Err(reason) => refuse(plane, device, &table, reason, view.packet()),
    }
}

fn route_plain<D: Device + 'static>(plane: &Rc<Plane<D>>, device: &D, table: &RoutingTable, bytes: &[u8]) {
    let Ok(packet) = IpPacket::parse(bytes) else {
        return plane.shared.counters.dropped(DropReason::Malformed);
    };
    match table.outbound(&packet) {
        Ok(index) => {
            let Some(peer) = plane.next_hop(table, index) else { return };
            if !plane.send_datagrams(&peer, Outgoing::Plain(&packet)) {
                plane.queue(peer, packet.flow_key(), Form::Plain, packet.as_bytes());
            }
        }
        Err(reason) => refuse(plane, device, table, reason, &packet),
    }
}

/// Counts a packet that goes nowhere and tells its sender why, where ICMP has a word for it.
fn refuse<D: Device + 'static>(
    plane: &Plane<D>,
    device: &D,
    table: &RoutingTable,
    reason: DropReason,
    packet: &IpPacket<'_>,
) {
    plane.shared.counters.dropped(reason);
    if reason == DropReason::PeerOffline
        && let Some(peer) = table.owner(packet.destination()).and_then(|index| table.peer(index))
    {
        plane.want(peer);
    }
    // An answer that finds the host busy is lost like any other packet.
    if let Some(reply) = reply_for(reason, packet, table) {
        let _ = device.try_send_packet(&reply);
    }
}
