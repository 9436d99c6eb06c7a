//! Keeping a reservation at one relay: connect, identify, reserve, and begin anew after any loss.
//!
//! libp2p's client neither retries nor renews after a loss (circuit-v2 leaves that to the application), so this
//! machine does. Observed addresses come from identify on connections to the relay, one per transport, so both a
//! QUIC and a TCP connection are wanted; the reservation rides on whichever came first.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use peerup_types::{Multiaddr, PathId, PeerId};

use crate::{
    candidate::{Group, group},
    schedule::{Backoff, DIAL_PATIENCE, Dice},
};

/// First wait after a loss: a relay that restarts needs a moment.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// Longest wait. A restarted relay has all its clients back within ten seconds, and an absent one costs each
/// client a few packets a minute.
const MAX_RETRY: Duration = Duration::from_secs(5);
/// Connect, identify and reserve together; a relay that takes longer is treated as lost.
const ANSWER_DEADLINE: Duration = Duration::from_secs(12);
/// Between looks after the connections while a reservation holds: does each answer, is a transport missing?
const COMPLETE_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayAction {
    /// Dial the relay at these addresses, one dial for the list.
    Dial { relay: PeerId, addresses: Vec<Multiaddr> },
    /// Ask for a reservation through this address of the relay.
    Reserve { relay: PeerId, address: Multiaddr },
    /// Find out whether this connection still leads anywhere, and close it if not. One connection of several was
    /// lost: TCP notices at once that a relay is gone, QUIC only after its idle timeout.
    Check { path: PathId },
    /// Close every connection to the relay: the only safe way to give up a reservation request in flight.
    Disconnect { relay: PeerId },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationState {
    /// Waiting for the next attempt.
    Down,
    /// Dialing, or connected and waiting for identify.
    Connecting,
    /// Asked, not answered.
    Requested,
    Held,
}

pub struct Reservation {
    relay: PeerId,
    configured: Vec<Multiaddr>,
    /// The configured addresses and what the relay told us.
    addresses: Vec<Multiaddr>,
    state: ReservationState,
    /// Whether a reservation is sought; a relay that is not needed is left alone.
    wanted: bool,
    /// Attempts that came to nothing since a reservation was held.
    failures: u32,
    connections: BTreeMap<PathId, Option<Group>>,
    /// What is being dialed, and since when. A second connection beside one that is about to be there would leave from
    /// another port, and what the relay sees of that is of no use.
    dialing: BTreeMap<Group, Instant>,
    retry: Backoff<Instant>,
    deadline: Option<Instant>,
    complete_at: Option<Instant>,
    /// The network changed: the next loss is no fault of the relay and is made good at once.
    moved: bool,
    dice: Dice,
    actions: VecDeque<RelayAction>,
}

impl Reservation {
    /// `addresses` are the relay's configured ones; the first attempt is due at `now`.
    pub fn new(relay: PeerId, addresses: Vec<Multiaddr>, seed: u64, now: Instant) -> Self {
        let mut retry = Backoff::new(FIRST_RETRY, MAX_RETRY);
        retry.hasten(now);
        Self {
            relay,
            configured: addresses.clone(),
            addresses,
            state: ReservationState::Down,
            wanted: true,
            failures: 0,
            connections: BTreeMap::new(),
            dialing: BTreeMap::new(),
            retry,
            deadline: None,
            complete_at: None,
            moved: false,
            dice: Dice::new(seed),
            actions: VecDeque::new(),
        }
    }

    /// Takes the addresses of a changed configuration; what was learned at the old ones is forgotten.
    pub fn set_addresses(&mut self, configured: &[Multiaddr], now: Instant) {
        if self.configured == configured {
            return;
        }
        self.configured = configured.to_vec();
        self.addresses = configured.to_vec();
        self.hasten(now);
    }

    /// Whether a reservation at this relay is needed. What is held stays held: libp2p cannot give up a reservation
    /// without closing the connection, and with it every circuit.
    pub fn set_wanted(&mut self, wanted: bool, now: Instant) {
        if self.wanted == wanted {
            return;
        }
        self.wanted = wanted;
        self.hasten(now);
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Whether the latest attempt came to nothing.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    pub fn relay(&self) -> PeerId {
        self.relay
    }

    pub fn addresses(&self) -> &[Multiaddr] {
        &self.addresses
    }

    pub fn state(&self) -> ReservationState {
        self.state
    }

    /// A connection to the relay is up on `address`.
    pub fn handle_connected(&mut self, path: PathId, address: &Multiaddr) {
        let group = group(address);
        self.connections.insert(path, group);
        self.dialing.retain(|dialing, _| Some(*dialing) != group);
    }

    /// identify finished on a connection to the relay, so our observed address is known. `listen` are the relay's
    /// own addresses: those with an IP address that is already configured add the transport that is not.
    pub fn handle_identified(&mut self, listen: &[Multiaddr], now: Instant) {
        self.learn(listen);
        if self.state == ReservationState::Connecting {
            self.request(now);
        }
        if self.wanted || self.state == ReservationState::Held {
            self.dial_missing(now);
        }
    }

    pub fn handle_reserved(&mut self, now: Instant) {
        self.state = ReservationState::Held;
        self.failures = 0;
        self.deadline = None;
        self.retry.rest();
        self.complete_at = Some(now + COMPLETE_EVERY);
    }

    /// The reservation or the request for it is gone.
    pub fn handle_lost(&mut self, now: Instant) {
        self.state = ReservationState::Down;
        self.failures = self.failures.saturating_add(1);
        self.deadline = None;
        self.complete_at = None;
        if std::mem::take(&mut self.moved) {
            self.hasten(now);
        } else if self.retry.due().is_none_or(|due| due <= now) {
            self.retry.attempted(now, &mut self.dice);
        }
    }

    /// One connection to the relay closed.
    pub fn handle_disconnected(&mut self, path: PathId, now: Instant) {
        if self.connections.remove(&path).is_none() {
            return;
        }
        self.handle_doubt();
        if self.connections.is_empty() && self.state != ReservationState::Down {
            self.handle_lost(now);
        }
    }

    /// The network changed or the host woke up: old backoff means nothing, and neither does a connection from before.
    pub fn handle_network_changed(&mut self, now: Instant) {
        self.moved = true;
        self.handle_doubt();
        self.hasten(now);
    }

    /// Something suggests that the connections to the relay lead nowhere.
    pub fn handle_doubt(&mut self) {
        self.actions.extend(self.connections.keys().map(|path| RelayAction::Check { path: *path }));
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.actions.push_back(RelayAction::Disconnect { relay: self.relay });
            self.connections.clear();
            self.handle_lost(now);
        }
        if self.is_sought() && self.retry.is_due(now) {
            self.retry.attempted(now, &mut self.dice);
            self.attempt(now);
        }
        if self.complete_at.is_some_and(|at| at <= now) {
            // A TCP connection to a relay that vanished stays open for a quarter of an hour if nobody looks.
            self.handle_doubt();
            self.dial_missing(now);
        }
    }

    /// A dial to the relay failed; another attempt follows unless something else succeeded meanwhile.
    pub fn handle_dial_failed(&mut self, now: Instant) {
        if self.state == ReservationState::Connecting && self.connections.is_empty() {
            self.handle_lost(now);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let retry = self.is_sought().then(|| self.retry.due()).flatten();
        [retry, self.deadline, self.complete_at].into_iter().flatten().min()
    }

    pub fn poll_action(&mut self) -> Option<RelayAction> {
        self.actions.pop_front()
    }

    fn is_sought(&self) -> bool {
        self.wanted && self.state == ReservationState::Down
    }

    fn hasten(&mut self, now: Instant) {
        if self.wanted && self.state != ReservationState::Held {
            self.retry.hasten(now);
        }
    }

    /// Connects, or asks again where a connection outlived the reservation.
    fn attempt(&mut self, now: Instant) {
        if !self.connections.is_empty() {
            return self.request(now);
        }
        self.state = ReservationState::Connecting;
        self.deadline = Some(now + ANSWER_DEADLINE);
        self.dialing.clear();
        self.dial(now);
    }

    fn request(&mut self, now: Instant) {
        self.state = ReservationState::Requested;
        self.deadline = Some(now + ANSWER_DEADLINE);
        if let Some(address) = self.addresses.first().cloned() {
            self.actions.push_back(RelayAction::Reserve { relay: self.relay, address });
        }
    }

    fn learn(&mut self, listen: &[Multiaddr]) {
        for address in listen {
            let same_host = self.addresses.iter().any(|known| known.iter().next() == address.iter().next());
            let bare: Multiaddr =
                address.iter().filter(|part| !matches!(part, peerup_types::Protocol::P2p(_))).collect();
            let known = self.addresses.iter().any(|have| starts_with(have, &bare));
            if same_host && !known && group(&bare).is_some() && self.addresses.len() < crate::MAX_CANDIDATES {
                self.addresses.push(bare);
            }
        }
    }

    /// Adds the transports that are known and neither connected nor being dialed.
    fn dial_missing(&mut self, now: Instant) {
        self.complete_at = Some(now + COMPLETE_EVERY);
        self.dialing.retain(|_, since| *since + DIAL_PATIENCE > now);
        self.dial(now);
    }

    /// Dials what is not there, one dial per transport and family, so that success of one does not cancel the others. Names
    /// cannot be told apart before they are resolved and go together.
    fn dial(&mut self, now: Instant) {
        let connected = |wanted| self.connections.values().flatten().any(|group| *group == wanted);
        let mut named = Vec::new();
        let mut grouped: BTreeMap<Group, Vec<Multiaddr>> = BTreeMap::new();
        for address in &self.addresses {
            match group(address) {
                Some(group) if connected(group) || self.dialing.contains_key(&group) => {}
                Some(group) => grouped.entry(group).or_default().push(address.clone()),
                None if self.connections.is_empty() => named.push(address.clone()),
                None => {}
            }
        }
        self.dialing.extend(grouped.keys().map(|group| (*group, now)));
        let lists = grouped.into_values().chain([named]).filter(|list| !list.is_empty());
        let relay = self.relay;
        self.actions.extend(lists.map(|addresses| RelayAction::Dial { relay, addresses }));
    }
}

fn starts_with(address: &Multiaddr, prefix: &Multiaddr) -> bool {
    let mut parts = address.iter();
    prefix.iter().all(|part| parts.next() == Some(part))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;

    fn machine(now: Instant) -> Reservation {
        let address = "/ip4/203.0.113.3/tcp/7777".parse().unwrap();
        Reservation::new(PeerId::random(), vec![address], 7, now)
    }

    fn drain(machine: &mut Reservation) -> Vec<RelayAction> {
        std::iter::from_fn(|| machine.poll_action()).collect()
    }

    fn tcp() -> Multiaddr {
        "/ip4/203.0.113.3/tcp/7777".parse().unwrap()
    }

    fn quic() -> Multiaddr {
        "/ip4/203.0.113.3/udp/7777/quic-v1".parse().unwrap()
    }

    #[test]
    fn it_reserves_only_after_identify_told_the_observed_address() {
        let now = Instant::now();
        let mut machine = machine(now);
        machine.handle_timeout(now);
        assert!(matches!(drain(&mut machine)[..], [RelayAction::Dial { .. }]));
        machine.handle_connected(PathId(1), &tcp());
        assert_eq!(drain(&mut machine), []);
        machine.handle_identified(&[], now);
        assert!(matches!(drain(&mut machine)[..], [RelayAction::Reserve { .. }]));
    }

    #[test]
    fn the_relays_quic_address_is_learned_so_that_udp_can_be_observed_too() {
        let now = Instant::now();
        let mut machine = machine(now);
        machine.handle_timeout(now);
        machine.handle_connected(PathId(1), &tcp());
        drain(&mut machine);
        let elsewhere = "/ip4/198.51.100.1/udp/7777/quic-v1".parse().unwrap();
        machine.handle_identified(&[tcp(), quic(), elsewhere], now);
        let relay = machine.relay();
        assert!(drain(&mut machine).contains(&RelayAction::Dial { relay, addresses: vec![quic()] }));
    }

    #[test]
    fn a_transport_that_is_being_dialed_is_not_dialed_beside() {
        let now = Instant::now();
        let mut machine = Reservation::new(PeerId::random(), vec![tcp(), quic()], 7, now);
        machine.handle_timeout(now);
        assert_eq!(drain(&mut machine).len(), 2);
        machine.handle_connected(PathId(1), &quic());
        machine.handle_identified(&[], now);
        let dials = |actions: Vec<RelayAction>| {
            actions.into_iter().filter(|action| matches!(action, RelayAction::Dial { .. })).count()
        };
        assert_eq!(dials(drain(&mut machine)), 0);
        machine.handle_identified(&[], now + DIAL_PATIENCE);
        assert_eq!(dials(drain(&mut machine)), 1, "that dial came to nothing");
    }

    #[test]
    fn after_a_loss_it_tries_again_within_ten_seconds_for_ever() {
        let mut now = Instant::now();
        let mut machine = machine(now);
        for _ in 0..50 {
            machine.handle_timeout(now);
            assert!(!drain(&mut machine).is_empty());
            machine.handle_dial_failed(now);
            let next = machine.poll_timeout().expect("another attempt");
            assert!(next > now && next - now < Duration::from_secs(10));
            now = next;
        }
    }

    #[test]
    fn a_relay_that_never_answers_is_disconnected_and_tried_again() {
        let now = Instant::now();
        let mut machine = machine(now);
        machine.handle_timeout(now);
        machine.handle_connected(PathId(1), &tcp());
        machine.handle_identified(&[], now);
        drain(&mut machine);
        let later = now + ANSWER_DEADLINE;
        machine.handle_timeout(later);
        assert!(drain(&mut machine).contains(&RelayAction::Disconnect { relay: machine.relay() }));
        assert_eq!(machine.state(), ReservationState::Down);
        assert!(machine.poll_timeout().is_some());
    }

    #[test]
    fn the_connections_of_a_held_reservation_are_checked_once_a_minute() {
        let now = Instant::now();
        let mut machine = machine(now);
        machine.handle_timeout(now);
        machine.handle_connected(PathId(1), &tcp());
        machine.handle_identified(&[], now);
        machine.handle_reserved(now);
        drain(&mut machine);
        let next = machine.poll_timeout().unwrap();
        assert_eq!(next - now, COMPLETE_EVERY);
        machine.handle_timeout(next);
        assert!(drain(&mut machine).contains(&RelayAction::Check { path: PathId(1) }));
        assert_eq!(machine.poll_timeout(), Some(next + COMPLETE_EVERY));
    }

    #[test]
    fn a_held_reservation_survives_the_loss_of_one_of_two_connections() {
        let now = Instant::now();
        let mut machine = machine(now);
        machine.handle_timeout(now);
        machine.handle_connected(PathId(1), &tcp());
        machine.handle_connected(PathId(2), &quic());
        machine.handle_identified(&[], now);
        machine.handle_reserved(now);
        drain(&mut machine);
        machine.handle_disconnected(PathId(2), now);
        assert_eq!(drain(&mut machine), [RelayAction::Check { path: PathId(1) }]);
        assert_eq!(machine.state(), ReservationState::Held);
        machine.handle_disconnected(PathId(1), now);
        assert_eq!(machine.state(), ReservationState::Down);
    }

    #[test]
    fn a_relay_that_is_not_needed_is_left_alone_until_it_is() {
        let now = Instant::now();
        let mut machine = machine(now);
        machine.set_wanted(false, now);
        machine.handle_timeout(now);
        machine.handle_network_changed(now);
        // A circuit may open a connection to it.
        machine.handle_connected(PathId(1), &tcp());
        machine.handle_identified(&[tcp(), quic()], now);
        machine.handle_timeout(now + COMPLETE_EVERY);
        assert_eq!(drain(&mut machine), []);
        assert_eq!(machine.poll_timeout(), None);
        machine.set_wanted(true, now);
        machine.handle_timeout(now);
        assert!(matches!(drain(&mut machine)[..], [RelayAction::Reserve { .. }]));
        assert!(!machine.is_failing());
        machine.handle_lost(now);
        assert!(machine.is_failing());
        machine.handle_reserved(now);
        assert!(!machine.is_failing());
    }
}
