//! `traceroute`: the round trip to the relay of a path, and through it to the peer.

use std::time::Duration;

use peerup_control::{
    ApiError,
    api::{OverviewClass, TraceHop, TraceReport, TraceRequest},
};
use peerup_swarm::PathHandle;
use peerup_types::{PathClass, PeerId};
use tokio::sync::oneshot;

use crate::{
    api::{NodeHandle, Request},
    controller::Controller,
    echo, view,
};

/// A relay on the way, and the connection to it.
pub struct RelayHop {
    peer: PeerId,
    /// What the configuration or the peer itself calls it, else its software.
    name: Option<String>,
    /// `None` where the relay is known from the circuit only.
    path: Option<PathHandle>,
}

impl Controller {
    /// The relay of the path that packets to `peer` take.
    pub fn relay_hop(&self, peer: &PeerId) -> Option<RelayHop> {
        let view = self.node.peers().into_iter().find(|view| view.peer == *peer)?;
        let relay = view.path?.relay?;
        let direct = |handle: &PathHandle| handle.peer == relay && handle.kind.class == PathClass::Direct;
        let path = self.paths.values().find(|known| direct(&known.handle));
        let is_member = self.keys.get(&relay).is_some();
        let configured = self.files.config.names.values().any(|named| *named == relay);
        let name = match is_member || configured {
            true => Some(view::display_name(self, &relay)),
            false => path.and_then(|known| known.agent.clone()),
        };
        Some(RelayHop { peer: relay, name, path: path.map(|known| known.handle.clone()) })
    }
}

impl NodeHandle {
    pub async fn trace_route(&self, request: TraceRequest) -> Result<TraceReport, ApiError> {
        let target = self.try_ask(|reply| Request::Resolve { target: request.peer.clone(), reply }).await?;
        let peer = target.peer;
        // The ping reaches out first where there is no path yet.
        let reply = self.ping_once(1, peer).await?;
        let relay =
            self.ask(|reply: oneshot::Sender<Option<RelayHop>>| Request::RelayHop { peer, reply }).await?;
        let relayed = reply.via.as_ref().is_some_and(|via| match via.class {
            OverviewClass::PeerRelay | OverviewClass::Relay => true,
            OverviewClass::Direct | OverviewClass::Connecting => false,
        });
        let mut hops = Vec::new();
        if let Some(relay) = relay.filter(|_| relayed) {
            hops.push(relay_hop(relay).await);
        }
        let address = if relayed { None } else { reply.via.as_ref().and_then(|via| via.addr.clone()) };
        let address = address.or_else(|| Some(target.ips.first()?.to_string()));
        hops.push(TraceHop {
            hop: hops.len() as u32 + 1,
            peer_id: peer,
            name: target.name,
            address,
            rtt_ms: reply.rtt_ms,
            error: (!reply.error.is_empty()).then_some(reply.error),
        });
        let path = match (&reply.via, relayed) {
            (None, _) => "",
            (Some(_), true) => "RELAYED",
            (Some(_), false) => "DIRECT",
        };
        Ok(TraceReport { target: request.peer, target_id: peer, path: path.to_owned(), hops })
    }
}

async fn relay_hop(relay: RelayHop) -> TraceHop {
    let RelayHop { peer, name, path } = relay;
    let address = path.as_ref().map(|path| path.remote.to_string());
    let rtt = match &path {
        Some(path) => echo::round_trip(path).await,
        None => None,
    };
    let error = match (&path, rtt) {
        (None, _) => Some("no connection of our own to it"),
        (Some(_), None) => Some("no answer"),
        (Some(_), Some(_)) => None,
    };
    TraceHop { hop: 1, peer_id: peer, name, address, rtt_ms: rtt.map(millis), error: error.map(Into::into) }
}

fn millis(rtt: Duration) -> f64 {
    rtt.as_secs_f64() * 1000.0
}
