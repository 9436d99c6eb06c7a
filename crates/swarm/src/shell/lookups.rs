//! Asking the private DHT where a peer is, and being found there.

use std::collections::HashMap;

use libp2p::{Multiaddr, PeerId, kad};

use super::PeerSwarm;
use crate::event::Event;

/// Questions under way; each asks a few servers.
const MAX_LOOKUPS: usize = 8;
/// Addresses taken from one answer.
const MAX_FOUND: usize = 16;

#[derive(Default)]
pub struct Lookups {
    /// Questions under way, and whom they are about.
    asked: HashMap<kad::QueryId, PeerId>,
    /// Servers somebody named, asked besides those that identify showed.
    bootstrap: Vec<(PeerId, Multiaddr)>,
    serves: bool,
}

impl PeerSwarm {
    /// Servers of the private DHT to begin at. They are trusted with questions only, and admitted to nothing.
    pub fn bootstrap_from(&mut self, servers: Vec<(PeerId, Multiaddr)>) {
        self.lookups.bootstrap = servers;
    }

    /// Asks the private DHT where `peer` is. What it knows comes as [`Event::Found`]; it knows the peers that serve it.
    pub fn find(&mut self, peer: PeerId) {
        if self.lookups.asked.len() < MAX_LOOKUPS {
            self.seed_routing_table();
            let query = self.swarm.behaviour_mut().kad.get_closest_peers(peer);
            self.lookups.asked.insert(query, peer);
        }
    }

    /// kad drops whom it cannot reach, and a rebuilt swarm knows nobody, so the table is seeded for every question.
    fn seed_routing_table(&mut self) {
        for (server, address) in self.lookups.bootstrap.clone() {
            self.add_dht_peer(server, address);
        }
    }

    /// Whether this node serves the private DHT, and so is found there by other members. For nodes that others can
    /// reach: the relays in the DHT would hand out addresses that lead nowhere otherwise.
    pub fn serve_dht(&mut self, serve: bool) {
        if self.lookups.serves != serve {
            self.lookups.serves = serve;
            self.apply_dht_mode();
        }
    }

    fn apply_dht_mode(&mut self) {
        let mode = if self.lookups.serves { kad::Mode::Server } else { kad::Mode::Client };
        self.swarm.behaviour_mut().kad.set_mode(Some(mode));
    }

    /// A rebuilt swarm has no questions and its first mode.
    pub(super) fn restart_lookups(&mut self) {
        self.lookups.asked.clear();
        if self.lookups.serves {
            self.apply_dht_mode();
        }
    }

    /// Servers of the DHT are members and relays, and may say anything: only what they say about the one peer that was
    /// asked for is passed on.
    pub(super) fn translate_lookup(&mut self, id: kad::QueryId, result: kad::QueryResult, last: bool) {
        let Some(wanted) = self.lookups.asked.get(&id).copied() else { return };
        if last {
            self.lookups.asked.remove(&id);
        }
        let kad::QueryResult::GetClosestPeers(found) = result else { return };
        let peers = match found {
            Ok(found) => found.peers,
            Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
        };
        let addresses =
            peers.into_iter().filter(|found| found.peer_id == wanted).flat_map(|found| found.addrs);
        let found = addresses.take(MAX_FOUND).map(|address| Event::Found { peer: wanted, address });
        self.pending.extend(found);
    }
}
