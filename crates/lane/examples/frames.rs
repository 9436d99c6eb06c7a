//! What acknowledgements and order cost: frames through a lane, the writer, the deframer and the receiving side, without
//! a carrier and without a host.
//!
//! ```text
//! cargo run --release -p peerup-lane --example frames -- acks|plain LENGTH MIB
//! ```
//! Compare the processor time of two runs, interleaved; both move the same bytes through the same buffers.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "an example reports")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::time::Instant;

use peerup_lane::{Arrival, Far, Form, Inbound, Lane};
use peerup_packet::FlowKey;
use peerup_types::PathId;
use peerup_wire::frame::{Announce, Deframer, FrameKind, FrameWriter};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [mode, length, mib] = words.as_slice() else {
        println!("frames acks|plain LENGTH MIB");
        return;
    };
    let (acks, Ok(length), Ok(mib)) = (mode == "acks", length.parse::<usize>(), mib.parse::<usize>()) else {
        println!("LENGTH and MIB are numbers");
        return;
    };
    let frames = (mib << 20) / length;
    let started = Instant::now();
    let delivered = run(acks, length, frames);
    println!("{delivered} frames of {length} bytes in {:?}", started.elapsed());
}

/// Batches as a busy host makes them: a few frames are queued, one batch is written, read and delivered.
fn run(acks: bool, length: usize, frames: usize) -> usize {
    let far = Far { supers: true, acks, mtu: 1380 };
    let (mut lane, mut inbound) = (Lane::new(1), Inbound::default());
    let (mut writer, mut deframer) = (FrameWriter::new(), Deframer::default());
    let body = vec![0; length];
    let (mut queued, mut delivered, mut checksum) = (0, 0, 0u64);
    lane.switch(Some(PathId(1)), Instant::now());
    while delivered < frames {
        let now = Instant::now();
        for _ in 0..(64 * 1024 / length).max(1).min(frames - queued) {
            lane.push(FlowKey::default(), Form::Plain, &body, now);
            queued += 1;
        }
        writer.clear();
        lane.drain_into(&mut writer, far, now);
        let batch = writer.as_bytes();
        deframer.space()[..batch.len()].copy_from_slice(batch);
        deframer.filled(batch.len());
        while let Ok(Some(frame)) = deframer.next_frame() {
            match frame.kind {
                FrameKind::Announce => {
                    inbound.announced(Announce::parse(frame.body).expect("just written"), now)
                }
                _ if acks && inbound.receive(frame.seq, frame.kind, frame.body, now) != Arrival::Deliver => {}
                _ => {
                    checksum += frame.body.len() as u64;
                    delivered += 1;
                }
            }
            if acks {
                assert_eq!(inbound.pop_ready(now), None, "nothing overtakes here");
            }
        }
        // As it rides back with the other direction's packets.
        if let Some(ack) = inbound.take_ack(now) {
            lane.acknowledge(ack, now);
        }
    }
    assert_eq!(checksum, (frames * length) as u64);
    delivered
}
