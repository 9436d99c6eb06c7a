//! The life of a node, told in what is reported to it and what it wants done.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test needs some first instant")]

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use peerup_membership::{Membership, sign};
use peerup_node::{Action, Event, Member, Node, NodeConfig};
use peerup_path::{Opened, ReservationState};
use peerup_router::{Reachability, RoutingTable};
use peerup_types::{
    AddressClaim, CarrierKind, DnsLabel, Family, Keypair, Multiaddr, PathClass, PathId, PathKind, PeerId,
};
use peerup_wire::{
    control::{Control, GoodbyeReason, Punch},
    hello::{Hello, HelloAck, RefusalReason},
    version::VersionRange,
};

const UNIX: u64 = 1_800_000_000;
const BEN: u8 = 2;
const CLEO: u8 = 3;
const RELAY: u8 = 9;

// Greeting

#[test]
fn a_member_is_greeted_back_with_our_name_and_claim() {
    let mut story = Story::with_members([BEN]);
    let hello = story.hello_of(BEN, 2, 0);
    let HelloAck::Accepted(ours) = story.greeted_by(BEN, &hello) else { panic!("refused") };
    assert_eq!(ours.name, Some(label("anna")));
    assert_eq!(ours.own_claim.as_ref(), story.node.membership().own_claim());
    assert_eq!(story.node.membership().addrs_of(&peer(BEN)).v4, Some(host(2)));
}

#[test]
fn who_is_no_member_is_told_so_and_nothing_else() {
    let mut story = Story::with_members([BEN]);
    let hello = story.hello_of(CLEO, 2, 0);
    assert_eq!(refusal(&story.greeted_by(CLEO, &hello)), Some(RefusalReason::NotAuthorised));
    assert_eq!(story.node.membership().addrs_of(&peer(CLEO)).v4, None);
}

#[test]
fn another_network_and_another_version_are_refused() {
    let mut story = Story::with_members([BEN]);
    let hello = Hello { network: Some(label("elsewhere")), ..story.hello_of(BEN, 2, 0) };
    assert_eq!(refusal(&story.greeted_by(BEN, &hello)), Some(RefusalReason::Network));
    let newer = VersionRange::new(70, 71).unwrap();
    let hello = Hello { versions: newer, ..story.hello_of(BEN, 2, 0) };
    assert_eq!(refusal(&story.greeted_by(BEN, &hello)), Some(RefusalReason::Version));
}

#[test]
fn a_path_on_which_we_are_refused_is_closed() {
    let mut story = Story::with_members([BEN]);
    story.open(BEN, 1, RELAYED);
    assert!(has(&story.drain(), |action| matches!(action, Action::Greet { path: PathId(1) })));
    let refused =
        HelloAck::Refused { versions: VersionRange::SUPPORTED, reason: RefusalReason::NotAuthorised };
    assert!(!story.node.handle_ack(PathId(1), &refused, story.now, UNIX));
    assert!(has(&story.drain(), |action| matches!(action, Action::Close { path: PathId(1) })));
}

#[test]
fn a_hello_of_a_later_start_gives_up_the_paths_of_the_earlier_one() {
    let mut story = Story::connected(BEN, RELAYED);
    story.open(BEN, 2, DIRECT);
    let restarted = Hello { boot_epoch: 8, ..story.hello_of(BEN, 2, 0) };
    story.node.handle_hello(PathId(2), &peer(BEN), &restarted, story.now, UNIX);
    assert!(has(&story.drain(), |action| matches!(action, Action::Close { path: PathId(1) })));
}

// Claims

#[test]
fn a_claim_that_wins_our_address_moves_us_and_everybody_hears_of_it() {
    let mut story = Story::connected_among([BEN, CLEO], BEN, DIRECT);
    assert_eq!(story.node.membership().own_addrs().v4, Some(host(1)));
    story.control(1, Control::Claims(vec![claim(CLEO, 1, 100)]));
    let actions = story.drain();
    let new = Some(host(3));
    assert!(has(&actions, |action| matches!(action, Action::Readdress { address } if *address == new)));
    assert!(has(&actions, |action| matches!(action, Action::Persist)));
    let said: Vec<AddressClaim> = said(&actions).into_iter().flat_map(claims).collect();
    assert_eq!(said, [story.node.membership().own_claim().unwrap().clone()]);
    let lost = Event::AddressLost { address: host(1), winner: peer(CLEO) };
    assert!(story.events().contains(&lost));
}

