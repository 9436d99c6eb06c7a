//! The entry for `tests/fuzz`: whatever the bytes, no call may panic.

use crate::{IpPacket, Unreachable, clamp_mss, too_big, unreachable};

pub fn packet(bytes: &[u8]) {
    let Ok(packet) = IpPacket::parse(bytes) else {
        return;
    };
    let _ = (packet.flow_hash(), packet.ports(), packet.flow_label(), packet.payload());
    let from = packet.destination();
    answer(too_big(&packet, from, 1280));
    answer(unreachable(&packet, from, Unreachable::Host));
    let mut clamped = bytes.to_vec();
    clamp_mss(&mut clamped, 1280);
    assert!(!clamp_mss(&mut clamped, 1280), "clamping is idempotent");
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
