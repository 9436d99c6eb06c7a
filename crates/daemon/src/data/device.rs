//! Packets from the host: read, checked, routed, queued. Never waits for a peer.

use std::rc::Rc;

use peerup_packet::{IpPacket, clamp_mss};
use peerup_router::{DropReason, RoutingTable, reply_for};
use peerup_tun::Device;

use super::plane::Plane;

/// Packets handled before other tasks get their turn.
const BATCH: usize = 64;

/// Reads the device until it fails, and says why.
pub async fn read<D: Device + 'static>(plane: Rc<Plane<D>>, device: Rc<D>) -> String {
    let mut buffer = vec![0; usize::from(u16::MAX) + 1];
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

fn route<D: Device + 'static>(plane: &Rc<Plane<D>>, device: &D, bytes: &mut [u8]) {
    let Some(table) = plane.table() else { return };
    clamp_mss(bytes, table.mtu());
    let Ok(packet) = IpPacket::parse(bytes) else {
        return plane.shared.counters.dropped(DropReason::Malformed);
    };
    match table.outbound(&packet) {
        Ok(index) => {
            if let Some(peer) = table.peer(index) {
                plane.queue(peer, packet.as_bytes());
            }
        }
        Err(reason) => refuse(plane, device, &table, reason, &packet),
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
        let _ = device.try_send(&reply);
    }
}
