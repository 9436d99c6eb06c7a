//! What looking at a packet costs: its checks, its flow, its checksums, a mark.

use divan::{Bencher, black_box, counter::BytesCount};
use etherparse::PacketBuilder;
use peerup_packet::{
    IpPacket, checksum,
    gso::{self, VirtioNetHeader},
    mark_congestion,
};

const LENGTHS: [usize; 4] = [20, 64, 1_400, 64 * 1024];

fn main() {
    divan::main();
}

#[divan::bench(args = LENGTHS)]
fn internet_checksum(bencher: Bencher<'_, '_>, length: usize) {
    let bytes = vec![0x5a; length];
    bencher.counter(BytesCount::new(length)).bench_local(|| checksum::internet(&[black_box(&bytes)]));
}

fn tcp(v6: bool, payload: usize) -> Vec<u8> {
    let ip = match v6 {
        true => PacketBuilder::ipv6([0xfd; 16], [0xfc; 16], 64),
        false => PacketBuilder::ipv4([10, 64, 0, 1], [10, 64, 0, 2], 64),
    };
    let mut bytes = Vec::new();
    ip.tcp(40_000, 22, 1, 64_240).ack(7).write(&mut bytes, &vec![0; payload]).expect("a packet");
    bytes
}

/// The checks that stand before everything, and then the flow.
#[divan::bench(args = [false, true])]
fn parse_and_flow_key(bencher: Bencher<'_, '_>, v6: bool) {
    let bytes = tcp(v6, 1_340);
    bencher.bench_local(|| IpPacket::parse(black_box(&bytes)).map(|packet| packet.flow_key()));
}

#[divan::bench(args = [false, true])]
fn validate_super_packet(bencher: Bencher<'_, '_>, v6: bool) {
    let bytes = tcp(v6, 60_000);
    let headers = if v6 { 60 } else { 40 };
    let header = VirtioNetHeader {
        flags: 1,
        gso_type: if v6 { 4 } else { 1 },
        hdr_len: headers,
        gso_size: 1_340,
        csum_start: headers - 20,
        csum_offset: 16,
    };
    assert!(gso::validate(header, &bytes, 1_400).is_ok(), "it is the good case that counts");
    bencher.bench_local(|| {
        gso::validate(black_box(header), black_box(&bytes), 1_400).map(|view| view.segments())
    });
}

#[divan::bench]
fn mark(bencher: Bencher<'_, '_>) {
    let mut bytes = tcp(false, 1_340);
    bytes[1] = 2;
    bencher.bench_local(|| mark_congestion(black_box(&mut bytes)));
}
