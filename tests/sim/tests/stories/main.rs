//! Stories of many nodes. Each runs under several seeds; a failure prints the seed and what happened.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod failures;
mod limits;
mod many;
mod nat;
mod random;
mod seeds;
mod traffic;

use std::{ops::Range, time::Duration};

use peerup_sim::{HostId, NatConfig, World};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Two nodes behind a router each, and a relay.
struct Pair {
    world: World,
    relay: HostId,
    a: HostId,
    b: HostId,
}

impl Pair {
    fn behind(seed: u64, left: NatConfig, right: NatConfig) -> Self {
        let mut world = World::new(seed);
        let relay = world.relay();
        let (left, right) = (world.nat_site(left), world.nat_site(right));
        let (a, b) = (world.node("anna", left), world.node("ben", right));
        world.befriend(&[a, b]);
        world.start_all();
        Self { world, relay, a, b }
    }

    fn direct(seed: u64) -> Self {
        let mut pair = Self::behind(seed, NatConfig::HOME, NatConfig::HOME);
        pair.until_direct(10 * SECOND);
        pair.world.run(10 * SECOND);
        pair
    }

    fn relayed(seed: u64) -> Self {
        let mut pair = Self::behind(seed, NatConfig::SYMMETRIC, NatConfig::SYMMETRIC);
        pair.until_relayed(5 * SECOND);
        pair.world.run(10 * SECOND);
        pair
    }

    fn until_direct(&mut self, limit: Duration) -> Duration {
        let (a, b) = (self.a, self.b);
        self.world.until("direct", limit, |world| world.is_direct(a, b))
    }

    fn until_relayed(&mut self, limit: Duration) -> Duration {
        let (a, b) = (self.a, self.b);
        self.world.until("relayed", limit, |world| world.is_relayed(a, b))
    }

    fn until_connected(&mut self, limit: Duration) -> Duration {
        let (a, b) = (self.a, self.b);
        self.world.until("connected", limit, |world| world.is_connected(a, b))
    }

    /// Packets in both directions.
    fn traffic(&mut self, every: Duration, duration: Duration) {
        self.world.flow(self.a, self.b, every, duration);
        self.world.flow(self.b, self.a, every, duration);
    }

    /// Runs until a packet sent later than this has arrived in each direction.
    fn until_packets_pass(&mut self, limit: Duration) -> Duration {
        let (a, b, begin) = (self.a, self.b, self.world.now());
        let passes = |world: &World, a, b| world.newest(a, b).is_some_and(|sent| sent > begin);
        self.world.until("packets pass", limit, |world| passes(world, a, b) && passes(world, b, a))
    }
}

fn with_seeds(seeds: Range<u64>, story: impl Fn(u64)) {
    seeds.for_each(story);
}
