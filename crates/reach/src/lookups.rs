//! Whom to look for in the DHT, and how much of what others say about a peer is listened to.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use peerup_types::PeerId;

/// A peer that is not reached by then through a relay or at a known address is looked for.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Addresses of one peer taken from multicast and the DHT in a minute: each may cause a dial, and anybody on a LAN can
/// claim any number of them.
const MAX_HEARD: u32 = 16;
const WINDOW: Duration = Duration::from_secs(60);

/// Members without a path, and when each is looked for next.
#[derive(Debug, Default)]
pub struct Lookups {
    absent: BTreeMap<PeerId, Absence>,
    heard: BTreeMap<PeerId, (Instant, u32)>,
}

#[derive(Debug)]
struct Absence {
    due: Instant,
    wait: Duration,
}

impl Lookups {
    /// Takes who is absent at this moment, and returns who is to be looked for.
    pub fn poll(&mut self, absent: impl IntoIterator<Item = PeerId>, now: Instant) -> Vec<PeerId> {
        let mut before = std::mem::take(&mut self.absent);
        let mut due = Vec::new();
        for peer in absent {
            let fresh = Absence { due: now + FIRST, wait: FIRST };
            let mut absence = before.remove(&peer).unwrap_or(fresh);
            if absence.due <= now {
                absence.wait = (absence.wait * 3).min(LONGEST);
                absence.due = now + absence.wait;
                due.push(peer);
            }
            self.absent.insert(peer, absence);
        }
        due
    }

    /// Another network: what could not be found from the last one may be found from here.
    pub fn handle_network_changed(&mut self) {
        self.absent.clear();
        self.heard.clear();
    }

    /// Whether one more address that others claim for `peer`, a member, is listened to.
    pub fn listens(&mut self, peer: PeerId, now: Instant) -> bool {
        let (since, heard) = self.heard.entry(peer).or_insert((now, 0));
        if *since + WINDOW <= now {
            (*since, *heard) = (now, 0);
        }
        *heard = heard.saturating_add(1);
        *heard <= MAX_HEARD
    }

    /// Forgets everybody who is no member any more.
    pub fn retain(&mut self, is_member: impl Fn(&PeerId) -> bool) {
        self.heard.retain(|peer, _| is_member(peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::now_for_tests;

    #[test]
    fn an_absent_peer_is_looked_for_after_a_while_and_then_less_and_less() {
        let (mut lookups, peer, start) = (Lookups::default(), PeerId::random(), now_for_tests());
        let mut asked = Vec::new();
        for second in 0..7200 {
            if !lookups.poll([peer], start + Duration::from_secs(second)).is_empty() {
                asked.push(second);
            }
        }
        assert_eq!(asked[..5], [5, 20, 65, 200, 605]);
        assert!(asked.windows(2).skip(5).all(|pair| pair[1] - pair[0] == LONGEST.as_secs()), "{asked:?}");
    }

    #[test]
    fn a_peer_that_came_back_is_a_new_case_when_it_goes_again() {
        let (mut lookups, peer, now) = (Lookups::default(), PeerId::random(), now_for_tests());
        lookups.poll([peer], now);
        assert_eq!(lookups.poll([peer], now + FIRST), [peer]);
        assert!(lookups.poll([], now + FIRST).is_empty());
        assert!(lookups.poll([peer], now + FIRST).is_empty());
        assert_eq!(lookups.poll([peer], now + FIRST * 2), [peer]);
    }

    #[test]
    fn a_flood_of_claimed_addresses_is_listened_to_for_a_moment_each_minute() {
        let (mut lookups, peer, now) = (Lookups::default(), PeerId::random(), now_for_tests());
        let heard = |lookups: &mut Lookups, now| (0..1000).filter(|_| lookups.listens(peer, now)).count();
        assert_eq!(heard(&mut lookups, now), MAX_HEARD as usize);
        assert_eq!(heard(&mut lookups, now + WINDOW / 2), 0);
        assert_eq!(heard(&mut lookups, now + WINDOW), MAX_HEARD as usize);
        assert!(lookups.listens(PeerId::random(), now));
    }
}
