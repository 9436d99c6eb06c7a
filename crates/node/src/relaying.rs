//! Relays in both directions: which ones we use, and whether we are one.
//!
//! Of the configured relays two hold a reservation of ours, one active and one standing by; the rest are candidates
//! (docs/adr/0047). Members that relay come on top (docs/adr/0046). A circuit needs a reservation of the other side
//! only, so a peer is looked for through every relay that we know.

use std::{collections::BTreeMap, time::Instant};

use peerup_path::{Opened, Reservation, ReservationState, Role, group};
use peerup_types::{Multiaddr, NatMapping, PathClass, PathId, PeerId, Protocol};
use peerup_wire::control::Control;

use crate::{action::Action, node::Node, view::RelayUse};

/// Reservations kept at configured relays.
const KEPT: usize = 2;
/// Circuits tried to one peer: the kept relays of both kinds, and two more where the other side may be.
const MAX_CIRCUITS: usize = 6;

/// `network.relay_service`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayService {
    /// Relay where one of our addresses is known to be reachable.
    #[default]
    Auto,
    /// Relay at every address that we have.
    On,
    Off,
}

/// Why this node relays for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRelaying {
    Off,
    /// `network.force_private_reachability`.
    ForcedPrivate,
    /// Nobody has confirmed an address of ours.
    Unconfirmed,
    /// There is no address at all.
    NoAddress,
}

impl NotRelaying {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "switched off",
            Self::ForcedPrivate => "this machine is configured as private",
            Self::Unconfirmed => "no address of this machine is known to be reachable",
            Self::NoAddress => "this machine has no address",
        }
    }
}

impl Node {
    /// Where this node can relay for its peers.
    pub fn relay_addresses(
        &self,
        service: RelayService,
        private: bool,
    ) -> Result<Vec<Multiaddr>, NotRelaying> {
        let confirmed =
            self.addresses.external().chain(self.reached.addresses()).chain(self.addresses.public());
        let (addresses, without) = match service {
            RelayService::Off => return Err(NotRelaying::Off),
            RelayService::Auto if private => return Err(NotRelaying::ForcedPrivate),
            RelayService::Auto => (distinct(confirmed), NotRelaying::Unconfirmed),
            RelayService::On => (distinct(confirmed.chain(self.addresses.host())), NotRelaying::NoAddress),
        };
        if addresses.is_empty() { Err(without) } else { Ok(addresses) }
    }

    /// Tells everybody at which addresses this node relays; none: it does not.
    pub fn set_relay_offer(&mut self, addresses: Vec<Multiaddr>, now: Instant) {
        if !self.peer_relays.set_own(addresses) {
            return;
        }
        let offer = Control::RelayOffer(self.peer_relays.own().to_vec());
        for peer in self.members.keys().copied().collect::<Vec<_>>() {
            self.say(&peer, offer.clone());
        }
        self.follow_relays(now);
        self.settle(now);
    }

    /// A relay has tried this address and got through. Where the NAT maps every remote to another port, that says
    /// nothing about anybody else.
    pub fn handle_reachable(&mut self, address: Multiaddr) {
        let for_all = match self.nat_mapping() {
            NatMapping::EndpointIndependent | NatMapping::Unknown => true,
            NatMapping::AddressDependent | NatMapping::AddressAndPortDependent => {
                self.addresses.is_own_ip(&address)
            }
        };
        if for_all {
            self.reached.add(address);
        }
    }

    /// identify finished on a path to a member: `observed` is the address under which it sees us.
    /// `true` when that proves one more address.
    pub fn handle_seen_as(&mut self, path: PathId, observed: &Multiaddr) -> bool {
        let own = self.addresses.is_own_ip(observed);
        self.reached.handle_identified(path, observed, own)
    }

    /// Members that relay and hold a reservation of ours, with their addresses.
    pub fn peer_relays(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        self.peer_relays.held().map(|(relay, addresses)| (relay, addresses.to_vec())).collect()
    }

    /// We send packets to these addresses, which opens our own NAT and firewall for answers.
    pub(crate) fn note_dial(&mut self, addresses: &[Multiaddr]) {
        self.reached.handle_dial(addresses);
    }

    pub(crate) fn note_opened(&mut self, peer: &PeerId, opened: &Opened, now: Instant) {
        if opened.kind.class != PathClass::Direct {
            self.reached.handle_relayed(opened.path, *peer);
        } else if opened.outbound {
            self.reached.handle_outbound(opened.path, &opened.remote);
        } else if self.members.contains_key(peer) {
            self.reached.handle_inbound(opened.path, *peer, &opened.remote, now);
        }
    }

    /// A circuit through a member is a path through a peer relay.
    pub(crate) fn classed(&self, mut opened: Opened) -> Opened {
        let member = opened.relay.is_some_and(|relay| self.members.contains_key(&relay));
        if opened.kind.class == PathClass::Relay && member {
            opened.kind.class = PathClass::PeerRelay;
        }
        opened
    }

    /// Hellos crossed on this path; over a direct one the peer can be asked to relay.
    pub(crate) fn note_direct(&mut self, path: PathId, peer: &PeerId, now: Instant) {
        let is_direct =
            |(opened, ..): &(&Opened, _, _)| opened.path == path && opened.kind.class == PathClass::Direct;
        if self.members.get(peer).is_some_and(|member| member.ready().iter().any(is_direct)) {
            self.peer_relays.handle_direct(*peer, path);
            if self.peer_relays.offers(peer) {
                self.follow_relays(now);
            }
        }
    }

