use std::sync::{LazyLock, Mutex};

use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_700_000_000;

// Birth of a network.

#[test]
fn the_first_node_takes_the_first_address_and_its_joiners_the_next_ones() {
    let mut first = node(1);
    assert_eq!(first.own_addrs().v4, None);
    assert_eq!(first.assign_for(id(2), NOW), Some(host(2)));
    assert_eq!(first.own_addrs().v4, Some(host(1)));
    assert_eq!(first.assign_for(id(3), NOW + 1), Some(host(3)));
    assert_eq!(first.assign_for(id(2), NOW + 2), Some(host(2)));
    assert_eq!(first.whois(host(3).into()), Some(id(3)));
}

#[test]
fn a_joiner_signs_for_what_it_was_granted() {
    let mut first = node(1);
    let mut joiner = node(2);
    let address = first.assign_for(id(2), NOW).unwrap();
    let claims: Vec<_> = first.claims().cloned().collect();
    assert_eq!(joiner.handle_grant(address, &claims, NOW), Ok(host(2)));
    assert_eq!(joiner.addrs_of(&id(1)).v4, Some(host(1)));
    assert_eq!(first.handle_claim(joiner.own_claim().unwrap().clone(), NOW), Ok(Outcome::Owned));
    assert_eq!(first.poll_timeout(), None, "the reservation has become a claim");
    assert_eq!(first.addrs_of(&id(2)), joiner.own_addrs());
}

#[test]
fn a_grant_reserves_what_the_inviter_holds_for_others() {
    let mut joiner = node(3);
    let held = AddressClaim { peer: id(2), address: host(2), epoch: NOW, signature: vec![] };
    assert_eq!(joiner.handle_grant(host(3), std::slice::from_ref(&held), NOW), Ok(host(3)));
    assert_eq!(joiner.whois(host(2).into()), Some(id(2)));
    let refused = joiner.handle_claim(held, NOW);
    assert_eq!(refused, Err(ClaimError::Verify(VerifyError::Unsigned(id(2)))));
}

#[test]
fn a_granted_address_replaces_one_that_the_grant_shows_as_taken() {
    let mut joiner = node(2);
    joiner.ensure_own(NOW).unwrap();
    let inviter = claim(1, 1, NOW - 100);
    assert_eq!(joiner.handle_grant(host(7), &[inviter], NOW), Ok(host(7)));
    assert_eq!(joiner.own_claim().unwrap().address, host(7));
}

#[test]
fn a_grant_does_not_renumber_a_member() {
    let mut member = node(2);
    member.ensure_own(NOW).unwrap();
    assert_eq!(member.handle_grant(host(7), &[claim(1, 3, NOW)], NOW), Ok(host(1)));
}

#[test]
fn reservations_end_after_a_day() {
    let mut first = node(1);
    first.assign_for(id(2), NOW).unwrap();
    assert_eq!(first.poll_timeout(), Some(NOW + HOLD_SECONDS));
    drain(&mut first);
    first.handle_timeout(NOW + HOLD_SECONDS);
    assert_eq!(drain(&mut first), [Event::AddressChanged { peer: id(2), old: Some(host(2)), new: None }]);
    assert_eq!(first.assign_for(id(3), NOW + HOLD_SECONDS), Some(host(2)));
}

#[test]
fn a_full_range_assigns_nothing() {
    let mut first = Membership::new(key(1), None, "10.64.0.0/30".parse().unwrap()).unwrap();
    assert_eq!(first.assign_for(id(2), NOW), Some(host(2)));
    assert_eq!(first.assign_for(id(3), NOW), None);
    assert!(Membership::new(key(1), None, "10.64.0.0/31".parse().unwrap()).is_err());
}

// Conflicts.

#[test]
fn the_older_claim_keeps_the_address_and_the_other_peer_is_told() {
    let mut node = node(1);
    node.ensure_own(NOW).unwrap();
    drain(&mut node);
    assert_eq!(node.handle_claim(claim(2, 1, NOW + 5), NOW), Ok(Outcome::Lost { winner: id(1) }));
    assert_eq!(drain(&mut node), [Event::ClaimLost { loser: id(2), address: host(1), winner: id(1) }]);
    assert_eq!(node.addrs_of(&id(2)).v4, None);
    assert_eq!(node.handle_claim(claim(2, 1, NOW + 5), NOW), Ok(Outcome::Lost { winner: id(1) }));
    assert_eq!(drain(&mut node), [], "told once");
}

