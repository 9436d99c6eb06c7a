//! Whole IP packets of our own.

use std::net::{IpAddr, SocketAddr};

use peerup_packet::{checksum, protocol};

const HOP_LIMIT: u8 = 64;
const UDP_HEADER: usize = 8;

/// An IP packet around `body`; `None` for addresses of two families, or too much of it.
pub(crate) fn ip(from: IpAddr, to: IpAddr, protocol: u8, body: &[u8]) -> Option<Vec<u8>> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = [0; 20];
            header[0] = 0x45;
            header[2..4].copy_from_slice(&u16::try_from(20 + body.len()).ok()?.to_be_bytes());
            header[8] = HOP_LIMIT;
            header[9] = protocol;
            header[12..16].copy_from_slice(&from.octets());
            header[16..20].copy_from_slice(&to.octets());
            let sum = checksum::internet(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            Some([&header[..], body].concat())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = [0; 40];
            header[0] = 0x60;
            header[4..6].copy_from_slice(&u16::try_from(body.len()).ok()?.to_be_bytes());
            header[6] = protocol;
            header[7] = HOP_LIMIT;
            header[8..24].copy_from_slice(&from.octets());
            header[24..40].copy_from_slice(&to.octets());
            Some([&header[..], body].concat())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

/// A UDP datagram in an IP packet.
pub(crate) fn udp(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(UDP_HEADER + data.len()).ok()?;
    let mut header = [0; UDP_HEADER];
    header[..2].copy_from_slice(&from.port().to_be_bytes());
    header[2..4].copy_from_slice(&to.port().to_be_bytes());
    header[4..6].copy_from_slice(&len.to_be_bytes());
    let pseudo = checksum::pseudo_header(from.ip(), to.ip(), protocol::UDP, usize::from(len));
    let sum = checksum::internet(&[&pseudo.to_be_bytes(), &header, data]);
    // RFC 768: zero means "no checksum".
    let sum = if sum == 0 { 0xffff } else { sum };
    header[6..8].copy_from_slice(&sum.to_be_bytes());
    ip(from.ip(), to.ip(), protocol::UDP, &[&header[..], data].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    #[test]
    fn datagrams_are_those_that_etherparse_makes() {
        let mut expected = Vec::new();
        PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 64).udp(53, 5000).write(&mut expected, b"odd").unwrap();
        let addr = |byte: u8, port: u16| SocketAddr::from(([byte; 16], port));
        assert_eq!(udp(addr(0xfd, 53), addr(0xfe, 5000), b"odd").unwrap(), expected);
        let mut expected = Vec::new();
        PacketBuilder::ipv4([10, 64, 0, 1], [10, 64, 0, 2], 64)
            .udp(53, 5000)
            .write(&mut expected, b"odd")
            .unwrap();
        // etherparse forbids fragmentation; what is sent here may be fragmented.
        expected[6] = 0;
        expected[10..12].copy_from_slice(&[0, 0]);
        let sum = checksum::internet(&[&expected[..20]]);
        expected[10..12].copy_from_slice(&sum.to_be_bytes());
        let addr = |last: u8, port: u16| SocketAddr::from(([10, 64, 0, last], port));
        assert_eq!(udp(addr(1, 53), addr(2, 5000), b"odd").unwrap(), expected);
    }
}
