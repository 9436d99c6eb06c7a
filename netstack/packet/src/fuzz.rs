//! The entry for `tests/fuzz`: whatever the bytes, no call may panic.

use crate::gso::{self, Merged, Merger, VirtioNetHeader};
use crate::{IpPacket, Unreachable, checksum, clamp_mss, mark_congestion, too_big, unreachable};

pub fn packet(bytes: &[u8]) {
    let Ok(packet) = IpPacket::parse(bytes) else {
        return;
    };
    let _ = (packet.ports(), packet.flow_label(), packet.payload(), packet.is_source_routed());
    marked(&packet);
    let from = packet.destination();
    answer(too_big(&packet, from, 1280));
    answer(unreachable(&packet, from, Unreachable::Host));
    let mut clamped = bytes.to_vec();
    clamp_mss(&mut clamped, 1280);
    assert!(!clamp_mss(&mut clamped, 1280), "clamping is idempotent");
}

/// A virtio header and the packet behind it.
pub fn super_packet(bytes: &[u8]) {
    const MTU: usize = 1280;
    let Some((header, packet)) = bytes.split_first_chunk() else {
        return;
    };
    let header = VirtioNetHeader::parse(header);
    let mut changed = packet.to_vec();
    gso::clamp_mss(header, &mut changed, MTU as u16);
    let _ = gso::complete_checksum(header, &mut changed);
    let Ok(view) = gso::validate(header, packet, MTU) else {
        return;
    };
    if marked(view.packet()) {
        changed.clear();
        changed.extend_from_slice(packet);
        mark_congestion(&mut changed);
        assert_eq!(gso::validate(header, &changed, MTU).map(|view| view.header()), Ok(view.header()));
    }
    let (mut scratch, mut total) = (Vec::new(), 0);
    let count = view.split(MTU, &mut scratch, |segment| {
        let segment = IpPacket::parse(segment).expect("a segment is a packet");
        let packet = view.packet();
        assert_eq!((segment.source(), segment.destination()), (packet.source(), packet.destination()));
        assert_eq!(segment.flow_key(), packet.flow_key());
        assert_eq!(segment.is_source_routed(), packet.is_source_routed());
        assert!(segment.as_bytes().len() <= view.segment_len());
        total += segment.as_bytes().len();
    });
    assert_eq!(count, Ok(view.segments()));
    assert!(total <= 3 * packet.len(), "no amplification");
}

/// Packets, each behind its length in two bytes: what is put together and cut again is what came.
pub fn merge(mut bytes: &[u8]) {
    let mut packets = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (packet, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        if IpPacket::parse(packet).is_ok() {
            packets.push(packet.to_vec());
        }
        bytes = rest;
    }
    let frames = written(&packets);
    assert!(frames.len() <= packets.len());
    let essences = |packets: Vec<Vec<u8>>| packets.into_iter().map(essence).collect::<Vec<_>>();
    assert_eq!(essences(received(&frames)), essences(packets));
}

/// The frames that a tunnel's end writes to a device with offload.
pub(crate) fn written(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (mut merger, mut frames) = (Merger::default(), Vec::new());
    let plain = |packet: &[u8]| [&VirtioNetHeader::default().emit(), packet].concat();
    let flush = |merger: &mut Merger, frames: &mut Vec<Vec<u8>>| {
        match merger.finish() {
            Merged::Nothing => {}
            Merged::Packet(packet) => frames.push(plain(packet)),
            Merged::Frame(frame) => frames.push(frame.to_vec()),
        }
        merger.clear();
    };
    for bytes in packets {
        let packet = IpPacket::parse(bytes).expect("only packets are written");
        if !merger.offer(&packet) {
            flush(&mut merger, &mut frames);
            if !merger.offer(&packet) {
                frames.push(plain(bytes));
            }
        }
    }
    flush(&mut merger, &mut frames);
    frames
}

/// The packets that a host gets of them.
pub(crate) fn received(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let packets = |frame: &Vec<u8>| {
        let (header, packet) = frame.split_first_chunk().expect("a frame begins with a header");
        cut(&VirtioNetHeader::parse(header), packet)
    };
    frames.iter().flat_map(packets).collect()
}

pub(crate) fn cut(header: &VirtioNetHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let mut segments = Vec::new();
    let view = gso::validate(*header, packet, usize::MAX).expect("what is written is sound");
    let count = view.split(usize::MAX, &mut Vec::new(), |segment| segments.push(segment.to_vec()));
    assert_eq!(count, Ok(segments.len()));
    segments
}

/// A packet without what means nothing: the identification where fragmentation is forbidden, and the sum over it.
pub(crate) fn essence(mut packet: Vec<u8>) -> Vec<u8> {
    const DONT_FRAGMENT: u8 = 0x40;
    if packet[0] >> 4 == 4 && packet[6] & DONT_FRAGMENT != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

/// A mark changes neither what a packet is nor whether its header adds up. Whether there is one.
fn marked(packet: &IpPacket<'_>) -> bool {
    let mut bytes = packet.as_bytes().to_vec();
    if !mark_congestion(&mut bytes) {
        assert_eq!(bytes, packet.as_bytes());
        return false;
    }
    let after = IpPacket::parse(&bytes).expect("a marked packet is a packet");
    assert_eq!((after.flow_key(), after.ports()), (packet.flow_key(), packet.ports()));
    assert_eq!(after.payload(), packet.payload());
    if packet.is_ipv4() {
        // Both forms of zero are right, and a header that did not add up still does not.
        let adds_up = |packet: &IpPacket<'_>| {
            let header = packet.as_bytes().len() - packet.payload().len();
            matches!(checksum::internet(&[&packet.as_bytes()[..header]]), 0 | 0xffff)
        };
        assert_eq!(adds_up(packet), adds_up(&after));
    }
    let once = bytes.clone();
    assert!(mark_congestion(&mut bytes));
    assert_eq!(bytes, once, "marking is idempotent");
    true
}

fn answer(bytes: Option<Vec<u8>>) {
    let Some(bytes) = bytes else {
        return;
    };
    let answer = IpPacket::parse(&bytes).expect("an ICMP answer is a packet");
    assert!(
        unreachable(&answer, answer.destination(), Unreachable::Host).is_none(),
        "no error about an error"
    );
}