#[test]
fn a_node_that_loses_its_address_takes_the_lowest_free_one_with_a_newer_epoch() {
    let mut node = node(1);
    node.ensure_own(NOW).unwrap();
    node.handle_claim(claim(3, 2, NOW), NOW).unwrap();
    drain(&mut node);
    assert_eq!(node.handle_claim(claim(2, 1, NOW - 5), NOW), Ok(Outcome::Owned));
    let changed = Event::OwnAddressChanged { old: Some(host(1)), new: Some(host(3)), lost_to: Some(id(2)) };
    let events = drain(&mut node);
    assert!(events.contains(&changed), "{events:?}");
    let own = node.own_claim().unwrap();
    assert_eq!((own.address, own.epoch), (host(3), NOW + 1));
    assert_eq!(verify(own, None), Ok(()));
}

#[test]
fn a_node_that_loses_the_last_address_says_so() {
    let prefix = "10.64.0.0/30".parse().unwrap();
    let mut node = Membership::new(key(1), None, prefix).unwrap();
    node.set_authorized([id(2), id(3)].into(), NOW);
    node.ensure_own(NOW).unwrap();
    node.handle_claim(claim(2, 2, NOW), NOW).unwrap();
    drain(&mut node);
    node.handle_claim(claim(3, 1, NOW - 1), NOW).unwrap();
    let gone = Event::OwnAddressChanged { old: Some(host(1)), new: None, lost_to: Some(id(3)) };
    assert!(drain(&mut node).contains(&gone));
    assert_eq!(node.ensure_own(NOW), Err(Exhausted(prefix)));
}

#[test]
fn equal_epochs_are_decided_by_the_smaller_peer_id() {
    let mut node = node(9);
    let [small, large] = if id(1).to_bytes() < id(2).to_bytes() { [1, 2] } else { [2, 1] };
    node.handle_claim(claim(large, 1, NOW), NOW).unwrap();
    assert_eq!(node.handle_claim(claim(small, 1, NOW), NOW), Ok(Outcome::Owned));
    assert_eq!(node.whois(host(1).into()), Some(id(small)));
}

#[test]
fn a_peers_newer_claim_replaces_its_older_one_whatever_arrives_first() {
    let mut node = node(1);
    node.handle_claim(claim(2, 5, NOW), NOW).unwrap();
    assert_eq!(node.handle_claim(claim(2, 4, NOW - 1), NOW), Ok(Outcome::Stale));
    assert_eq!(node.addrs_of(&id(2)).v4, Some(host(5)));
    assert_eq!(node.handle_claim(claim(2, 6, NOW + 1), NOW), Ok(Outcome::Owned));
    assert_eq!(node.whois(host(5).into()), None);
}

#[test]
fn a_freed_address_goes_to_the_next_claimant() {
    let mut node = node(9);
    node.handle_claim(claim(1, 1, NOW), NOW).unwrap();
    node.handle_claim(claim(2, 1, NOW + 1), NOW).unwrap();
    drain(&mut node);
    node.forget(&id(1), NOW);
    let events = drain(&mut node);
    assert_eq!(events.len(), 2);
    assert!(events.contains(&Event::AddressChanged { peer: id(1), old: Some(host(1)), new: None }));
    assert!(events.contains(&Event::AddressChanged { peer: id(2), old: None, new: Some(host(1)) }));
}

// What is refused.

#[test]
fn claims_of_strangers_of_wrong_addresses_and_of_the_future_are_refused() {
    let mut node = node(1);
    let mut refused = |claim: AddressClaim| node.handle_claim(claim, NOW).unwrap_err();
    assert_eq!(refused(claim(50, 1, NOW)), ClaimError::NotAuthorized(id(50)));
    for address in ["10.64.0.0", "10.64.255.255", "10.65.0.1"] {
        let outside = sign(&key(2), None, address.parse().unwrap(), NOW);
        assert!(matches!(refused(outside), ClaimError::NotAHost(_)), "{address}");
    }
    let epoch = NOW + MAX_CLOCK_SKEW_SECONDS + 1;
    assert_eq!(refused(claim(2, 1, epoch)), ClaimError::EpochInFuture { peer: id(2), epoch, now: NOW });
    let forged = AddressClaim { peer: id(2), ..claim(3, 1, NOW) };
    assert_eq!(refused(forged), ClaimError::Verify(VerifyError::BadSignature(id(2))));
    assert!(drain(&mut node).is_empty() && node.claims().next().is_none());
}

