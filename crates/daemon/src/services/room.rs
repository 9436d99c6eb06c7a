//! How many sessions are served at once, and how many of them one peer may hold.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use peerup_types::PeerId;

/// Of all peers together; more are reset. Each is one descriptor.
const SESSIONS: usize = 4096;
/// Of one peer: it does not shut the others out.
const SESSIONS_PER_PEER: usize = SESSIONS - SESSIONS / 8;

#[derive(Clone, Default)]
pub struct Room {
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_peer: BTreeMap<PeerId, usize>,
}

impl Room {
    /// `None` where the house or the peer's part of it is full.
    pub fn enter(&self, peer: PeerId) -> Option<Place> {
        let mut taken = self.lock();
        let of_peer = taken.by_peer.get(&peer).copied().unwrap_or(0);
        if taken.all >= SESSIONS || of_peer >= SESSIONS_PER_PEER {
            return None;
        }
        taken.all += 1;
        taken.by_peer.insert(peer, of_peer + 1);
        drop(taken);
        Some(Place { room: self.clone(), peer })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session's place, free again when this is dropped.
pub struct Place {
    room: Room,
    peer: PeerId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.lock();
        taken.all -= 1;
        if let Some(of_peer) = taken.by_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                taken.by_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_alone_never_fills_the_house() {
        let (room, greedy) = (Room::default(), PeerId::random());
        let mut places: Vec<_> = std::iter::from_fn(|| room.enter(greedy)).collect();
        assert_eq!(places.len(), SESSIONS_PER_PEER);
        let other = PeerId::random();
        places.extend(std::iter::from_fn(|| room.enter(other)));
        assert_eq!(places.len(), SESSIONS);
        assert!(room.enter(PeerId::random()).is_none());
        places.clear();
        assert!(room.enter(greedy).is_some() && room.lock().by_peer.is_empty());
    }
}
