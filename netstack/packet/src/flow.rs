//! Which flow a packet belongs to, as one number.

use std::net::IpAddr;

use crate::packet::{IpPacket, protocol};

/// Stands for the protocol of IPv6 fragments: only the first one says what is behind all extension headers.
const IPV6_FRAGMENT: u8 = 44;

/// Equal for all packets of a flow in one direction, the same in every process and version, well spread in all its bits.
///
/// Whoever sorts flows into few places on behalf of strangers mixes a secret in ([`FlowKey::seeded`]); the key by itself
/// can be aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FlowKey(u64);

impl FlowKey {
    pub const fn new(key: u64) -> Self {
        Self(key)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// As good as independent of the key to whoever does not know `seed`.
    pub fn seeded(self, seed: u64) -> u64 {
        mix(self.0 ^ mix(seed))
    }
}

impl IpPacket<'_> {
    /// Addresses and protocol, and then what tells flows apart: ports, the identifier of an echo, or what IPv6 offers in
    /// their place, the flow label (RFC 6437). ESP, GRE and the like are one flow for each pair of addresses.
    ///
    /// All fragments of one packet agree. They may disagree with the unfragmented packets of their flow, which
    /// costs order between the two at worst.
    pub fn flow_key(&self) -> FlowKey {
        let detail = match (self.ports(), self.echo_identifier()) {
            (Some(ports), _) => u64::from(ports.source) << 16 | u64::from(ports.destination),
            (None, Some(identifier)) => u64::from(identifier),
            (None, None) => u64::from(self.flow_label().unwrap_or(0)) << 32,
        };
        let protocol = match self.is_fragment() && !self.is_ipv4() {
            true => IPV6_FRAGMENT,
            false => self.protocol(),
        };
        let addresses = [self.source(), self.destination()].into_iter().flat_map(words);
        let all = addresses.chain([u64::from(protocol), detail]);
        FlowKey(all.fold(0, |hash, word| mix(hash ^ word)))
    }

    /// What tells one `ping` from another (RFC 792, RFC 4443 §4).
    fn echo_identifier(&self) -> Option<u16> {
        let [kind, _, _, _, high, low] = *self.payload().first_chunk()?;
        let echo = match self.protocol() {
            protocol::ICMP => matches!(kind, 0 | 8),
            protocol::ICMPV6 => matches!(kind, 128 | 129),
            _ => false,
        };
        (echo && !self.is_fragment()).then_some(u16::from_be_bytes([high, low]))
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
        IpPacket::parse(bytes).unwrap().flow_key().get()
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
        let mut esp = udp6(b"hello");
        esp[6] = 50;
        let mut labelled = esp.clone();
        labelled[3] = 7;
        assert_ne!(hash(&labelled), hash(&esp));
        // With ports the label says nothing: Linux changes it when a path seems dead.
        let mut labelled = udp6(b"hello");
        labelled[3] = 7;
        assert_eq!(hash(&labelled), hash(&udp6(b"hello")));
    }

    #[test]
    fn two_pings_are_two_flows_and_the_packets_of_one_are_one() {
        for (echo, at) in [(icmp_echo4(), 24), (icmp_echo6(), 44)] {
            let with = |offset: usize| {
                let mut bytes = echo.clone();
                bytes[at + offset] ^= 1;
                hash(&bytes)
            };
            let (identifier, sequence) = (1, 3);
            assert_ne!(with(identifier), hash(&echo));
            assert_eq!(with(sequence), hash(&echo));
        }
    }

    #[test]
    fn fragments_agree_also_where_only_the_first_shows_what_is_behind_its_options() {
        let chain = |offset: u16, more: bool| {
            let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
            let options = [protocol::UDP, 0, 1, 4, 0, 0, 0, 0];
            let fragment = [60, 0, high, low, 0, 0, 0, 1];
            hash(&udp6_behind(44, &[&fragment[..], &options].concat()))
        };
        assert_eq!(chain(0, true), chain(9, false));
    }

    #[test]
    fn a_seed_moves_every_flow() {
        let key = IpPacket::parse(&udp4(b"")).unwrap().flow_key();
        assert_eq!(key.seeded(1), key.seeded(1));
        assert_ne!(key.seeded(1), key.seeded(2));
        assert_ne!(key.seeded(1), FlowKey::new(key.get() ^ 1).seeded(1));
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