#[test]
fn nobody_can_speak_for_us_but_our_own_newer_claim_is_recovered() {
    let mut node = node(1);
    node.ensure_own(NOW).unwrap();
    let forged = AddressClaim { peer: id(1), ..claim(2, 9, NOW + 9) };
    assert!(matches!(node.handle_claim(forged, NOW), Err(ClaimError::Verify(_))));
    assert_eq!(node.handle_claim(claim(1, 4, NOW - 9), NOW), Ok(Outcome::Stale));
    assert_eq!(node.own_addrs().v4, Some(host(1)));
    assert_eq!(node.handle_claim(claim(1, 4, NOW + 9), NOW), Ok(Outcome::Owned));
    assert_eq!(node.own_addrs().v4, Some(host(4)));
}

#[test]
fn a_removed_peer_is_forgotten_and_stays_out() {
    let mut node = node(1);
    node.handle_claim(claim(2, 2, NOW), NOW).unwrap();
    node.set_name(id(2), "home".parse().unwrap());
    let v6 = node.addrs_of(&id(2)).v6;
    assert_eq!(node.whois(v6.into()), Some(id(2)));
    node.forget(&id(2), NOW);
    assert_eq!((node.whois(v6.into()), node.whois(host(2).into()), node.name_of(&id(2))), (None, None, None));
    assert_eq!(node.peers().count(), 3);
    assert_eq!(node.handle_claim(claim(2, 2, NOW), NOW), Err(ClaimError::NotAuthorized(id(2))));
}

#[test]
fn a_reservation_survives_until_its_joiner_is_authorized() {
    let mut node = Membership::new(key(1), None, prefix()).unwrap();
    node.assign_for(id(2), NOW).unwrap();
    node.set_authorized([id(3)].into(), NOW);
    assert_eq!(node.whois(host(2).into()), Some(id(2)));
    node.set_authorized([id(2), id(3)].into(), NOW);
    node.set_authorized([id(3)].into(), NOW);
    assert_eq!(node.whois(host(2).into()), None);
}

// Pins.

#[test]
fn pinned_addresses_belong_to_their_peers_whatever_is_claimed() {
    let mut node = node(1);
    node.ensure_own(NOW).unwrap();
    node.set_pins([(id(1), host(9)), (id(2), host(8))].into(), NOW + 1).unwrap();
    assert_eq!(node.own_claim().unwrap().address, host(9));
    assert_eq!(node.addrs_of(&id(2)).v4, Some(host(8)));
    assert_eq!(node.handle_claim(claim(3, 9, 1), NOW), Ok(Outcome::Lost { winner: id(1) }));
    assert_eq!(node.handle_claim(claim(2, 5, 1), NOW), Ok(Outcome::Pinned { address: host(8) }));
    assert_eq!(node.own_addrs().v4, Some(host(9)));
    assert_eq!(node.whois(host(5).into()), None);
    assert_eq!(node.assign_for(id(2), NOW), Some(host(8)));
}

#[test]
fn impossible_pins_change_nothing() {
    let mut node = node(1);
    let shared = node.set_pins([(id(2), host(8)), (id(3), host(8))].into(), NOW);
    assert!(matches!(shared, Err(PinError::Shared { .. })));
    let outside = node.set_pins([(id(2), [10, 0, 0, 1].into())].into(), NOW);
    assert!(matches!(outside, Err(PinError::NotAHost { .. })));
    assert_eq!(node.addrs_of(&id(2)).v4, None);
}

// Restart.

#[test]
fn a_restart_keeps_every_address() {
    let mut before = node(1);
    before.assign_for(id(2), NOW).unwrap();
    before.handle_claim(claim(3, 3, NOW), NOW).unwrap();
    let mut after = Membership::from_yaml(&before.to_yaml(), key(1), None, prefix()).unwrap();
    after.set_authorized(others(1), NOW + 10);
    assert_eq!(after.ensure_own(NOW + 10), Ok(host(1)));
    assert_eq!(after.own_claim(), before.own_claim());
    for peer in [2, 3] {
        assert_eq!(after.addrs_of(&id(peer)), before.addrs_of(&id(peer)));
    }
    assert_eq!(drain(&mut after), []);
}

#[test]
fn events_nobody_drains_are_bounded() {
    let mut node = node(1);
    for last in 0..MAX_EVENTS + 10 {
        let new = Some(host((last % 200) as u8));
        node.push_event(Event::AddressChanged { peer: id(2), old: None, new });
    }
    assert_eq!(drain(&mut node).len(), MAX_EVENTS);
}