#[test]
fn a_peer_that_claims_our_older_address_is_told_our_claim() {
    let mut story = Story::connected(BEN, DIRECT);
    story.control(1, Control::Claims(vec![claim(BEN, 1, UNIX + 50)]));
    let said: Vec<AddressClaim> = said(&story.drain()).into_iter().flat_map(claims).collect();
    assert_eq!(said, [story.node.membership().own_claim().unwrap().clone()]);
    assert_eq!(story.node.membership().own_addrs().v4, Some(host(1)));
}

#[test]
fn a_peer_that_passes_on_an_old_claim_is_told_the_newer_one() {
    let mut story = Story::connected_among([BEN, CLEO], BEN, DIRECT);
    story.control(1, Control::Claims(vec![claim(CLEO, 7, 500)]));
    story.drain();
    story.control(1, Control::Claims(vec![claim(CLEO, 8, 400)]));
    let said: Vec<AddressClaim> = said(&story.drain()).into_iter().flat_map(claims).collect();
    assert_eq!(said, [claim(CLEO, 7, 500)]);
}

#[test]
fn a_claim_made_while_the_greeting_was_under_way_is_said_on_the_first_path() {
    let mut story = Story::with_members([BEN, CLEO]);
    story.open(BEN, 1, RELAYED);
    let sent = story.node.hello();
    // Somebody else wins our address before Ben has answered.
    let winner = Hello { own_claim: Some(claim(CLEO, 1, 100)), ..story.hello_of(CLEO, 1, 100) };
    story.greeted_by(CLEO, &winner);
    story.drain();
    let answer = HelloAck::Accepted(story.hello_of(BEN, 2, 0));
    assert!(story.node.handle_ack(PathId(1), &answer, story.now, UNIX));
    let said: Vec<AddressClaim> = said(&story.drain()).into_iter().flat_map(claims).collect();
    let own = story.node.membership().own_claim().cloned();
    assert_ne!(sent.own_claim, own);
    assert_eq!(said, Vec::from_iter(own));
}

#[test]
fn strangers_claims_are_not_taken_from_a_member() {
    let mut story = Story::connected(BEN, DIRECT);
    story.control(1, Control::Claims(vec![claim(CLEO, 1, 1)]));
    assert_eq!(story.node.membership().own_addrs().v4, Some(host(1)));
    assert_eq!(story.node.membership().claim_of(&peer(CLEO)), None);
}

// Routing

#[test]
fn the_table_follows_a_peer_from_connecting_to_online_to_offline() {
    let mut story = Story::with_members([BEN]);
    let table = story.table().unwrap();
    assert_eq!(reachability(&table, BEN), Some(Reachability::Connecting));
    story.open(BEN, 1, RELAYED);
    story.accept(BEN, 1);
    let actions = story.drain();
    let table = table_in(&actions).unwrap();
    assert_eq!(reachability(&table, BEN), Some(Reachability::Online));
    assert_eq!(table.owner(host(2).into()), table.index_of(&peer(BEN)));
    let [route, use_it] = [
        actions.iter().position(|action| matches!(action, Action::Route { .. })),
        actions.iter().position(|action| matches!(action, Action::Use { .. })),
    ];
    assert!(route < use_it, "the table is there before the path is used");
    story.control(1, Control::Goodbye(GoodbyeReason::Shutdown));
    assert_eq!(reachability(&story.table().unwrap(), BEN), Some(Reachability::Offline));
}

#[test]
fn a_removed_member_has_no_route_and_is_not_dialed_again() {
    let mut story = Story::connected(BEN, DIRECT);
    story.set_members([CLEO]);
    let table = story.table().unwrap();
    assert_eq!(table.index_of(&peer(BEN)), None);
    assert_eq!(table.owner(host(2).into()), None);
    story.node.handle_closed(PathId(1), story.now);
    let actions = story.run_for(Duration::from_secs(300));
    assert!(!has(&actions, |action| matches!(action, Action::Dial { peer: to, .. } if *to == peer(BEN))));
}

#[test]
fn a_pinned_member_has_its_address_whatever_it_claims() {
    let mut story = Story::with_members([BEN]);
    let pinned = BTreeMap::from([(peer(BEN), Member { pinned: Some(host(9)) })]);
    story.node.set_members(pinned, None, story.now, UNIX).unwrap();
    story.open(BEN, 1, DIRECT);
    story.accept(BEN, 1);
    let table = story.table().unwrap();
    assert_eq!(table.owner(host(9).into()), table.index_of(&peer(BEN)));
    assert_eq!(table.owner(host(2).into()), None);
}

