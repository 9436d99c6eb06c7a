//! The machine.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};
use peerup_types::{AddressClaim, DnsLabel, Keypair, OverlayAddrs, PeerId};

use crate::{
    assignment::{Assignment, Loss, is_host},
    claim::{VerifyError, sign, verify},
    ula::{ula, ula_prefix},
};

/// How many peers are remembered.
pub const MAX_PEERS: usize = 4096;

/// How long an address stays reserved for a joiner that has not shown up with a claim.
pub const HOLD_SECONDS: u64 = 24 * 3600;

/// Clocks differ; a claim from further ahead than this is nonsense.
const MAX_CLOCK_SKEW_SECONDS: u64 = 24 * 3600;

/// Undrained events beyond this are dropped, the oldest first.
const MAX_EVENTS: usize = 4 * MAX_PEERS;

/// Shorter prefixes have no two hosts.
const LONGEST_PREFIX: u8 = 30;

/// Members and their addresses, as this node knows them.
///
/// Time is an argument in Unix seconds, because epochs and holds outlive the process. After a call that
/// takes it, drain [`poll_event`](Self::poll_event), and write [`to_yaml`](Self::to_yaml) when something came.
#[derive(Debug)]
pub struct Membership {
    keypair: Keypair,
    own: PeerId,
    pub(crate) network: Option<DnsLabel>,
    prefix: Ipv4Net,
    authorized: BTreeSet<PeerId>,
    by_v6: BTreeMap<Ipv6Addr, PeerId>,
    /// The latest claim of each peer, our own among them.
    pub(crate) claims: BTreeMap<PeerId, AddressClaim>,
    pub(crate) holds: BTreeMap<PeerId, Hold>,
    pub(crate) names: BTreeMap<PeerId, DnsLabel>,
    pins: BTreeMap<PeerId, Ipv4Addr>,
    assignment: Assignment,
    events: VecDeque<Event>,
}

