//! Local ports for what this node opens itself.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// RFC 6335 §6: the dynamic ports.
const FIRST: u16 = 49152;

/// Picks ports at random, so that neither reuse nor guesses come easy (RFC 6056).
pub(crate) struct Ports {
    rng: SmallRng,
}

impl Ports {
    pub fn new(seed: u64) -> Self {
        Self { rng: SmallRng::seed_from_u64(seed) }
    }

    /// A port that `taken` does not know; `None` when there is hardly one left.
    pub fn pick(&mut self, taken: impl Fn(u16) -> bool) -> Option<u16> {
        let start = self.rng.random_range(FIRST..=u16::MAX);
        (start..=u16::MAX).chain(FIRST..start).find(|port| !taken(*port))
    }

    /// A number nobody can guess from outside: the seed of a connection's first sequence number.
    pub fn seed(&mut self) -> u64 {
        self.rng.random()
    }

    pub fn id(&mut self) -> u32 {
        self.rng.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_free_port_is_found_and_no_taken_one() {
        let mut ports = Ports::new(1);
        assert_eq!(ports.pick(|port| port != 50_000), Some(50_000));
        assert_eq!(ports.pick(|_| true), None);
        assert!(ports.pick(|_| false).unwrap() >= FIRST);
    }
}