// Relays

#[test]
fn members_are_dialed_through_a_relay_once_it_holds_a_reservation() {
    let mut story = Story::with_members([BEN]);
    story.reserve();
    let circuit = |action: &Action| match action {
        Action::Dial { peer: to, addresses, .. } => {
            *to == peer(BEN) && addresses.iter().all(|address| address.to_string().contains("/p2p-circuit/"))
        }
        _ => false,
    };
    assert!(has(&story.run_for(Duration::from_secs(1)), circuit));
    assert!(story.events().contains(&Event::RelayReserved { relay: peer(RELAY) }));
}

#[test]
fn a_relay_that_is_configured_no_more_is_disconnected_and_its_word_forgotten() {
    let mut story = Story::with_members([BEN]);
    story.reserve();
    assert!(story.node.addresses().observed_addresses().count() > 0);
    story.node.set_relays(BTreeMap::new(), story.now);
    let gone =
        |action: &Action| matches!(action, Action::Disconnect { peer: relay } if *relay == peer(RELAY));
    assert!(has(&story.drain(), gone));
    assert_eq!(story.node.addresses().observed_addresses().count(), 0);
    assert!(story.node.relays().is_empty());
}

#[test]
fn a_lost_reservation_is_reported_and_asked_for_again() {
    let mut story = Story::with_members([BEN]);
    story.reserve();
    story.events();
    story.node.handle_reservation_lost(peer(RELAY), story.now);
    assert!(story.events().contains(&Event::RelayLost { relay: peer(RELAY) }));
    let actions = story.run_for(Duration::from_secs(10));
    assert!(has(&actions, |action| matches!(action, Action::Reserve { .. })));
    assert_eq!(story.node.relays()[0].state, ReservationState::Requested);
}

#[test]
fn when_a_peer_falls_silent_on_every_path_the_relays_are_checked() {
    let mut story = Story::with_members([BEN]);
    story.reserve();
    story.open(BEN, 1, RELAYED);
    story.accept(BEN, 1);
    story.drain();
    let mut checked = None;
    let begin = story.now;
    while checked.is_none() && story.now < begin + Duration::from_secs(60) {
        story.now = story.node.poll_timeout().unwrap();
        story.node.handle_timeout(story.now, UNIX);
        checked =
            story.drain().into_iter().find(|action| matches!(action, Action::Check { path: PathId(90) }));
    }
    assert!(checked.is_some());
    assert!(story.now - begin < Duration::from_secs(4), "{:?}", story.now - begin);
}

// Punching

#[test]
fn what_a_relay_observed_is_offered_in_punches_and_to_dcutr() {
    let mut story = Story::with_members([BEN]);
    let actions = story.reserve();
    assert!(has(&actions, |action| matches!(action, Action::Candidate(found) if *found == observed())));
    story.open(BEN, 1, RELAYED);
    story.accept(BEN, 1);
    let actions = story.run_for(Duration::from_secs(5));
    let punches = said(&actions);
    let offers = |control: &Control| match control {
        Control::PunchRequest(punch) => punch.addrs.contains(&observed()),
        _ => false,
    };
    assert!(punches.iter().any(|(path, control)| *path == PathId(1) && offers(control)), "{punches:?}");
}

#[test]
fn a_punch_request_is_answered_with_our_addresses_and_dialed() {
    let mut story = Story::connected(BEN, RELAYED);
    story.node.handle_listening("/ip4/192.168.1.5/udp/4001/quic-v1".parse().unwrap(), story.now);
    story.drain();
    let offered: Multiaddr = "/ip4/198.51.100.9/udp/4001/quic-v1".parse().unwrap();
    let request =
        Punch { attempt: 77, delay_ms: 0, mapping: Default::default(), addrs: vec![offered.clone()] };
    story.control(1, Control::PunchRequest(request));
    let answers = said(&story.drain());
    let [(_, Control::PunchReply(reply))] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((reply.attempt, reply.addrs.len()), (77, 1));
    let dials = story.run_for(Duration::from_secs(1));
    assert!(has(
        &dials,
        |action| matches!(action, Action::Dial { addresses, .. } if addresses[0] == offered)
    ));
}