/// An address reserved for a peer. One for ourselves is what an inviter granted us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    pub address: Ipv4Addr,
    /// Unix time at which the reservation ends.
    pub until: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Our IPv4 address is another one: configure it, and tell every peer our new claim.
    OwnAddressChanged { old: Option<Ipv4Addr>, new: Option<Ipv4Addr>, lost_to: Option<PeerId> },
    /// A peer's IPv4 address is another one: routes follow.
    AddressChanged { peer: PeerId, old: Option<Ipv4Addr>, new: Option<Ipv4Addr> },
    /// A peer claims what belongs to another (perhaps to us): tell it the winner's claim, once.
    ClaimLost { loser: PeerId, address: Ipv4Addr, winner: PeerId },
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The peer owns the address it claims.
    Owned,
    /// Somebody else does.
    Lost { winner: PeerId },
    /// This node pins the peer to another address.
    Pinned { address: Ipv4Addr },
    /// A newer claim of the same peer is known: send that back.
    Stale,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("{0} is not authorized")]
    NotAuthorized(PeerId),
    #[error(transparent)]
    NotAHost(#[from] NotAHost),
    #[error("{peer} claims an address since {epoch}, which is more than a day after {now}: a clock is wrong")]
    EpochInFuture { peer: PeerId, epoch: u64, now: u64 },
    #[error("{MAX_PEERS} peers are known already")]
    TooManyPeers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is not a host address of {prefix}")]
pub struct NotAHost {
    pub address: Ipv4Addr,
    pub prefix: Ipv4Net,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no address is free in {0}")]
pub struct Exhausted(pub Ipv4Net);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} has no room for two hosts, use a /{LONGEST_PREFIX} or larger")]
pub struct PrefixTooSmall(pub Ipv4Net);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    #[error("the address of {peer} cannot be pinned")]
    NotAHost { peer: PeerId, source: NotAHost },
    #[error("{address} is pinned to both {} and {}", peers[0], peers[1])]
    Shared { address: Ipv4Addr, peers: Box<[PeerId; 2]> },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantRefused {
    #[error("the granted address cannot be used")]
    Address(#[from] ClaimError),
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

impl Membership {
    pub fn new(keypair: Keypair, network: Option<DnsLabel>, prefix: Ipv4Net) -> Result<Self, PrefixTooSmall> {
        if prefix.prefix_len() > LONGEST_PREFIX {
            return Err(PrefixTooSmall(prefix));
        }
        let own = keypair.public().to_peer_id();
        let by_v6 = BTreeMap::from([(ula(network.as_ref(), &own), own)]);
        Ok(Self {
            keypair,
            own,
            network,
            prefix: prefix.trunc(),
            authorized: BTreeSet::new(),
            by_v6,
            claims: BTreeMap::new(),
            holds: BTreeMap::new(),
            names: BTreeMap::new(),
            pins: BTreeMap::new(),
            assignment: Assignment::default(),
            events: VecDeque::new(),
        })
    }

    /// Whom `authorized_keys` admits. Claims of everybody else are dropped, and so are reservations of peers
    /// that were authorized until this call; a joiner's reservation may come before its authorization.
    pub fn set_authorized(&mut self, authorized: BTreeSet<PeerId>, unix_now: u64) {
        let removed: Vec<_> = self.authorized.difference(&authorized).copied().collect();
        for peer in removed {
            self.holds.remove(&peer);
        }
        self.names.retain(|peer, _| authorized.contains(peer) || self.holds.contains_key(peer));
        self.claims.retain(|peer, _| *peer == self.own || authorized.contains(peer));
        let everybody = authorized.iter().chain([&self.own]);
        self.by_v6 = everybody.map(|peer| (ula(self.network.as_ref(), peer), *peer)).collect();
        self.authorized = authorized;
        self.settle(unix_now);
    }

    /// Forgets everything about a peer and refuses its claims from here on.
    pub fn forget(&mut self, peer: &PeerId, unix_now: u64) {
        let mut authorized = self.authorized.clone();
        authorized.remove(peer);
        self.holds.remove(peer);
        self.set_authorized(authorized, unix_now);
    }

    /// Addresses that the user decided: `vpn.address` for this node, `ip=` for others. They replace the
    /// pins set before; nothing changes on an error.
    pub fn set_pins(&mut self, pins: BTreeMap<PeerId, Ipv4Addr>, unix_now: u64) -> Result<(), PinError> {
        let mut owners = BTreeMap::new();
        for (peer, address) in &pins {
            self.check_host(*address).map_err(|source| PinError::NotAHost { peer: *peer, source })?;
            if let Some(first) = owners.insert(*address, *peer) {
                return Err(PinError::Shared { address: *address, peers: Box::new([first, *peer]) });
            }
        }
        self.pins = pins;
        self.settle(unix_now);
        Ok(())
    }

    /// Makes sure that this node has an address, claiming the lowest free one if need be. The first node of
    /// a network gets the first address.
    pub fn ensure_own(&mut self, unix_now: u64) -> Result<Ipv4Addr, Exhausted> {
        self.settle_claiming(true, unix_now);
        self.assignment.by_peer.get(&self.own).copied().ok_or(Exhausted(self.prefix))
    }

    /// Reserves an address for a joiner; asked again, the same one. Claims an own address first, so that the
    /// inviter's is the lower one. `None` when the range or the table is full.
    pub fn assign_for(&mut self, joiner: PeerId, unix_now: u64) -> Option<Ipv4Addr> {
        self.ensure_own(unix_now).ok()?;
        let known = self.assignment.by_peer.get(&joiner).copied();
        let address = known.or_else(|| self.assignment.lowest_free(self.prefix))?;
        self.hold(joiner, address, unix_now).ok()?;
        Some(address)
    }

    /// What an inviter granted: our address, and the claims it knows. Authorize the inviter first, or its own
    /// claim is a stranger's. Unsigned ones are addresses it holds
    /// for other joiners. An address that we own already and that survives the claims is kept, because
    /// other members know it; claims that do not check out are skipped.
    pub fn handle_grant(
        &mut self,
        address: Ipv4Addr,
        claims: &[AddressClaim],
        unix_now: u64,
    ) -> Result<Ipv4Addr, GrantRefused> {
        self.hold(self.own, address, unix_now)?;
        for claim in claims {
            let _ = match claim.signature.is_empty() {
                true => self.hold(claim.peer, claim.address, unix_now),
                false => self.handle_claim(claim.clone(), unix_now).map(|_| ()),
            };
        }
        Ok(self.ensure_own(unix_now)?)
    }

    /// A claim that a peer made or passed on.
    pub fn handle_claim(&mut self, claim: AddressClaim, unix_now: u64) -> Result<Outcome, ClaimError> {
        let peer = claim.peer;
        self.check(&claim, unix_now)?;
        // A hello repeats what everybody knows.
        if self.claims.get(&peer) == Some(&claim) && !self.holds.contains_key(&peer) {
            return Ok(self.outcome(&peer));
        }
        if self.claims.get(&peer).is_some_and(|known| !supersedes(&claim, known)) {
            return Ok(Outcome::Stale);
        }
        if self.claims.len() >= MAX_PEERS && !self.claims.contains_key(&peer) {
            return Err(ClaimError::TooManyPeers);
        }
        if peer != self.own {
            self.holds.remove(&peer);
        }
        self.claims.insert(peer, claim);
        self.settle(unix_now);
        Ok(self.outcome(&peer))
    }

    /// Ends reservations whose time has come.
    pub fn handle_timeout(&mut self, unix_now: u64) {
        self.settle(unix_now);
    }

    /// Unix time of the next [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<u64> {
        self.holds.values().map(|hold| hold.until).min()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn own(&self) -> PeerId {
        self.own
    }

    pub fn prefix(&self) -> Ipv4Net {
        self.prefix
    }

    pub fn v6_prefix(&self) -> Ipv6Net {
        ula_prefix(self.network.as_ref())
    }

    pub fn own_addrs(&self) -> OverlayAddrs {
        self.addrs_of(&self.own)
    }

    pub fn addrs_of(&self, peer: &PeerId) -> OverlayAddrs {
        let v4 = self.assignment.by_peer.get(peer).copied();
        OverlayAddrs { v4, v6: ula(self.network.as_ref(), peer) }
    }

    /// The authorized peers and their addresses, without ourselves.
    pub fn peers(&self) -> impl Iterator<Item = (PeerId, OverlayAddrs)> {
        let others = self.authorized.iter().filter(|peer| **peer != self.own);
        others.map(|peer| (*peer, self.addrs_of(peer)))
    }

    /// Who has an address: a member, or a joiner that the address is held for.
    pub fn whois(&self, address: IpAddr) -> Option<PeerId> {
        match address {
            IpAddr::V4(address) => self.assignment.by_address.get(&address).copied(),
            IpAddr::V6(address) => self.by_v6.get(&address).copied(),
        }
    }

    pub fn own_claim(&self) -> Option<&AddressClaim> {
        self.claims.get(&self.own)
    }

    pub fn claim_of(&self, peer: &PeerId) -> Option<&AddressClaim> {
        self.claims.get(peer)
    }

    /// All signed claims for a hello or a grant, our own first: senders cut the list at their limit.
    pub fn claims(&self) -> impl Iterator<Item = &AddressClaim> {
        let others = self.claims.values().filter(|claim| claim.peer != self.own);
        self.own_claim().into_iter().chain(others)
    }

    /// The name a peer gave itself when pairing.
    pub fn name_of(&self, peer: &PeerId) -> Option<&DnsLabel> {
        self.names.get(peer)
    }

    /// Remembers a peer's name; it is kept while the peer is authorized or has a
    /// reservation.
    pub fn set_name(&mut self, peer: PeerId, name: DnsLabel) {
        if self.names.len() < MAX_PEERS || self.names.contains_key(&peer) {
            self.names.insert(peer, name);
        }
    }

    fn hold(&mut self, peer: PeerId, address: Ipv4Addr, unix_now: u64) -> Result<(), ClaimError> {
        self.check_host(address)?;
        if self.holds.len() >= MAX_PEERS && !self.holds.contains_key(&peer) {
            return Err(ClaimError::TooManyPeers);
        }
        let signed = self.claims.get(&peer).is_some_and(|claim| claim.address == address);
        if !signed {
            self.holds.insert(peer, Hold { address, until: unix_now.saturating_add(HOLD_SECONDS) });
        }
        self.settle(unix_now);
        Ok(())
    }

    fn check(&self, claim: &AddressClaim, unix_now: u64) -> Result<(), ClaimError> {
        let AddressClaim { peer, address, epoch, .. } = *claim;
        if peer != self.own && !self.authorized.contains(&peer) {
            return Err(ClaimError::NotAuthorized(peer));
        }
        self.check_host(address)?;
        if epoch > unix_now.saturating_add(MAX_CLOCK_SKEW_SECONDS) {
            return Err(ClaimError::EpochInFuture { peer, epoch, now: unix_now });
        }
        // Most claims of a hello are known already; their signature has been checked.
        if self.claims.get(&peer) != Some(claim) {
            verify(claim, self.network.as_ref())?;
        }
        Ok(())
    }

    pub(crate) fn check_host(&self, address: Ipv4Addr) -> Result<(), NotAHost> {
        let prefix = self.prefix;
        if is_host(address, prefix) { Ok(()) } else { Err(NotAHost { address, prefix }) }
    }

    fn outcome(&self, peer: &PeerId) -> Outcome {
        match (self.assignment.lost.get(peer), self.pins.get(peer)) {
            (Some(loss), _) => Outcome::Lost { winner: loss.winner },
            (None, Some(pin)) if self.claims.get(peer).is_some_and(|claim| claim.address != *pin) => {
                Outcome::Pinned { address: *pin }
            }
            (None, _) => Outcome::Owned,
        }
    }

    /// Derives ownership again after a change. A node that takes part claims another address if its own is
    /// gone; one that never claimed any keeps watching.
    fn settle(&mut self, unix_now: u64) {
        self.settle_claiming(self.own_claim().is_some(), unix_now);
    }

    fn settle_claiming(&mut self, claim: bool, unix_now: u64) {
        self.holds.retain(|_, hold| hold.until > unix_now);
        let after = self.assign();
        let before = std::mem::replace(&mut self.assignment, after);
        let lost_to = self.assignment.lost.get(&self.own).map(|loss| loss.winner);
        if claim {
            self.claim_assigned(unix_now);
        }
        self.report_changes(&before, lost_to);
    }

    pub(crate) fn assign(&self) -> Assignment {
        let pins = self.pins.iter().map(|(peer, address)| (*peer, *address));
        let holds = self.holds.iter().map(|(peer, hold)| (*peer, hold.address));
        Assignment::of(pins, self.claims.values(), holds)
    }

    /// Takes over an assignment that was derived while loading; nothing has changed for anybody.
    pub(crate) fn adopt_assignment(&mut self) {
        self.assignment = self.assign();
    }

    /// Signs a claim for the address that is assigned to us, or for the lowest free one.
    fn claim_assigned(&mut self, unix_now: u64) {
        let assigned = self.assignment.by_peer.get(&self.own).copied();
        let Some(address) = assigned.or_else(|| self.assignment.lowest_free(self.prefix)) else { return };
        if self.own_claim().is_some_and(|claim| claim.address == address) {
            return;
        }
        // A newer epoch than that of the claim it replaces, also when the clock went back.
        let epoch = self.own_claim().map_or(0, |claim| claim.epoch.saturating_add(1)).max(unix_now);
        let claim = sign(&self.keypair, self.network.as_ref(), address, epoch);
        self.claims.insert(self.own, claim);
        self.holds.remove(&self.own);
        self.assignment = self.assign();
    }

    fn report_changes(&mut self, before: &Assignment, lost_to: Option<PeerId>) {
        let after = self.assignment.clone();
        let peers: BTreeSet<_> = before.by_peer.keys().chain(after.by_peer.keys()).copied().collect();
        for peer in peers {
            let (old, new) = (before.by_peer.get(&peer).copied(), after.by_peer.get(&peer).copied());
            if old == new {
                continue;
            }
            self.push_event(match peer == self.own {
                true => Event::OwnAddressChanged { old, new, lost_to },
                false => Event::AddressChanged { peer, old, new },
            });
        }
        for (loser, loss) in after.lost {
            if loser != self.own && before.lost.get(&loser) != Some(&loss) {
                let Loss { address, winner } = loss;
                self.push_event(Event::ClaimLost { loser, address, winner });
            }
        }
    }

    fn push_event(&mut self, event: Event) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// Whether a claim replaces another one of the same peer, or is that one. A peer moves to a later epoch;
/// the address only breaks the tie of a peer that signs two claims in one second.
fn supersedes(claim: &AddressClaim, known: &AddressClaim) -> bool {
    (claim.epoch, claim.address) >= (known.epoch, known.address)
}

#[cfg(test)]
mod tests;
