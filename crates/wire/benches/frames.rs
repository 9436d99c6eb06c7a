//! What framing costs: packets and super-packets into a batch and out of what was read.

use divan::{Bencher, black_box, counter::BytesCount};
use peerup_wire::frame::{BATCH_LEN, Deframer, FrameWriter, SuperPacket, VirtioNetHeader};

const LENGTHS: [usize; 2] = [64, 1_400];
const SUPER: usize = 64 * 1024 - 1;

fn main() {
    divan::main();
}

fn packets(writer: &mut FrameWriter, packet: &[u8]) {
    writer.clear();
    for seq in 0.. {
        if writer.is_full() {
            break;
        }
        writer.push_packet(seq, packet).expect("a packet fits a frame");
    }
}

fn super_packet(writer: &mut FrameWriter, packet: &[u8]) {
    writer.clear();
    writer.push_super_packet(1, &VirtioNetHeader::default(), packet).expect("a super-packet fits a frame");
}

/// A batch of packets of one length.
#[divan::bench(args = LENGTHS)]
fn write(bencher: Bencher<'_, '_>, length: usize) {
    let (mut writer, packet) = (FrameWriter::new(), vec![0; length]);
    bencher.counter(BytesCount::new(BATCH_LEN)).bench_local(|| packets(&mut writer, black_box(&packet)));
}

#[divan::bench]
fn write_super(bencher: Bencher<'_, '_>) {
    let (mut writer, packet) = (FrameWriter::new(), vec![0; SUPER]);
    bencher.counter(BytesCount::new(SUPER)).bench_local(|| super_packet(&mut writer, black_box(&packet)));
}

/// All frames of a batch, the copy that stands for the read included.
#[divan::bench(args = LENGTHS)]
fn parse(bencher: Bencher<'_, '_>, length: usize) {
    let (mut writer, mut deframer) = (FrameWriter::new(), Deframer::default());
    packets(&mut writer, &vec![0; length]);
    bencher.counter(BytesCount::new(BATCH_LEN)).bench_local(|| read(&mut deframer, writer.as_bytes()));
}

#[divan::bench]
fn parse_super(bencher: Bencher<'_, '_>) {
    let (mut writer, mut deframer) = (FrameWriter::new(), Deframer::default());
    super_packet(&mut writer, &vec![0; SUPER]);
    bencher.counter(BytesCount::new(SUPER)).bench_local(|| read(&mut deframer, writer.as_bytes()));
}

fn read(deframer: &mut Deframer, batch: &[u8]) -> usize {
    deframer.space()[..batch.len()].copy_from_slice(batch);
    deframer.filled(batch.len());
    let mut bytes = 0;
    while let Some(frame) = deframer.next_frame().expect("just written") {
        bytes += SuperPacket::parse(frame.body).map_or(0, |packet| packet.packet.len());
    }
    bytes
}
