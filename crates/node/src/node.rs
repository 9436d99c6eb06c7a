//! [`Node`]: members, relays and the facts about them.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use peerup_membership::{self as membership, Membership};
use peerup_path::{self as path, Opened, PeerPaths, Reason, RelayAction, Reservation, ReservationState};
use peerup_router::Reachability;
use peerup_types::{AddressClaim, DnsLabel, Multiaddr, OverlayAddrs, PathId, PeerId, Protocol};
use peerup_wire::{
    control::{Control, GoodbyeReason, Punch},
    hello::HelloAck,
};

use crate::{
    action::{Action, Event},
    addresses::OwnAddresses,
    routes,
};

/// What does not change while the node runs.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    pub name: Option<DnsLabel>,
    pub network: Option<DnsLabel>,
    pub mtu: u16,
    /// Distinguishes this start of the daemon from others.
    pub boot_epoch: u64,
    pub external: Vec<Multiaddr>,
    /// Seeds the jitter.
    pub seed: u64,
}

/// What `authorized_keys` and the configuration say about a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// `ip=`: this member's address, whatever is claimed.
    pub pinned: Option<Ipv4Addr>,
}

/// A member as status shows it.
#[derive(Debug, Clone)]
pub struct PeerView {
    pub peer: PeerId,
    pub name: Option<DnsLabel>,
    pub addresses: OverlayAddrs,
    pub path: Option<Opened>,
    pub since: Option<Instant>,
    pub rtt: Option<Duration>,
    /// Share of unanswered probes on the path in use, 0 to 1.
    pub loss: f64,
    pub connecting: bool,
    pub reason: Option<Reason>,
    /// Every usable path, best first.
    pub paths: Vec<(Opened, Option<Duration>)>,
}

#[derive(Debug, Clone)]
pub struct RelayView {
    pub relay: PeerId,
    /// Configured addresses first, then those that the relay told us.
    pub addresses: Vec<Multiaddr>,
    pub state: ReservationState,
}

/// A path that the swarm reported, relay or member.
#[derive(Debug, Clone, Copy)]
struct Known {
    peer: PeerId,
    /// The start of the peer's daemon that said hello on it.
    epoch: Option<u64>,
}

pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) membership: Membership,
    pub(crate) members: BTreeMap<PeerId, PeerPaths>,
    relays: BTreeMap<PeerId, Reservation>,
    paths: BTreeMap<PathId, Known>,
    addresses: OwnAddresses,
    /// The table's inputs at its last build.
    routed: Option<Vec<(PeerId, Reachability, OverlayAddrs)>>,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

