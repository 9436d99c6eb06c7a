//! What a packet's way through the queue costs: in and out of the fair queue, and through a lane into a batch.

#![expect(clippy::disallowed_methods, reason = "a measurement needs some instant")]

use std::time::Instant;

use divan::{Bencher, counter::BytesCount};
use peerup_lane::{FairQueue, Far, Form, Lane, Limits};
use peerup_packet::FlowKey;
use peerup_types::PathId;
use peerup_wire::frame::FrameWriter;

const FLOWS: [u64; 2] = [1, 1_000];
const LENGTHS: [usize; 3] = [64, 1_400, 64 * 1024];

fn main() {
    divan::main();
}

/// One packet in and one out, beside two packets that wait in each flow. Bodies are handed on and not copied.
#[divan::bench(args = FLOWS, consts = LENGTHS)]
fn fair_queue<const LENGTH: usize>(bencher: Bencher<'_, '_>, flows: u64) {
    let now = Instant::now();
    let limits = Limits { bytes: usize::MAX, ..Limits::default() };
    let mut queue = FairQueue::new(limits, 1);
    for n in 0..2 * flows {
        queue.push(FlowKey::new(n % flows), Form::Plain, vec![0; LENGTH], now);
    }
    let (mut flow, mut body) = (0, vec![0; LENGTH]);
    bencher.bench_local(|| {
        flow = (flow + 1) % flows;
        queue.push(FlowKey::new(flow), Form::Plain, std::mem::take(&mut body), now);
        body = queue.pop(now).expect("packets wait").0.body;
    });
}

/// A batch of packets copied in, framed and kept until it is acknowledged, per batch.
#[divan::bench(args = FLOWS, consts = LENGTHS)]
fn lane<const LENGTH: usize>(bencher: Bencher<'_, '_>, flows: u64) {
    let now = Instant::now();
    let far = Far { supers: true, acks: true, mtu: 1380 };
    let (mut lane, mut writer, body) = (Lane::new(1), FrameWriter::new(), vec![0; LENGTH]);
    lane.switch(Some(PathId(1)), now);
    let batch = (64 * 1024 / LENGTH).max(1);
    let mut flow = 0;
    bencher.counter(BytesCount::new(batch * LENGTH)).bench_local(|| {
        for _ in 0..batch {
            flow = (flow + 1) % flows;
            lane.push(FlowKey::new(flow), Form::Plain, &body, now);
        }
        while !lane.is_empty() {
            writer.clear();
            lane.drain_into(&mut writer, far, now);
        }
    });
}
