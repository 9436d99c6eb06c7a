//! Which flow a packet belongs to, as one number.

use std::net::IpAddr;

use crate::packet::IpPacket;

impl IpPacket<'_> {
    /// Equal for all packets of a flow, the same in every process and version, well spread. Addresses and
    /// protocol, and then the ports, or what IPv6 offers in their place, the flow label (RFC 6437).
    ///
    /// All fragments of one packet agree. They may disagree with the unfragmented packets of their flow, which
    /// costs order between the two at worst.
    pub fn flow_hash(&self) -> u64 {
        let detail = match self.ports() {
            Some(ports) => u64::from(ports.source) << 16 | u64::from(ports.destination),
            None => u64::from(self.flow_label().unwrap_or(0)) << 32,
        };
        let addresses = [self.source(), self.destination()].into_iter().flat_map(words);
        let all = addresses.chain([u64::from(self.protocol()), detail]);
        all.fold(0, |hash, word| mix(hash ^ word))
    }
}

fn words(addr: IpAddr) -> [u64; 2] {
    let bits = match addr {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn hash(bytes: &[u8]) -> u64 {
        IpPacket::parse(bytes).unwrap().flow_hash()
    }

    fn with_source_port(mut bytes: Vec<u8>, at: usize, port: u16) -> Vec<u8> {
        bytes[at..at + 2].copy_from_slice(&port.to_be_bytes());
        bytes
    }

    #[test]
    fn the_payload_does_not_matter_and_the_ports_do() {
        assert_eq!(hash(&udp4(b"a")), hash(&udp4(b"bcd")));
        assert_ne!(hash(&udp4(b"a")), hash(&with_source_port(udp4(b"a"), 20, 5001)));
        assert_eq!(hash(&udp6(b"a")), hash(&udp6(b"bcd")));
        assert_ne!(hash(&udp6(b"a")), hash(&with_source_port(udp6(b"a"), 40, 5001)));
    }

    #[test]
    fn the_hash_is_the_same_in_every_process() {
        assert_eq!(hash(&udp4(b"")), 0xdd0e_406c_5b57_24a8);
        assert_eq!(hash(&udp6(b"")), 0x2f66_1e82_8b32_9f43);
    }

    #[test]
    fn all_fragments_of_a_packet_agree() {
        let fragment = |flags_and_offset: u16| {
            let mut bytes = with_source_port(udp4(b"hello"), 20, flags_and_offset);
            bytes[6..8].copy_from_slice(&flags_and_offset.to_be_bytes());
            hash(&bytes)
        };
        assert_eq!(fragment(0x2000), fragment(0x2010));
        assert_eq!(fragment(0x2000), fragment(0x0020));
    }

    #[test]
    fn where_there_are_no_ports_the_flow_label_tells_flows_apart() {
        let mut labelled = icmp_echo6();
        labelled[3] = 7;
        assert_ne!(hash(&labelled), hash(&icmp_echo6()));
    }

    #[test]
    fn flows_spread_evenly_over_eight_lanes() {
        let mut lanes = [0; 8];
        for port in 0..8000 {
            lanes[(hash(&with_source_port(udp4(b""), 20, port)) % 8) as usize] += 1;
        }
        assert!(lanes.iter().all(|flows| (900..1100).contains(flows)), "{lanes:?}");
    }
}