#[test]
fn a_member_that_names_relay_after_relay_has_us_dial_a_few_at_once() {
    let mut story = Story::connected(BEN, DIRECT);
    story.drain();
    for number in 1..100 {
        let offer = vec![format!("/ip4/198.51.100.{number}/tcp/22").parse().unwrap()];
        story.control(1, Control::RelayOffer(offer));
    }
    let dials = story.drain().into_iter().filter(|action| matches!(action, Action::Dial { .. })).count();
    assert!((1..=16).contains(&dials), "{dials}");
}

// Ending

#[test]
fn a_goodbye_makes_the_peer_offline_at_once() {
    let mut story = Story::connected(BEN, DIRECT);
    story.control(1, Control::Goodbye(GoodbyeReason::Shutdown));
    assert!(has(&story.drain(), |action| matches!(action, Action::Use { path: None, .. })));
    let view = &story.node.peers()[0];
    assert!(view.path.is_none() && !view.connecting);
}

#[test]
fn a_retired_path_is_left_and_the_peer_stays_online() {
    let mut story = Story::connected(BEN, DIRECT);
    story.open(BEN, 2, DIRECT);
    story.accept(BEN, 2);
    story.drain();
    story.control(1, Control::Goodbye(GoodbyeReason::PathReplaced));
    let moved = |action: &Action| matches!(action, Action::Use { path: Some(PathId(2)), .. });
    assert!(has(&story.drain(), moved));
}

#[test]
fn after_a_wake_up_every_path_is_probed_although_the_peer_was_idle() {
    let mut story = Story::connected(BEN, DIRECT);
    story.run_for(Duration::from_secs(120));
    let idle = story.run_for(Duration::from_secs(60));
    assert!(!has(&idle, |action| matches!(action, Action::Probe { .. })));
    story.node.handle_wake(story.now);
    let awake = story.run_for(Duration::from_secs(1));
    assert!(has(&awake, |action| matches!(action, Action::Probe { path: PathId(1) })));
}

#[test]
fn a_control_message_of_a_later_version_changes_nothing() {
    let mut story = Story::connected(BEN, DIRECT);
    story.control(1, Control::Unknown(4711));
    assert!(story.drain().is_empty());
    assert!(story.node.peers()[0].path.is_some());
}

#[test]
fn words_on_a_path_that_closed_are_not_heard() {
    let mut story = Story::connected_among([BEN, CLEO], BEN, DIRECT);
    story.node.handle_closed(PathId(1), story.now);
    story.drain();
    story.control(1, Control::Claims(vec![claim(CLEO, 1, 100)]));
    assert_eq!(story.node.membership().own_addrs().v4, Some(host(1)));
}

const RELAYED: PathKind =
    PathKind { class: PathClass::Relay, family: Family::Ipv4, carrier: CarrierKind::RelayStream };
const DIRECT: PathKind =
    PathKind { class: PathClass::Direct, family: Family::Ipv4, carrier: CarrierKind::QuicStream };

struct Story {
    node: Node,
    now: Instant,
}

impl Story {
    /// Anna with the first address, and these members.
    fn with_members<const N: usize>(members: [u8; N]) -> Self {
        let config = NodeConfig {
            name: Some(label("anna")),
            network: None,
            mtu: 1380,
            boot_epoch: 7,
            external: Vec::new(),
            seed: 42,
        };
        let membership = Membership::new(keypair(1), None, "10.64.0.0/16".parse().unwrap()).unwrap();
        let mut story = Self { node: Node::new(config, membership), now: Instant::now() };
        story.node.membership_mut().ensure_own(UNIX).unwrap();
        story.node.follow_membership();
        story.set_members(members);
        story
    }

    fn connected(to: u8, kind: PathKind) -> Self {
        Self::connected_among([to], to, kind)
    }

    /// The connection to `to` is path 1.
    fn connected_among<const N: usize>(members: [u8; N], to: u8, kind: PathKind) -> Self {
        let mut story = Self::with_members(members);
        story.open(to, 1, kind);
        story.accept(to, 1);
        story.drain();
        story
    }

    fn set_members<const N: usize>(&mut self, members: [u8; N]) {
        let members = members.map(|member| (peer(member), Member::default()));
        self.node.set_members(members.into(), None, self.now, UNIX).unwrap();
    }