impl Node {
    pub fn new(config: NodeConfig, membership: Membership) -> Self {
        let addresses = OwnAddresses::new(config.external.clone());
        Self {
            config,
            membership,
            members: BTreeMap::new(),
            relays: BTreeMap::new(),
            paths: BTreeMap::new(),
            addresses,
            routed: None,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Membership, for pairing: a grant to give or to take. Call [`follow_membership`](Self::follow_membership) after.
    pub fn membership_mut(&mut self) -> &mut Membership {
        &mut self.membership
    }

    pub fn name(&self) -> Option<&DnsLabel> {
        self.config.name.as_ref()
    }

    /// Who may be in the network, as `authorized_keys` says now. `own_pin` is `vpn.address`.
    pub fn set_members(
        &mut self,
        members: BTreeMap<PeerId, Member>,
        own_pin: Option<Ipv4Addr>,
        now: Instant,
        unix_now: u64,
    ) -> Result<(), membership::PinError> {
        let own = self.membership.own();
        self.membership.set_authorized(members.keys().copied().collect(), unix_now);
        let pins = members.iter().filter_map(|(peer, member)| Some((*peer, member.pinned?)));
        let pinned = self.membership.set_pins(pins.chain(own_pin.map(|pin| (own, pin))).collect(), unix_now);
        self.members.retain(|peer, _| members.contains_key(peer));
        for peer in members.into_keys().filter(|peer| *peer != own) {
            let circuits = self.circuits(&peer);
            let seed = self.config.seed ^ u64::from_be_bytes(last_bytes(&peer));
            let fresh = || PeerPaths::new(own, peer, seed, now);
            self.members.entry(peer).or_insert_with(fresh).handle_circuits(circuits, now);
        }
        self.follow_membership();
        self.settle();
        pinned
    }

    /// Which relays to use. Those that are gone are disconnected.
    pub fn set_relays(&mut self, relays: BTreeMap<PeerId, Vec<Multiaddr>>, now: Instant) {
        let gone: Vec<PeerId> =
            self.relays.keys().filter(|relay| !relays.contains_key(relay)).copied().collect();
        for relay in gone {
            self.relays.remove(&relay);
            self.addresses.forget_relay(&relay);
            self.actions.push_back(Action::Disconnect { peer: relay });
        }
        for (relay, addresses) in relays {
            let seed = self.config.seed ^ u64::from_be_bytes(last_bytes(&relay)) ^ 1;
            let fresh = || Reservation::new(relay, addresses.clone(), seed, now);
            self.relays.entry(relay).or_insert_with(fresh).set_addresses(&addresses, now);
        }
        self.update_circuits(now);
        self.settle();
    }

    // What the swarm reports

    pub fn handle_opened(&mut self, peer: PeerId, opened: Opened, now: Instant) {
        self.paths.insert(opened.path, Known { peer, epoch: None });
        if let Some(relay) = self.relays.get_mut(&peer) {
            relay.handle_connected(opened.path, &opened.remote);
        } else if let Some(member) = self.members.get_mut(&peer) {
            member.handle_opened(opened, now);
        }
        self.settle();
    }

    pub fn handle_closed(&mut self, path: PathId, now: Instant) {
        let Some(Known { peer, .. }) = self.paths.remove(&path) else { return };
        if let Some(relay) = self.relays.get_mut(&peer) {
            let held = relay.state();
            relay.handle_disconnected(path, now);
            if held == ReservationState::Held && relay.state() != ReservationState::Held {
                self.events.push_back(Event::RelayLost { relay: peer });
                self.addresses.forget_relay(&peer);
                self.update_circuits(now);
            }
        } else if let Some(member) = self.members.get_mut(&peer) {
            member.handle_closed(path, now);
        }
        self.settle();
    }

    pub fn handle_dial_failed(&mut self, peer: &PeerId, now: Instant) {
        if let Some(relay) = self.relays.get_mut(peer) {
            relay.handle_dial_failed(now);
        }
        self.settle();
    }

    /// identify finished with a relay: `observed` is how it sees us.
    pub fn handle_identified(
        &mut self,
        peer: PeerId,
        listen: &[Multiaddr],
        observed: &Multiaddr,
        now: Instant,
    ) {
        let Some(relay) = self.relays.get_mut(&peer) else { return };
        relay.handle_identified(listen, now);
        if self.addresses.observed(peer, observed) {
            self.actions.push_back(Action::Candidate(observed.clone()));
            self.retry_direct(now);
        }
        self.settle();
    }

    pub fn handle_reserved(&mut self, relay: PeerId, now: Instant) {
        let Some(reservation) = self.relays.get_mut(&relay) else { return };
        if reservation.state() != ReservationState::Held {
            self.events.push_back(Event::RelayReserved { relay });
        }
        reservation.handle_reserved(now);
        self.update_circuits(now);
        self.settle();
    }

    pub fn handle_reservation_lost(&mut self, relay: PeerId, now: Instant) {
        let Some(reservation) = self.relays.get_mut(&relay) else { return };
        if reservation.state() == ReservationState::Held {
            self.events.push_back(Event::RelayLost { relay });
        }
        reservation.handle_lost(now);
        self.update_circuits(now);
        self.settle();
    }

    pub fn handle_listening(&mut self, address: Multiaddr, now: Instant) {
        let before = self.addresses.candidates();
        self.addresses.listening(address);
        if self.addresses.candidates() != before {
            self.retry_direct(now);
        }
        self.settle();
    }

    pub fn handle_listen_expired(&mut self, address: &Multiaddr, now: Instant) {
        self.addresses.expired(address);
        self.network_changed(now);
        self.settle();
    }

    /// Multicast DNS or the configuration knows an address of a peer.
    pub fn handle_address(&mut self, peer: &PeerId, address: Multiaddr, now: Instant) {
        if let Some(member) = self.members.get_mut(peer) {
            member.handle_address(address, now);
        }
        self.settle();
    }

    /// The host woke up or the swarm restarted: nothing that was waited for will come.
    pub fn handle_wake(&mut self, now: Instant) {
        self.network_changed(now);
        self.settle();
    }

    // What streams report

    /// The answer to our hello on a path.
    pub fn handle_ack(&mut self, path: PathId, ack: &HelloAck, now: Instant, unix_now: u64) -> bool {
        let Some(Known { peer, .. }) = self.paths.get(&path).copied() else { return false };
        let accepted = self.accept_ack(path, &peer, ack, now, unix_now);
        let reached = self.members.get(&peer).is_some_and(|member| member.active().is_some());
        if let Some(member) = self.members.get_mut(&peer) {
            match accepted {
                true => member.handle_ready(path, now),
                false => member.handle_unusable(path, now),
            }
        }
        if !reached && let Some(claim) = self.membership.own_claim().cloned() {
            // One that was made after the hello was written went to connected peers only.
            self.say(&peer, Control::Claims(vec![claim]));
        }
        self.settle();
        accepted
    }

    /// A stream of the path failed or its greeting did.
    pub fn handle_broken(&mut self, path: PathId, now: Instant) {
        if let Some(member) = self.member_on(path) {
            member.handle_unusable(path, now);
        }
        self.settle();
    }

    pub fn handle_answer(&mut self, path: PathId, rtt: Duration, now: Instant) {
        if let Some(member) = self.member_on(path) {
            member.handle_answer(path, rtt, now);
        }
        self.settle();
    }

    /// Frames arrived on the path since the last call.
    pub fn handle_heard(&mut self, path: PathId) {
        if let Some(member) = self.member_on(path) {
            member.handle_heard(path);
        }
    }

    pub fn handle_traffic(&mut self, peer: &PeerId, now: Instant) {
        if let Some(member) = self.members.get_mut(peer) {
            member.handle_traffic(now);
        }
        self.settle();
    }

    pub fn handle_wanted(&mut self, peer: &PeerId, now: Instant) {
        if let Some(member) = self.members.get_mut(peer) {
            member.handle_wanted(now);
            member.handle_timeout(now);
        }
        self.settle();
    }

    pub fn handle_control(&mut self, path: PathId, control: Control, now: Instant, unix_now: u64) {
        let Some(Known { peer, .. }) = self.paths.get(&path).copied() else { return };
        let Some(member) = self.members.get_mut(&peer) else { return };
        match control {
            Control::Goodbye(GoodbyeReason::PathReplaced) => member.handle_retired(path, now),
            Control::Goodbye(GoodbyeReason::Shutdown | GoodbyeReason::NotAuthorised) => {
                member.handle_goodbye(now)
            }
            Control::Goodbye(GoodbyeReason::ProtocolError | GoodbyeReason::Unspecified) => {
                member.handle_unusable(path, now);
            }
            Control::Claims(claims) => self.learn_claims(&peer, claims, unix_now),
            Control::PunchRequest(Punch { attempt, addrs, .. }) => {
                member.handle_punch_request(path, attempt, &addrs, now);
            }
            Control::PunchReply(Punch { attempt, addrs, .. }) => {
                member.handle_punch_reply(attempt, &addrs, now)
            }
            Control::Unknown(_) => {}
        }
        self.settle();
    }

    // Time

    pub fn handle_timeout(&mut self, now: Instant, unix_now: u64) {
        for relay in self.relays.values_mut() {
            relay.handle_timeout(now);
        }
        let mut silenced = false;
        for member in self.members.values_mut() {
            let reached = !member.is_cut_off();
            member.handle_timeout(now);
            silenced |= reached && member.is_cut_off();
        }
        if silenced {
            // Where a router lost its mappings, the connections to the relays are as dead as the path to the peer,
            // and their transport takes much longer to notice.
            self.relays.values_mut().for_each(Reservation::handle_doubt);
        }
        if self.membership.poll_timeout().is_some_and(|at| at <= unix_now) {
            self.membership.handle_timeout(unix_now);
            self.follow_membership();
        }
        self.settle();
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let members = self.members.values().filter_map(PeerPaths::poll_timeout);
        members.chain(self.relays.values().filter_map(Reservation::poll_timeout)).min()
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    // Views

    pub fn peers(&self) -> Vec<PeerView> {
        self.members.iter().map(|(peer, paths)| self.view(peer, paths)).collect()
    }

    pub fn relays(&self) -> Vec<RelayView> {
        let view = |relay: &Reservation| RelayView {
            relay: relay.relay(),
            addresses: relay.addresses().to_vec(),
            state: relay.state(),
        };
        self.relays.values().map(view).collect()
    }

    /// The peers on which everybody's goodbye is said, one path each.
    pub fn active_paths(&self) -> Vec<PathId> {
        self.members.values().filter_map(|member| Some(member.active()?.0.path)).collect()
    }

    pub fn addresses(&self) -> &OwnAddresses {
        &self.addresses
    }

    fn view(&self, peer: &PeerId, paths: &PeerPaths) -> PeerView {
        let active = paths.active();
        PeerView {
            peer: *peer,
            name: self.membership.name_of(peer).cloned(),
            addresses: self.membership.addrs_of(peer),
            path: active.map(|(opened, ..)| opened.clone()),
            since: active.map(|(.., since)| since),
            rtt: active.and_then(|(_, rtt, _)| rtt),
            loss: paths.loss(),
            connecting: paths.is_connecting(),
            reason: paths.reason(),
            paths: paths.ready().into_iter().map(|(opened, rtt)| (opened.clone(), rtt)).collect(),
        }
    }

    // Inside

    /// Follows what membership decided: our address, everybody's routes, the file, what peers have to know.
    pub fn follow_membership(&mut self) {
        while let Some(event) = self.membership.poll_event() {
            self.persist();
            match event {
                membership::Event::OwnAddressChanged { old, new, lost_to } => {
                    if let (Some(address), Some(winner)) = (old, lost_to) {
                        self.events.push_back(Event::AddressLost { address, winner });
                    }
                    self.actions.push_back(Action::Readdress { address: new });
                    self.announce_own_claim();
                }
                // The table is rebuilt from what membership says, whatever changed.
                membership::Event::AddressChanged { .. } => {}
                membership::Event::ClaimLost { loser, winner, .. } => {
                    let claim = self.membership.claim_of(&winner).cloned();
                    self.say_claims(&loser, claim);
                }
            }
        }
    }

    pub(crate) fn say(&mut self, peer: &PeerId, control: Control) {
        let Some((opened, ..)) = self.members.get(peer).and_then(PeerPaths::active) else { return };
        self.actions.push_back(Action::Say { path: opened.path, control });
    }

    pub(crate) fn persist(&mut self) {
        if !self.actions.iter().any(|action| matches!(action, Action::Persist)) {
            self.actions.push_back(Action::Persist);
        }
    }

    fn announce_own_claim(&mut self) {
        let claim = self.membership.own_claim().cloned();
        for peer in self.members.keys().copied().collect::<Vec<_>>() {
            self.say_claims(&peer, claim.clone());
        }
    }

    fn say_claims(&mut self, peer: &PeerId, claim: Option<AddressClaim>) {
        if let Some(claim) = claim {
            self.say(peer, Control::Claims(vec![claim]));
        }
    }

    /// A hello of another start of the peer's daemon: what an earlier start opened leads nowhere, although this
    /// host's transport does not know it yet.
    pub(crate) fn note_epoch(&mut self, path: PathId, peer: &PeerId, epoch: u64, now: Instant) {
        if let Some(known) = self.paths.get_mut(&path) {
            known.epoch = Some(epoch);
        }
        // Only older paths: a hello that was read late says nothing about what came after it.
        let differs = |known: &Known| known.peer == *peer && known.epoch.is_some_and(|other| other != epoch);
        let older = self.paths.range(..path).filter(|(_, known)| differs(known));
        let stale: Vec<PathId> = older.map(|(id, _)| *id).collect();
        for path in stale {
            if let Some(member) = self.members.get_mut(peer) {
                member.handle_unusable(path, now);
            }
        }
    }

    fn member_on(&mut self, path: PathId) -> Option<&mut PeerPaths> {
        let Known { peer, .. } = self.paths.get(&path)?;
        self.members.get_mut(peer)
    }

    fn network_changed(&mut self, now: Instant) {
        for relay in self.relays.values_mut() {
            relay.handle_network_changed(now);
        }
        for member in self.members.values_mut() {
            member.handle_network_changed(now);
        }
    }

    /// There is a new address to offer.
    fn retry_direct(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            member.handle_new_candidate(now);
        }
    }

    fn update_circuits(&mut self, now: Instant) {
        for peer in self.members.keys().copied().collect::<Vec<_>>() {
            let circuits = self.circuits(&peer);
            if let Some(member) = self.members.get_mut(&peer) {
                member.handle_circuits(circuits, now);
            }
        }
    }

    /// The peer behind each relay that holds a reservation of ours, and so is known to work.
    fn circuits(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let held = self.relays.values().filter(|relay| relay.state() == ReservationState::Held);
        held.filter_map(|relay| Some((relay.relay(), relay.addresses().first()?)))
            .map(|(relay, address)| circuit(address, relay, *peer))
            .collect()
    }

    /// Collects what the machines below want and rebuilds the routing table when its inputs changed.
    pub(crate) fn settle(&mut self) {
        let mut wanted = Vec::new();
        for relay in self.relays.values_mut() {
            wanted.extend(std::iter::from_fn(|| relay.poll_action()).map(relay_action));
        }
        let mut asked = Vec::new();
        for member in self.members.values_mut() {
            asked.extend(std::iter::from_fn(|| member.poll_action()));
            self.events.extend(std::iter::from_fn(|| member.poll_event()).map(path_event));
        }
        self.actions.extend(wanted);
        for action in asked {
            let action = self.path_action(action);
            self.actions.push_back(action);
        }
        self.route();
    }

    fn path_action(&self, action: path::Action) -> Action {
        let punch = |attempt| Punch { attempt, delay_ms: 0, addrs: self.addresses.candidates() };
        match action {
            path::Action::Dial { peer, addresses, role } => Action::Dial { peer, addresses, role },
            path::Action::OpenStream { path } => Action::Greet { path },
            path::Action::Use { peer, path } => Action::Use { peer, path },
            path::Action::Probe { path } => Action::Probe { path },
            path::Action::RequestPunch { path, attempt } => {
                Action::Say { path, control: Control::PunchRequest(punch(attempt)) }
            }
            path::Action::ReplyPunch { path, attempt } => {
                Action::Say { path, control: Control::PunchReply(punch(attempt)) }
            }
            path::Action::Retire { path } => {
                Action::Say { path, control: Control::Goodbye(GoodbyeReason::PathReplaced) }
            }
            path::Action::Close { path } => Action::Close { path },
        }
    }

    fn route(&mut self) {
        let inputs: Vec<_> = self
            .members
            .iter()
            .map(|(peer, paths)| (*peer, reachability(paths), self.membership.addrs_of(peer)))
            .chain([(self.membership.own(), Reachability::Online, self.membership.own_addrs())])
            .collect();
        if self.routed.as_ref() == Some(&inputs) {
            return;
        }
        let peers = self.members.iter().map(|(peer, paths)| (*peer, reachability(paths)));
        let (table, hosts): (_, Vec<IpAddr>) = routes::table(&self.membership, peers, self.config.mtu);
        self.routed = Some(inputs);
        // A table has to be there before a path of a new peer is used, and only the newest counts.
        self.actions.retain(|action| !matches!(action, Action::Route { .. }));
        self.actions.push_front(Action::Route { table, hosts });
    }
}

fn reachability(paths: &PeerPaths) -> Reachability {
    if paths.active().is_some() {
        Reachability::Online
    } else if paths.is_connecting() {
        Reachability::Connecting
    } else {
        Reachability::Offline
    }
}

fn relay_action(action: RelayAction) -> Action {
    match action {
        RelayAction::Dial { relay, addresses } => {
            Action::Dial { peer: relay, addresses, role: path::Role::Dialer }
        }
        RelayAction::Reserve { relay, address } => Action::Reserve { relay, address },
        RelayAction::Check { path } => Action::Check { path },
        RelayAction::Disconnect { relay } => Action::Disconnect { peer: relay },
    }
}

fn path_event(event: path::Event) -> Event {
    match event {
        path::Event::PathChanged { peer, from, to, reason } => Event::PathChanged { peer, from, to, reason },
    }
}

/// `<address>/p2p/<relay>/p2p-circuit/p2p/<peer>`.
fn circuit(address: &Multiaddr, relay: PeerId, peer: PeerId) -> Multiaddr {
    let bare: Multiaddr = address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect();
    bare.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit).with(Protocol::P2p(peer))
}

/// Some bytes that differ between peers, for seeds.
fn last_bytes(peer: &PeerId) -> [u8; 8] {
    let bytes = peer.to_bytes();
    std::array::from_fn(|i| bytes.get(bytes.len().wrapping_sub(i + 1)).copied().unwrap_or_default())
}
