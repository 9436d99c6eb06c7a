//! IP fragments: put together on arrival, made on departure.
//!
//! Peers with a kernel fragment datagrams that exceed the MTU, so `ping -s 4000` and large DNS answers arrive in
//! pieces. Overlapping pieces discard the whole packet (RFC 5722 for IPv6; nobody honest sends them in IPv4 either).

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use peerup_packet::{IpPacket, checksum};

use crate::frame::HEADER;

/// Packets in pieces at once, all peers together: 2 MiB at most.
const MAX_PARTIAL: usize = 32;
/// Pieces of one packet: 64 KiB at the smallest MTU, and some.
const MAX_PIECES: usize = 64;
/// As Linux' `ipfrag_time`.
const KEPT_FOR: Duration = Duration::from_secs(30);
const LONGEST: usize = u16::MAX as usize;

const V6_HEADER: usize = 40;
const FRAGMENT_HEADER: u8 = 44;
const MORE: u16 = 1;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    id: u32,
}

struct Piece {
    key: Key,
    /// The IP header, as it is to stand before the whole.
    header: Vec<u8>,
    offset: usize,
    more: bool,
    data_at: usize,
}

struct Partial {
    header: Option<Vec<u8>>,
    /// By offset.
    pieces: BTreeMap<usize, Vec<u8>>,
    end: Option<usize>,
    expires: Instant,
}

#[derive(Default)]
pub(crate) struct Reassembly {
    partial: BTreeMap<Key, Partial>,
}

impl Reassembly {
    /// Takes a fragment; gives the whole packet once its last piece is here.
    pub fn take(&mut self, packet: &IpPacket<'_>, now: Instant) -> Option<Vec<u8>> {
        self.partial.retain(|_, partial| partial.expires > now);
        let piece = if packet.is_ipv4() { piece_v4(packet)? } else { piece_v6(packet)? };
        let data = &packet.as_bytes()[piece.data_at..];
        let key = piece.key.clone();
        if !self.partial.contains_key(&key) && self.partial.len() >= MAX_PARTIAL {
            return None;
        }
        let fresh = || Partial { header: None, pieces: BTreeMap::new(), end: None, expires: now + KEPT_FOR };
        let partial = self.partial.entry(key.clone()).or_insert_with(fresh);
        if partial.add(piece, data).is_err() {
            self.partial.remove(&key);
            return None;
        }
        if !partial.is_whole() {
            return None;
        }
        self.partial.remove(&key)?.join()
    }
}

struct Refused;

impl Partial {
    fn add(&mut self, piece: Piece, data: &[u8]) -> Result<(), Refused> {
        let Piece { header, offset, more, .. } = piece;
        let end = offset + data.len();
        let before = self.pieces.range(..=offset).next_back().map(|(at, data)| at + data.len());
        let after = self.pieces.range(offset..).next().map(|(at, _)| *at);
        let overlaps = before.is_some_and(|before| before > offset) || after.is_some_and(|at| at < end);
        let uneven = more && !data.len().is_multiple_of(8);
        let beyond = self.end.is_some_and(|known| end > known || (!more && end != known));
        if overlaps || uneven || beyond || data.is_empty() || end > LONGEST || self.pieces.len() >= MAX_PIECES
        {
            return Err(Refused);
        }
        if !more {
            self.end = Some(end);
        }
        if offset == 0 {
            self.header = Some(header);
        }
        self.pieces.insert(offset, data.to_vec());
        Ok(())
    }

    fn is_whole(&self) -> bool {
        let have: usize = self.pieces.values().map(Vec::len).sum();
        self.header.is_some() && self.end == Some(have)
    }

    fn join(self) -> Option<Vec<u8>> {
        let mut whole = self.header?;
        let header_len = whole.len();
        for data in self.pieces.values() {
            whole.extend_from_slice(data);
        }
        let len = whole.len();
        if whole.first()? >> 4 == 4 {
            whole[2..4].copy_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
            fix_v4(&mut whole[..header_len]);
        } else {
            whole[4..6].copy_from_slice(&u16::try_from(len - V6_HEADER).ok()?.to_be_bytes());
        }
        Some(whole)
    }
}

fn piece_v4(packet: &IpPacket<'_>) -> Option<Piece> {
    let bytes = packet.as_bytes();
    let header_len = usize::from(bytes[0] & 0x0f) * 4;
    let field = u16::from_be_bytes([bytes[6], bytes[7]]);
    let mut header = bytes.get(..header_len)?.to_vec();
    header[6..8].copy_from_slice(&[0, 0]);
    Some(Piece {
        key: Key {
            source: packet.source(),
            destination: packet.destination(),
            protocol: bytes[9],
            id: u16::from_be_bytes([bytes[4], bytes[5]]).into(),
        },
        header,
        offset: usize::from(field & 0x1fff) * 8,
        more: field & 0x2000 != 0,
        data_at: header_len,
    })
}

/// Only a fragment header right behind the IPv6 header is understood: that is where every kernel puts it.
fn piece_v6(packet: &IpPacket<'_>) -> Option<Piece> {
    let bytes = packet.as_bytes();
    let fragment = bytes.get(V6_HEADER..V6_HEADER + 8).filter(|_| bytes[6] == FRAGMENT_HEADER)?;
    let field = u16::from_be_bytes([fragment[2], fragment[3]]);
    let mut header = bytes[..V6_HEADER].to_vec();
    header[6] = fragment[0];
    Some(Piece {
        key: Key {
            source: packet.source(),
            destination: packet.destination(),
            protocol: fragment[0],
            id: u32::from_be_bytes([fragment[4], fragment[5], fragment[6], fragment[7]]),
        },
        header,
        offset: usize::from(field & !7),
        more: field & MORE != 0,
        data_at: V6_HEADER + 8,
    })
}

