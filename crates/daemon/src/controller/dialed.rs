//! Which addresses a dial was for: the swarm names a failed dial by its number only.

use std::collections::BTreeMap;

use peerup_swarm::DialId;
use peerup_types::Multiaddr;

/// Dials remembered: more than are ever under way. Successful ones leave by age.
const KEPT: usize = 128;

#[derive(Debug, Default)]
pub struct Dialed(BTreeMap<DialId, Vec<Multiaddr>>);

impl Dialed {
    pub fn insert(&mut self, dial: DialId, addresses: Vec<Multiaddr>) {
        while self.0.len() >= KEPT {
            self.0.pop_first();
        }
        self.0.insert(dial, addresses);
    }

    /// Nothing for a dial that was not ours.
    pub fn remove(&mut self, dial: DialId) -> Vec<Multiaddr> {
        self.0.remove(&dial).unwrap_or_default()
    }
}
