//! Relaying for others, as far as the swarm's owner sees it.

use std::sync::Arc;

use libp2p::{Multiaddr, relay};

use super::PeerSwarm;
use crate::{
    behaviour::RelayLimits,
    config::Profile,
    event::{Event, RelayRefusal},
    metered::Meter,
};

/// What a member's relaying is built from; it outlives a swarm that panics.
pub type Relaying = (RelayLimits, Arc<Meter>);

pub fn relaying(profile: &Profile) -> Option<Relaying> {
    match profile {
        Profile::Node { relaying: Some(relaying), .. } => {
            Some((relaying.limits.clone(), Arc::new(Meter::new(relaying.bytes_per_second))))
        }
        Profile::Node { relaying: None, .. } | Profile::Relay(_) => None,
    }
}

impl PeerSwarm {
    /// Relays for authorized peers at these addresses from here on; without any, no further reservations and circuits
    /// are granted.
    pub fn relay_at(&mut self, addresses: Vec<Multiaddr>) {
        if let Some(serving) = self.swarm.behaviour_mut().serving.as_mut() {
            serving.serve(addresses.clone());
        }
        self.relaying_at = addresses;
    }

    /// Bytes relayed for others since the start, both directions together.
    pub fn relayed_bytes(&self) -> u64 {
        self.relaying.as_ref().map_or(0, |(_, meter)| meter.bytes())
    }
}

pub fn relay_server_event(event: relay::Event) -> Option<Event> {
    match event {
        relay::Event::CircuitReqAccepted { src_peer_id: source, dst_peer_id: destination } => {
            Some(Event::CircuitOpened { source, destination })
        }
        relay::Event::CircuitClosed { src_peer_id: source, dst_peer_id: destination, .. } => {
            Some(Event::CircuitClosed { source, destination })
        }
        relay::Event::ReservationReqAccepted { src_peer_id: peer, renewed } => {
            Some(Event::ReservationGranted { peer, renewed })
        }
        relay::Event::ReservationTimedOut { src_peer_id: peer } => Some(Event::ReservationEnded { peer }),
        relay::Event::ReservationReqDenied { src_peer_id: peer, status }
        | relay::Event::CircuitReqDenied { src_peer_id: peer, status, .. } => {
            Some(Event::RelayRefused { peer, reason: refusal(status) })
        }
        other => {
            tracing::debug!(event = ?other, "relay");
            None
        }
    }
}

fn refusal(status: relay::StatusCode) -> RelayRefusal {
    match status {
        relay::StatusCode::ResourceLimitExceeded | relay::StatusCode::ReservationRefused => {
            RelayRefusal::Limit
        }
        relay::StatusCode::NoReservation => RelayRefusal::NoReservation,
        relay::StatusCode::ConnectionFailed => RelayRefusal::Unreachable,
        relay::StatusCode::OK
        | relay::StatusCode::PermissionDenied
        | relay::StatusCode::MalformedMessage
        | relay::StatusCode::UnexpectedMessage => RelayRefusal::Other,
    }
}