// Convergence.

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Nodes that claimed independently exchange claims; messages arrive in any order and some twice.
    #[test]
    fn nodes_agree_whatever_the_order_of_messages(epochs in proptest::collection::vec(0u64..3, 3..5), steps in proptest::collection::vec((0usize..1000, any::<bool>()), 0..40)) {
        let mut network = Network::new(&epochs);
        for (at, repeated) in steps {
            network.deliver(at, repeated);
        }
        network.settle();
        let first = &network.nodes[0];
        let members = (1..=epochs.len() as u8).map(|n| (n, first.addrs_of(&id(n)).v4)).collect::<Vec<_>>();
        for node in &network.nodes {
            for (n, address) in &members {
                prop_assert_eq!(node.addrs_of(&id(*n)).v4, *address);
            }
        }
        let distinct: BTreeSet<_> = members.iter().map(|(_, address)| address.unwrap()).collect();
        prop_assert_eq!(distinct.len(), members.len());
        let oldest = (1..=epochs.len() as u8).min_by_key(|n| (epochs[usize::from(*n) - 1], id(*n).to_bytes())).unwrap();
        prop_assert_eq!(first.addrs_of(&id(oldest)).v4, Some(host(1)), "the oldest claim keeps its address");
    }
}

/// Nodes that know each other and the messages on their way between them.
struct Network {
    nodes: Vec<Membership>,
    wire: Vec<(usize, AddressClaim)>,
    now: u64,
}

impl Network {
    fn new(epochs: &[u64]) -> Self {
        let mut nodes = Vec::new();
        for (n, epoch) in (1..).zip(epochs) {
            let mut node = node(n);
            node.ensure_own(NOW + epoch).unwrap();
            nodes.push(node);
        }
        let mut network = Self { nodes, wire: Vec::new(), now: NOW + 10 };
        for from in 0..network.nodes.len() {
            drain(&mut network.nodes[from]);
            network.broadcast(from);
        }
        network
    }

    fn broadcast(&mut self, from: usize) {
        let claim = self.nodes[from].own_claim().unwrap().clone();
        let others = (0..self.nodes.len()).filter(|to| *to != from);
        self.wire.extend(others.map(|to| (to, claim.clone())));
    }

    /// Delivers one message as the daemon would; `false` when none is left.
    fn deliver(&mut self, at: usize, repeated: bool) -> bool {
        if self.wire.is_empty() {
            return false;
        }
        let at = at % self.wire.len();
        let (to, claim) = if repeated { self.wire[at].clone() } else { self.wire.swap_remove(at) };
        self.now += 1;
        self.nodes[to].handle_claim(claim, self.now).unwrap();
        for event in drain(&mut self.nodes[to]) {
            match event {
                Event::OwnAddressChanged { .. } => self.broadcast(to),
                Event::ClaimLost { loser, winner, .. } => self.tell(loser, to, winner),
                Event::AddressChanged { .. } => {}
            }
        }
        true
    }

    fn tell(&mut self, loser: PeerId, from: usize, winner: PeerId) {
        let to = self.nodes.iter().position(|node| node.own() == loser).unwrap();
        self.wire.extend(self.nodes[from].claim_of(&winner).map(|claim| (to, claim.clone())));
    }

    /// Delivers the rest in some order; it must come to an end.
    fn settle(&mut self) {
        let rounds = (0..10_000).take_while(|round| self.deliver(round * 7, false)).count();
        assert!(rounds < 10_000, "the network does not come to rest");
    }
}

fn node(n: u8) -> Membership {
    let mut node = Membership::new(key(n), None, prefix()).unwrap();
    node.set_authorized(others(n), NOW);
    node
}

/// Four fellow members.
fn others(own: u8) -> BTreeSet<PeerId> {
    [1, 2, 3, 4, 9].into_iter().filter(|n| *n != own).map(id).collect()
}

fn drain(node: &mut Membership) -> Vec<Event> {
    std::iter::from_fn(|| node.poll_event()).collect()
}

fn claim(n: u8, last: u8, epoch: u64) -> AddressClaim {
    sign(&key(n), None, host(last), epoch)
}

/// Deriving keys is slow in a debug build, so each is derived once.
fn key(n: u8) -> Keypair {
    static KEYS: LazyLock<Mutex<BTreeMap<u8, Keypair>>> = LazyLock::new(Mutex::default);
    let mut keys = KEYS.lock().unwrap();
    keys.entry(n).or_insert_with(|| Keypair::ed25519_from_bytes([n; 32]).unwrap()).clone()
}

fn id(n: u8) -> PeerId {
    key(n).public().to_peer_id()
}

fn host(last: u8) -> Ipv4Addr {
    [10, 64, 0, last].into()
}

fn prefix() -> Ipv4Net {
    "10.64.0.0/16".parse().unwrap()
}
