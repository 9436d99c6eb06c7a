//! The entry for `tests/fuzz`: whatever the bytes, no call may panic.

use crate::gso::{self, VirtioNetHeader};
use crate::{IpPacket, Unreachable, clamp_mss, too_big, unreachable};

pub fn packet(bytes: &[u8]) {
    let Ok(packet) = IpPacket::parse(bytes) else {
        return;
    };
    let _ = (packet.flow_key(), packet.ports(), packet.flow_label(), packet.payload());
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
    let (mut scratch, mut total) = (Vec::new(), 0);
    let count = view.split(MTU, &mut scratch, |segment| {
        let segment = IpPacket::parse(segment).expect("a segment is a packet");
        let packet = view.packet();
        assert_eq!((segment.source(), segment.destination()), (packet.source(), packet.destination()));
        assert!(segment.as_bytes().len() <= view.segment_len());
        total += segment.as_bytes().len();
    });
    assert_eq!(count, Ok(view.segments()));
    assert!(total <= 3 * packet.len(), "no amplification");
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
