//! Relaying for peers: whether and where, what it has come to, and what libp2p's relay reports of it.

use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};

use peerup_config::{RelayService, Relaying as Limits};
use peerup_control::api::{RelayServiceWord, RelayingOverview};
use peerup_node::{NotRelaying, RelayService as Service};
use peerup_relay::{Connections, Counters};
use peerup_swarm::{Event, PeerRelaying, RelayLimits, RelayRefusal};
use peerup_types::{Multiaddr, PeerId};

use super::{Controller, Mode};

/// A reservation is renewed at three quarters of its life.
const RESERVATION_TTL: Duration = Duration::from_secs(3600);
/// Circuits of members are not cut short (docs/adr/0046); a day bounds what is forgotten.
const CIRCUIT_DURATION: Duration = Duration::from_secs(24 * 3600);
/// A member opens one or two circuits to each other one, and one more while it replaces one.
const CIRCUITS_PER_PEER: usize = 32;

/// What this node carries for its peers.
pub struct Relaying {
    /// Members are known by key: what one address may reserve is not limited here, only counted.
    connections: Connections,
    counters: Counters,
    refused: BTreeMap<RelayRefusal, u64>,
    at: Result<Vec<Multiaddr>, NotRelaying>,
}

impl Default for Relaying {
    fn default() -> Self {
        Self {
            connections: Connections::new(usize::MAX, usize::MAX),
            counters: Counters::default(),
            refused: BTreeMap::new(),
            at: Err(NotRelaying::Off),
        }
    }
}

/// What the swarm may carry once it is told to.
pub fn limits(config: &Limits) -> PeerRelaying {
    PeerRelaying {
        limits: RelayLimits {
            max_reservations: config.max_reservations as usize,
            max_circuits: config.max_circuits as usize,
            max_circuits_per_peer: CIRCUITS_PER_PEER,
            reservation_ttl: RESERVATION_TTL,
            circuit_duration: CIRCUIT_DURATION,
            circuit_bytes: 0,
        },
        bytes_per_second: config.max_rate.and_then(NonZeroU64::new),
    }
}

impl Controller {
    /// Begins or ends to relay when the configuration or what is known of our addresses says so.
    pub(super) fn follow_relaying(&mut self) {
        if self.mode == Mode::Pairing {
            return;
        }
        let network = &self.files.config.network;
        let at =
            self.node.relay_addresses(service(network.relaying.service), network.force_private_reachability);
        if at == self.relaying.at {
            return;
        }
        match &at {
            Ok(addresses) => tracing::info!(addresses = addresses.len(), "relaying between peers"),
            Err(why) => tracing::info!(why = why.as_str(), "not relaying between peers"),
        }
        let addresses = at.clone().unwrap_or_default();
        self.relaying.at = at;
        self.swarm.relay_at(addresses.clone());
        self.node.set_relay_offer(addresses, peerup_clock::now());
    }

    /// What libp2p's relay reports.
    pub(super) fn on_relaying(&mut self, event: &Event) {
        let Relaying { connections, counters, refused, .. } = &mut self.relaying;
        match event {
            Event::PathOpened(handle) => connections.handle_opened(handle.path, handle.peer, None),
            Event::PathClosed { path, .. } => connections.handle_closed(*path),
            Event::ReservationGranted { peer, renewed } => {
                tracing::debug!(%peer, renewed, "a peer reserved here");
                counters.reservations += u64::from(!renewed);
                // Without a limit per place, none is exceeded.
                let _ = connections.handle_reservation(*peer);
            }
            Event::ReservationEnded { peer } => connections.handle_reservation_ended(peer),
            Event::RelayRefused { peer, reason } => {
                tracing::debug!(%peer, reason = reason.as_str(), "reservation or circuit refused");
                counters.refused += 1;
                *refused.entry(*reason).or_default() += 1;
            }
            Event::CircuitOpened { source, destination } => {
                tracing::debug!(%source, %destination, "circuit opened");
                counters.circuits_opened += 1;
            }
            Event::CircuitClosed { source, destination } => {
                tracing::debug!(%source, %destination, "circuit closed");
                counters.circuits_closed += 1;
            }
            Event::Restarted { .. } => {
                connections.handle_restart();
                counters.circuits_closed = counters.circuits_opened;
            }
            Event::Tested { address, reachable: true } => self.node.handle_reachable(address.clone()),
            Event::Tested { reachable: false, .. }
            | Event::Inbound(_)
            | Event::DialFailed { .. }
            | Event::Listening(_)
            | Event::ListenExpired(_)
            | Event::ListenFailed(_)
            | Event::Reserved { .. }
            | Event::ReservationLost { .. }
            | Event::Identified { .. }
            | Event::Discovered { .. }
            | Event::Found { .. }
            | Event::Decided(_)
            | Event::HolePunch { .. } => {}
        }
    }
}

pub fn overview(node: &Controller) -> RelayingOverview {
    let Relaying { connections, counters, refused, at } = &node.relaying;
    let config = &node.files.config.network.relaying;
    let peer = |(relay, _): (PeerId, _)| relay;
    RelayingOverview {
        service: match config.service {
            RelayService::Auto => RelayServiceWord::Auto,
            RelayService::On => RelayServiceWord::On,
            RelayService::Off => RelayServiceWord::Off,
        },
        active: at.is_ok(),
        reason: at.as_ref().err().map(|why| why.as_str().to_owned()),
        addresses: at.iter().flatten().map(ToString::to_string).collect(),
        reservations: connections.reserved() as u64,
        max_reservations: config.max_reservations.into(),
        circuits: counters.circuits_opened.saturating_sub(counters.circuits_closed),
        max_circuits: config.max_circuits.into(),
        circuits_opened: counters.circuits_opened,
        bytes: node.swarm.relayed_bytes(),
        max_bytes_per_s: config.max_rate,
        refused: refused.iter().map(|(reason, count)| (reason.as_str().to_owned(), *count)).collect(),
        reserved_at: node.node.peer_relays().into_iter().map(peer).collect(),
    }
}

fn service(configured: RelayService) -> Service {
    match configured {
        RelayService::Auto => Service::Auto,
        RelayService::On => Service::On,
        RelayService::Off => Service::Off,
    }
}