    /// Connects to the relay and gets a reservation.
    fn reserve(&mut self) -> Vec<Action> {
        let address: Multiaddr = "/ip4/203.0.113.1/udp/4001/quic-v1".parse().unwrap();
        self.node.set_relays(BTreeMap::from([(peer(RELAY), vec![address.clone()])]), self.now);
        self.node.handle_timeout(self.now, UNIX);
        let opened = Opened { path: PathId(90), kind: DIRECT, remote: address, relay: None, outbound: true };
        self.node.handle_opened(peer(RELAY), opened, self.now);
        self.node.handle_identified(peer(RELAY), PathId(90), &[], &observed(), self.now);
        self.node.handle_reserved(peer(RELAY), self.now);
        self.drain()
    }

    fn open(&mut self, to: u8, path: u64, kind: PathKind) {
        let remote = "/ip4/198.51.100.2/udp/4001/quic-v1".parse().unwrap();
        let opened = Opened { path: PathId(path), kind, remote, relay: None, outbound: true };
        self.node.handle_opened(peer(to), opened, self.now);
    }

    /// The peer accepts our hello; it has the address that ends in its number.
    fn accept(&mut self, from: u8, path: u64) {
        let ack = HelloAck::Accepted(self.hello_of(from, from, 0));
        assert!(self.node.handle_ack(PathId(path), &ack, self.now, UNIX));
    }

    fn greeted_by(&mut self, from: u8, hello: &Hello) -> HelloAck {
        self.node.handle_hello(PathId(50), &peer(from), hello, self.now, UNIX)
    }

    /// `later` dates the claim: seconds after ours.
    fn hello_of(&self, from: u8, last: u8, later: u64) -> Hello {
        Hello {
            boot_epoch: 1,
            own_claim: Some(claim(from, last, UNIX + later)),
            known_claims: Vec::new(),
            name: None,
            ..self.node.hello()
        }
    }

    fn control(&mut self, path: u64, control: Control) {
        self.node.handle_control(PathId(path), control, self.now, UNIX);
    }

    /// Lets time pass, answering every probe, and returns what the node wanted meanwhile.
    fn run_for(&mut self, duration: Duration) -> Vec<Action> {
        let end = self.now + duration;
        let mut wanted = self.drain();
        while let Some(next) = self.node.poll_timeout().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.node.handle_timeout(self.now, UNIX);
            for action in self.drain() {
                if let Action::Probe { path } = action {
                    self.node.handle_answer(path, Duration::from_millis(20), self.now);
                }
                wanted.push(action);
            }
        }
        self.now = end;
        wanted
    }

    fn drain(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.node.poll_action()).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.node.poll_event()).collect()
    }

    fn table(&mut self) -> Option<Arc<RoutingTable>> {
        table_in(&self.drain())
    }
}

fn table_in(actions: &[Action]) -> Option<Arc<RoutingTable>> {
    let tables = actions.iter().filter_map(|action| match action {
        Action::Route { table, .. } => Some(table.clone()),
        _ => None,
    });
    tables.last()
}

fn has(actions: &[Action], what: impl Fn(&Action) -> bool) -> bool {
    actions.iter().any(what)
}

fn said(actions: &[Action]) -> Vec<(PathId, Control)> {
    let words = actions.iter().filter_map(|action| match action {
        Action::Say { path, control } => Some((*path, control.clone())),
        _ => None,
    });
    words.collect()
}

fn claims((_, control): (PathId, Control)) -> Vec<AddressClaim> {
    match control {
        Control::Claims(claims) => claims,
        _ => Vec::new(),
    }
}

fn refusal(ack: &HelloAck) -> Option<RefusalReason> {
    match ack {
        HelloAck::Refused { reason, .. } => Some(*reason),
        HelloAck::Accepted(_) => None,
    }
}

fn reachability(table: &RoutingTable, of: u8) -> Option<Reachability> {
    table.reachability(table.index_of(&peer(of))?)
}

fn claim(from: u8, last: u8, epoch: u64) -> AddressClaim {
    sign(&keypair(from), None, host(last), epoch)
}

fn observed() -> Multiaddr {
    "/ip4/198.51.100.7/udp/14001/quic-v1".parse().unwrap()
}

fn host(last: u8) -> Ipv4Addr {
    [10, 64, 0, last].into()
}

fn label(text: &str) -> DnsLabel {
    text.parse().unwrap()
}

fn keypair(fill: u8) -> Keypair {
    Keypair::ed25519_from_bytes([fill; 32]).unwrap()
}

fn peer(fill: u8) -> PeerId {
    keypair(fill).public().to_peer_id()
}