    /// A member says where it relays. Addresses that it thinks reachable are worth a dial, also for the transports that
    /// are not connected yet: it shows us under which address each of ours is seen.
    pub(crate) fn learn_offer(&mut self, peer: PeerId, offered: &[Multiaddr], now: Instant) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        let direct = |(path, ..): &(&Opened, _, _)| path.kind.class == PathClass::Direct;
        let mut connected: Vec<_> =
            member.ready().into_iter().filter(direct).map(|(path, ..)| group(&path.remote)).collect();
        let mut wanted = Vec::new();
        // Every hello repeats the offer.
        let before = self.peer_relays.offer_of(&peer).to_vec();
        for address in self.peer_relays.handle_offer(peer, offered) {
            if connected.is_empty() {
                member.handle_address(address, now);
            } else if !connected.contains(&group(&address)) {
                connected.push(group(&address));
                wanted.push(Action::Dial { peer, addresses: vec![address], role: Role::Dialer });
            }
        }
        wanted.into_iter().for_each(|dial| self.order(dial));
        if self.peer_relays.offer_of(&peer) != before {
            self.follow_relays(now);
        }
    }

    pub(crate) fn relays_timeout(&mut self, now: Instant) {
        let states = |relays: &BTreeMap<PeerId, Reservation>| -> Vec<_> {
            relays.values().map(|relay| (relay.state(), relay.is_failing())).collect()
        };
        let before = states(&self.relays);
        for relay in self.relays.values_mut() {
            relay.handle_timeout(now);
        }
        if states(&self.relays) != before || self.peer_relays.poll_timeout().is_some_and(|at| at <= now) {
            self.follow_relays(now);
        }
    }

    /// Keeps enough reservations, after anything that may have cost or brought one.
    pub(crate) fn follow_relays(&mut self, now: Instant) {
        self.choose_relays(now);
        let relays = &self.relays;
        for (relay, address) in self.peer_relays.requests(|relay| relays.contains_key(relay), now) {
            self.actions.push_back(Action::Reserve { relay, address });
        }
        self.update_circuits(now);
    }

    /// In the order of the peer IDs, so that nodes with the same relays reserve at the same ones. A relay that fails
    /// is tried on, and does not count.
    fn choose_relays(&mut self, now: Instant) {
        let held = |relay: &Reservation| relay.state() == ReservationState::Held;
        let mut sound = self.relays.values().filter(|relay| held(relay)).count();
        for relay in self.relays.values_mut().filter(|relay| !held(relay)) {
            relay.set_wanted(sound < KEPT, now);
            sound += usize::from(relay.is_wanted() && !relay.is_failing());
        }
        let is_held = |relay: &PeerId| self.relays.get(relay).is_some_and(held);
        self.active_relay =
            self.active_relay.filter(is_held).or_else(|| self.relays.keys().copied().find(is_held));
    }

    pub(crate) fn relay_use(&self, relay: &Reservation) -> RelayUse {
        match relay.state() {
            ReservationState::Held if self.active_relay == Some(relay.relay()) => RelayUse::Active,
            ReservationState::Held => RelayUse::Standby,
            ReservationState::Down if !relay.is_wanted() => RelayUse::Candidate,
            ReservationState::Down | ReservationState::Connecting | ReservationState::Requested => {
                RelayUse::Sought
            }
        }
    }

    /// The relays behind which peers are looked for: first those that hold a reservation of ours and so are known to
    /// work, last those that may hold one of the peer's.
    pub(crate) fn ways(&self) -> Vec<(PeerId, Multiaddr)> {
        let place = |relay: &Reservation| match self.relay_use(relay) {
            RelayUse::Active => 0,
            RelayUse::Standby => 1,
            RelayUse::Candidate => 3,
            RelayUse::Sought => 4,
        };
        let configured = self.relays.values().filter(|relay| place(relay) < 4);
        let configured =
            configured.filter_map(|relay| Some((place(relay), relay.relay(), relay.addresses().first()?)));
        let peers = self.peer_relays.usable().into_iter().map(|(relay, address)| (2, relay, address));
        let mut ways: Vec<_> = configured.chain(peers).collect();
        // A member may be configured as a relay, too.
        ways.sort_by_key(|(place, relay, _)| (*relay, *place));
        ways.dedup_by_key(|(_, relay, _)| *relay);
        ways.sort_by_key(|(place, ..)| *place);
        ways.into_iter().map(|(_, relay, address)| (relay, address.clone())).collect()
    }
}

/// The peer behind each of these relays.
pub(crate) fn circuits(ways: &[(PeerId, Multiaddr)], peer: &PeerId) -> Vec<Multiaddr> {
    let ways = ways.iter().filter(|(relay, _)| relay != peer).take(MAX_CIRCUITS);
    ways.map(|(relay, address)| circuit(address, *relay, *peer)).collect()
}

/// `<address>/p2p/<relay>/p2p-circuit/p2p/<peer>`.
fn circuit(address: &Multiaddr, relay: PeerId, peer: PeerId) -> Multiaddr {
    let bare: Multiaddr = address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect();
    bare.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit).with(Protocol::P2p(peer))
}

fn distinct<'a>(addresses: impl Iterator<Item = &'a Multiaddr>) -> Vec<Multiaddr> {
    let mut distinct = Vec::new();
    for address in addresses {
        let bare: Multiaddr = address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect();
        if !distinct.contains(&bare) {
            distinct.push(bare);
        }
    }
    distinct
}
