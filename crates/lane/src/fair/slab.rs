//! Packets of all flows in one piece of memory, chained per flow: as large as the most that ever waited, whatever flows
//! it belonged to, and never allocated again.

use super::Queued;

const END: u32 = u32::MAX;

/// The packets of one flow, oldest first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    first: u32,
    last: u32,
}

impl Default for Chain {
    fn default() -> Self {
        Self { first: END, last: END }
    }
}

#[derive(Debug)]
struct Place {
    queued: Option<Queued>,
    /// In its chain.
    next: u32,
}

#[derive(Debug, Default)]
pub(super) struct Slab {
    places: Vec<Place>,
    vacant: Vec<u32>,
}

impl Slab {
    /// Where it now is, in no chain yet.
    pub(super) fn insert(&mut self, queued: Queued) -> u32 {
        let place = Place { queued: Some(queued), next: END };
        match self.vacant.pop() {
            Some(at) => {
                self.places[at as usize] = place;
                at
            }
            None => {
                self.places.push(place);
                (self.places.len() - 1) as u32
            }
        }
    }

    pub(super) fn append(&mut self, chain: &mut Chain, at: u32) {
        match chain.last {
            END => chain.first = at,
            last => self.places[last as usize].next = at,
        }
        chain.last = at;
    }

    pub(super) fn first(&self, chain: &Chain) -> Option<&Queued> {
        self.places.get(chain.first as usize)?.queued.as_ref()
    }

    pub(super) fn take_first(&mut self, chain: &mut Chain) -> Option<Queued> {
        let place = self.places.get_mut(chain.first as usize)?;
        let queued = place.queued.take()?;
        self.vacant.push(chain.first);
        chain.first = place.next;
        if chain.first == END {
            chain.last = END;
        }
        Some(queued)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Queued> {
        self.places.iter_mut().filter_map(|place| place.queued.as_mut())
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