fn fix_v4(header: &mut [u8]) {
    header[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum::internet(&[header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Hands `packet`, which has no options or extension headers, to `push` in frames that fit `mtu`.
pub(crate) fn cut(packet: &[u8], mtu: usize, id: u32, mut push: impl FnMut(Vec<u8>)) {
    let v4 = packet[0] >> 4 == 4;
    let header_len = if v4 { 20 } else { V6_HEADER };
    if packet.len() <= mtu {
        return push([&[0; HEADER][..], packet].concat());
    }
    let extra = if v4 { 0 } else { 8 };
    let size = (mtu - header_len - extra) / 8 * 8;
    let chunks = packet[header_len..].chunks(size);
    let last = chunks.len() - 1;
    for (index, chunk) in chunks.enumerate() {
        let (offset, more) = ((index * size) as u16, index < last);
        let mut frame = [&[0; HEADER][..], &packet[..header_len]].concat();
        let header = &mut frame[HEADER..];
        if v4 {
            header[2..4].copy_from_slice(&((header_len + chunk.len()) as u16).to_be_bytes());
            header[4..6].copy_from_slice(&(id as u16).to_be_bytes());
            let field = (offset / 8) | if more { 0x2000 } else { 0 };
            header[6..8].copy_from_slice(&field.to_be_bytes());
            fix_v4(header);
        } else {
            let next = std::mem::replace(&mut header[6], FRAGMENT_HEADER);
            header[4..6].copy_from_slice(&((8 + chunk.len()) as u16).to_be_bytes());
            let [high, low] = (offset | u16::from(more)).to_be_bytes();
            let [a, b, c, d] = id.to_be_bytes();
            frame.extend_from_slice(&[next, 0, high, low, a, b, c, d]);
        }
        frame.extend_from_slice(chunk);
        push(frame);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some first instant")]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    fn datagram(v6: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let ip = match v6 {
            true => PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 64),
            false => PacketBuilder::ipv4([10, 64, 0, 2], [10, 64, 0, 1], 64),
        };
        ip.udp(5000, 53).write(&mut bytes, payload).unwrap();
        // As kernels do for what may be fragmented.
        if !v6 {
            bytes[6] = 0;
            fix_v4(&mut bytes[..20]);
        }
        bytes
    }

    fn pieces(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        cut(packet, mtu, 7, |frame| all.push(frame[HEADER..].to_vec()));
        all
    }

    proptest! {
        #[test]
        fn what_is_cut_is_put_together_again_in_any_order(
            v6: bool, len in 0..20_000usize, mtu in 1280..2000usize, seed: u64,
        ) {
            let packet = datagram(v6, &vec![7; len]);
            let mut parts = pieces(&packet, mtu);
            prop_assert!(parts.iter().all(|part| part.len() <= mtu));
            if parts.len() == 1 {
                prop_assert_eq!(&parts[0], &packet);
                return Ok(());
            }
            let turn = (seed as usize) % parts.len();
            parts.rotate_left(turn);
            let (mut reassembly, now) = (Reassembly::default(), Instant::now());
            let mut whole = None;
            for part in &parts {
                prop_assert!(whole.is_none());
                whole = reassembly.take(&IpPacket::parse(part).unwrap(), now);
            }
            let mut whole = whole.unwrap();
            if !v6 {
                // The identification differs from that of a packet that never was in pieces.
                whole[4..6].copy_from_slice(&packet[4..6]);
                fix_v4(&mut whole[..20]);
            }
            prop_assert_eq!(whole, packet);
        }

        #[test]
        fn damaged_fragments_never_panic(v6: bool, at in 0..60usize, byte: u8) {
            let mut reassembly = Reassembly::default();
            for mut part in pieces(&datagram(v6, &[1; 5000]), 1380) {
                part[at] = byte;
                if let Ok(packet) = IpPacket::parse(&part) && packet.is_fragment() {
                    reassembly.take(&packet, Instant::now());
                }
            }
        }
    }

    #[test]
    fn pieces_that_overlap_discard_the_packet() {
        let parts = pieces(&datagram(false, &[1; 5000]), 1380);
        let (mut reassembly, now) = (Reassembly::default(), Instant::now());
        reassembly.take(&IpPacket::parse(&parts[0]).unwrap(), now);
        reassembly.take(&IpPacket::parse(&parts[0]).unwrap(), now);
        let rest = parts[1..].iter().filter_map(|p| reassembly.take(&IpPacket::parse(p).unwrap(), now));
        assert_eq!(rest.count(), 0);
    }

    #[test]
    fn what_never_becomes_whole_is_forgotten_and_bounded() {
        let (mut reassembly, now) = (Reassembly::default(), Instant::now());
        for id in 0..100u8 {
            let mut part = pieces(&datagram(false, &[1; 5000]), 1380).remove(0);
            part[5] = id;
            reassembly.take(&IpPacket::parse(&part).unwrap(), now);
        }
        assert_eq!(reassembly.partial.len(), MAX_PARTIAL);
        let part = pieces(&datagram(true, &[1; 5000]), 1380).remove(0);
        reassembly.take(&IpPacket::parse(&part).unwrap(), now + KEPT_FOR);
        assert_eq!(reassembly.partial.len(), 1);
    }
}
