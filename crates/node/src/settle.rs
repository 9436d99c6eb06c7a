//! From what the machines below want to the node's own actions.

use std::{net::IpAddr, time::Instant};

use peerup_path::{self as path, PeerPaths, RelayAction};
use peerup_router::Reachability;
use peerup_types::{Multiaddr, Protocol};
use peerup_wire::control::{Control, GoodbyeReason, Punch};

use crate::{
    action::{Action, Event},
    dials::{Dial, Urgency},
    node::Node,
    routes,
};

impl Node {
    /// Collects what the machines below want and rebuilds the routing table when its inputs changed.
    pub(crate) fn settle(&mut self, now: Instant) {
        let mut wanted = Vec::new();
        for relay in self.relays.values_mut() {
            wanted.extend(std::iter::from_fn(|| relay.poll_action()).map(relay_action));
        }
        let mut asked = Vec::new();
        for member in self.members.values_mut() {
            asked.extend(std::iter::from_fn(|| member.poll_action()));
            self.events.extend(std::iter::from_fn(|| member.poll_event()).map(path_event));
        }
        wanted.extend(asked.into_iter().map(|action| self.path_action(action)));
        for action in wanted {
            self.order(action);
        }
        for action in self.dials.start(now) {
            if let Action::Dial { addresses, .. } = &action {
                self.note_dial(addresses);
            }
            self.actions.push_back(action);
        }
        self.route();
    }

    /// Dials wait for their turn; everything else is done at once.
    pub(crate) fn order(&mut self, action: Action) {
        match action {
            Action::Dial { peer, addresses, role } => {
                let urgency = match self.relays.contains_key(&peer) {
                    true => Urgency::Relay,
                    false if addresses.iter().any(is_circuit) => Urgency::Circuit,
                    false => Urgency::Direct,
                };
                self.dials.ask(Dial { peer, addresses, role }, urgency);
            }
            other => self.actions.push_back(other),
        }
    }

    fn path_action(&self, action: path::Action) -> Action {
        let mapping = self.nat_mapping();
        let punch = |attempt| Punch { attempt, delay_ms: 0, mapping, addrs: self.addresses.candidates() };
        match action {
            path::Action::Dial { peer, address, role } => {
                Action::Dial { peer, addresses: vec![address], role }
            }
            path::Action::OpenStream { path } => Action::Greet { path },
            path::Action::Use { peer, path, beside } => Action::Use { peer, path, beside },
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
        let peers = || self.members.iter().map(|(peer, paths)| (*peer, reachability(paths)));
        if self.routed.as_ref().is_some_and(|routed| routed.iter().copied().eq(peers())) {
            return;
        }
        let (table, hosts): (_, Vec<IpAddr>) =
            routes::table(&self.membership, peers(), self.config.mtu, &self.mtus);
        self.routed = Some(peers().collect());
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

fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}
