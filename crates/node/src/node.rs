//! [`Node`]: members, relays and the facts about them.

use std::{
    collections::{BTreeMap, VecDeque},
    net::Ipv4Addr,
    time::Instant,
};

use peerup_membership::{self as membership, Membership};
use peerup_path::{PeerPaths, Reservation};
use peerup_router::Reachability;
use peerup_types::{DnsLabel, Multiaddr, NatMapping, PathId, PeerId};

use crate::{
    action::{Action, Event},
    addresses::OwnAddresses,
    dials::Dials,
    peer_relays::PeerRelays,
    reached::Reached,
    relaying::circuits,
};

/// What the configuration says about this node.
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

/// A path that the swarm reported, relay or member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) peer: PeerId,
    /// The start of the peer's daemon that said hello on it.
    pub(crate) epoch: Option<u64>,
}

pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) membership: Membership,
    pub(crate) members: BTreeMap<PeerId, PeerPaths>,
    pub(crate) relays: BTreeMap<PeerId, Reservation>,
    pub(crate) paths: BTreeMap<PathId, Known>,
    pub(crate) addresses: OwnAddresses,
    pub(crate) nat_mapping: NatMapping,
    pub(crate) peer_relays: PeerRelays,
    pub(crate) reached: Reached,
    /// The relay through which we expect to be reached, while it holds our reservation.
    pub(crate) active_relay: Option<PeerId>,
    /// What the table was built from last; `None` when an address changed since.
    pub(crate) routed: Option<Vec<(PeerId, Reachability)>>,
    /// What the interfaces of members take, of their hellos.
    pub(crate) mtus: BTreeMap<PeerId, u16>,
    pub(crate) dials: Dials,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) events: VecDeque<Event>,
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
            nat_mapping: NatMapping::default(),
            peer_relays: PeerRelays::default(),
            reached: Reached::default(),
            active_relay: None,
            routed: None,
            mtus: BTreeMap::new(),
            dials: Dials::default(),
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

    /// What may change while the node runs. Peers hear of name and MTU with the next hello.
    pub fn reconfigure(&mut self, name: Option<DnsLabel>, mtu: u16, external: Vec<Multiaddr>, now: Instant) {
        self.addresses.set_external(external);
        if self.config.mtu != mtu {
            self.routed = None;
        }
        self.config.name = name;
        self.config.mtu = mtu;
        self.settle(now);
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
        let mapping = self.nat_mapping();
        self.membership.set_authorized(members.keys().copied().collect(), unix_now);
        let pins = members.iter().filter_map(|(peer, member)| Some((*peer, member.pinned?)));
        let pinned = self.membership.set_pins(pins.chain(own_pin.map(|pin| (own, pin))).collect(), unix_now);
        self.members.retain(|peer, _| members.contains_key(peer));
        self.mtus.retain(|peer, _| members.contains_key(peer));
        self.dials.retain(|peer| members.contains_key(peer) || self.relays.contains_key(peer));
        self.peer_relays.retain_members(|peer| members.contains_key(peer));
        let ways = self.ways();
        for peer in members.into_keys().filter(|peer| *peer != own) {
            let circuits = circuits(&ways, &peer);
            let seed = self.config.seed ^ u64::from_be_bytes(last_bytes(&peer));
            let fresh = || PeerPaths::new(own, peer, seed, now);
            let member = self.members.entry(peer).or_insert_with(fresh);
            member.handle_mapping(mapping, now);
            member.handle_circuits(circuits, now);
        }
        self.follow_membership();
        self.settle(now);
        pinned
    }

    /// Which relays to use. Those that are gone are disconnected.
    pub fn set_relays(&mut self, relays: BTreeMap<PeerId, Vec<Multiaddr>>, now: Instant) {
        let gone: Vec<PeerId> =
            self.relays.keys().filter(|relay| !relays.contains_key(relay)).copied().collect();
        for relay in gone {
            self.relays.remove(&relay);
            self.addresses.forget_relay(&relay);
            if !self.members.contains_key(&relay) {
                self.actions.push_back(Action::Disconnect { peer: relay });
            }
        }
        for (relay, addresses) in relays {
            let seed = self.config.seed ^ u64::from_be_bytes(last_bytes(&relay)) ^ 1;
            let fresh = || Reservation::new(relay, addresses.clone(), seed, now);
            self.relays.entry(relay).or_insert_with(fresh).set_addresses(&addresses, now);
        }
        self.follow_relays(now);
        self.settle(now);
    }

    /// How our own NAT maps ports, as somebody found out. While that is unknown, the node compares what its relays see.
    pub fn set_nat_mapping(&mut self, mapping: NatMapping, now: Instant) {
        self.nat_mapping = mapping;
        self.tell_mapping(now);
        self.settle(now);
    }

    pub fn nat_mapping(&self) -> NatMapping {
        match self.nat_mapping {
            NatMapping::Unknown => self.addresses.mapping(),
            known => known,
        }
    }

    pub(crate) fn tell_mapping(&mut self, now: Instant) {
        let mapping = self.nat_mapping();
        for member in self.members.values_mut() {
            member.handle_mapping(mapping, now);
        }
    }

    // Time

    pub fn handle_timeout(&mut self, now: Instant, unix_now: u64) {
        self.reached.handle_time(now);
        self.relays_timeout(now);
        let mut silenced = false;
        let due = |member: &&mut PeerPaths| member.poll_timeout().is_some_and(|at| at <= now);
        for member in self.members.values_mut().filter(due) {
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
        self.settle(now);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let members = self.members.values().filter_map(PeerPaths::poll_timeout);
        let relays = self.relays.values().filter_map(Reservation::poll_timeout);
        members.chain(relays).chain(self.peer_relays.poll_timeout()).chain(self.dials.poll_timeout()).min()
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

/// Some bytes that differ between peers, for seeds.
fn last_bytes(peer: &PeerId) -> [u8; 8] {
    let bytes = peer.to_bytes();
    std::array::from_fn(|i| bytes.get(bytes.len().wrapping_sub(i + 1)).copied().unwrap_or_default())
}
