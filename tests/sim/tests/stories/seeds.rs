//! Thousands of short lives: meet, go direct, lose the peer in some way, meet again. What goes wrong once in a hundred
//! times goes wrong here.

use std::{ops::Range, time::Duration};

use peerup_sim::{NatConfig, Stop};

use crate::{MINUTE, Pair, SECOND, with_seeds};

#[test]
fn lives_2000_to_2249() {
    lives(2000..2250);
}

#[test]
fn lives_2250_to_2499() {
    lives(2250..2500);
}

#[test]
fn lives_2500_to_2749() {
    lives(2500..2750);
}

#[test]
fn lives_2750_to_2999() {
    lives(2750..3000);
}

#[test]
fn lives_3000_to_3249() {
    lives(3000..3250);
}

#[test]
fn lives_3250_to_3499() {
    lives(3250..3500);
}

#[test]
fn lives_3500_to_3749() {
    lives(3500..3750);
}

#[test]
fn lives_3750_to_3999() {
    lives(3750..4000);
}

#[test]
fn lives_4000_to_4249() {
    lives(4000..4250);
}

#[test]
fn lives_4250_to_4499() {
    lives(4250..4500);
}

fn lives(seeds: Range<u64>) {
    with_seeds(seeds, |seed| {
        let kinds = [NatConfig::HOME, NatConfig::SHIFTING];
        let mut pair = Pair::behind(seed, kinds[seed as usize % 2], kinds[seed as usize / 2 % 2]);
        let site = pair.world.site(pair.a);
        if seed % 3 == 0 {
            pair.world.set_loss(site, 0.01);
        }
        pair.until_direct(15 * SECOND);
        let calm = Duration::from_millis(pair.world.random(0..20_000));
        pair.world.run(calm);
        pair.traffic(SECOND / 5, 2 * MINUTE);
        pair.world.run(SECOND);
        let how = [Stop::Kill, Stop::Kill, Stop::Goodbye, Stop::PowerCut][seed as usize / 4 % 4];
        let host = if pair.world.chance(0.5) { pair.a } else { pair.b };
        pair.world.stop(host, how);
        let gone = Duration::from_millis(pair.world.random(200..8000));
        pair.world.run(gone);
        pair.world.start(host);
        pair.until_packets_pass(6 * SECOND);
        pair.until_direct(40 * SECOND);
    });
}
