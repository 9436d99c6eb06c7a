//! What it costs to find the peer of an address, among prefixes of 1,000 peers.
//!
//! Each lookup waits for the one before it, so that the figure is the time one takes and not how many overlap. Addresses are
//! drawn at random from prefixes that are drawn at random; there are more of them than the largest table has prefixes. A sample
//! is a hundred thousand lookups, as a router has traffic: in samples of a few the table would have left the cache between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use divan::{Bencher, black_box};
use ipnet::IpNet;
use peerup_router::{OverlayRange, PeerIndex, Reachability, RoutingTable};
use peerup_types::{Keypair, OverlayAddrs};

const PEERS: usize = 1000;
const KEYS: usize = 1 << 18;
const SAMPLE: u32 = 100_000;
const SIZES: [usize; 3] = [10, 1_000, 100_000];

fn main() {
    divan::main();
}

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    fn v4(&mut self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.next() as u32)
    }

    fn v6(&mut self) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::from(self.next()) << 64 | u128::from(self.next()))
    }

    fn among(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }
}

/// A table of `count` prefixes that `prefix` draws, and addresses inside them.
fn table(count: usize, mut prefix: impl FnMut(&mut Random) -> IpNet) -> (RoutingTable, Vec<IpAddr>) {
    let mut random = Random(count as u64);
    let own =
        OverlayAddrs { v4: Some([10, 0, 0, 1].into()), v6: "fd12:3456:789a::1".parse().expect("an address") };
    let overlay = OverlayRange {
        v4: "10.0.0.0/8".parse().expect("a prefix"),
        v6: "fd12:3456:789a::/48".parse().expect("a prefix"),
    };
    let mut builder = RoutingTable::builder(own, overlay, 1380);
    let peers: Vec<PeerIndex> = (0..PEERS.min(count))
        .map(|n| {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&(n as u64).to_be_bytes());
            let key = Keypair::ed25519_from_bytes(seed).expect("32 bytes are a key");
            builder.add_peer(key.public().to_peer_id(), Reachability::Online).expect("there is room")
        })
        .collect();
    let mut prefixes = Vec::new();
    while prefixes.len() < count {
        let prefix = prefix(&mut random);
        // Taken ones, multicast and this node's own are drawn again.
        if builder.add_prefix(peers[prefixes.len() % peers.len()], prefix).is_ok() {
            prefixes.push(prefix);
        }
    }
    let keys = (0..KEYS).map(|_| inside(prefixes[random.among(count)], &mut random)).collect();
    (builder.build(), keys)
}

fn inside(prefix: IpNet, random: &mut Random) -> IpAddr {
    match prefix {
        IpNet::V4(net) => (net.network() | (random.v4() & net.hostmask())).into(),
        IpNet::V6(net) => (net.network() | (random.v6() & net.hostmask())).into(),
    }
}

fn bench(bencher: Bencher<'_, '_>, (table, keys): (RoutingTable, Vec<IpAddr>)) {
    let mut at = 0;
    bencher.bench_local(|| {
        let owner = table.owner(*black_box(&keys[at]));
        at = (at + 1 + usize::from(owner.is_none())) % KEYS;
        owner
    });
}

/// Addresses of peers in the overlay, most of an IPv4 network of 24 bits in the largest case.
#[divan::bench(args = SIZES, sample_size = SAMPLE)]
fn hosts_v4(bencher: Bencher<'_, '_>, count: usize) {
    bench(
        bencher,
        table(count, |random| {
            let [_, b, c, d] = random.v4().octets();
            IpNet::new([10, b, c, d].into(), 32).expect("a length")
        }),
    );
}

/// Addresses of peers in the overlay, each one anywhere in it.
#[divan::bench(args = SIZES, sample_size = SAMPLE)]
fn hosts_v6(bencher: Bencher<'_, '_>, count: usize) {
    bench(
        bencher,
        table(count, |random| {
            let host = random.v6().to_bits() >> 48 | 0xfd12_3456_789a << 80;
            IpNet::new(Ipv6Addr::from_bits(host).into(), 128).expect("a length")
        }),
    );
}

/// Subnets behind peers, of 12 to 28 bits.
#[divan::bench(args = SIZES, sample_size = SAMPLE)]
fn subnets_v4(bencher: Bencher<'_, '_>, count: usize) {
    bench(
        bencher,
        table(count, |random| {
            let len = 12 + (random.next() % 17) as u8;
            IpNet::new(random.v4().into(), len).expect("a length").trunc()
        }),
    );
}

/// Subnets behind peers, of 32 to 64 bits in the addresses that are given out.
#[divan::bench(args = SIZES, sample_size = SAMPLE)]
fn subnets_v6(bencher: Bencher<'_, '_>, count: usize) {
    bench(
        bencher,
        table(count, |random| {
            let len = 32 + (random.next() % 33) as u8;
            let addr = random.v6().to_bits() >> 3 | 0x2000 << 112;
            IpNet::new(Ipv6Addr::from_bits(addr).into(), len).expect("a length").trunc()
        }),
    );
}
