//! Pairing codes: everything a new machine needs to reach its inviter, in one line of text.
//!
//! ```text
//! version 1, invite (peer to peer)             version 2, pairing (through a relay's group)
//!   01                                           02
//!   token                8                       token                16
//!   relay IPv4 address   4                       relay IPv4 address    4
//!   relay TCP port       2  big endian           relay TCP port        2  big endian
//!   relay ID length      1                       relay ID length       1
//!   relay ID                multihash            relay ID                 multihash
//!   network name length  1  0: none, at most 63  network name length   1
//!   network name                                 network name
//!   inviter ID              the rest, multihash
//! ```
//!
//! The text is RFC 4648 base32, upper case, no padding, a `-` after every fourth character. Readers drop
//! dashes and white space and ignore case, because people retype codes. Base32 is no checksum: a mistyped
//! token fails in the handshake, not here.

use std::net::{Ipv4Addr, SocketAddrV4};

use data_encoding::BASE32_NOPAD;
use peerup_types::{DnsLabel, Multiaddr, PeerId, Protocol};
use zeroize::Zeroizing;

use crate::{peer::peer_from_bytes, token::Token};

const INVITE_VERSION: u8 = 1;
const PAIRING_VERSION: u8 = 2;

/// Up to here a code begins with an `A`. Other text is something else that happens to be base32.
const MAX_VERSION: u8 = 7;
/// A token and two ways to name a relay take more than this in any version.
const MIN_BYTES: usize = 24;

/// Longer than any valid code with a dash or space between all characters.
const MAX_TEXT: usize = 1024;

/// A code of `peerup invite`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteCode {
    pub token: Token<8>,
    pub relay_address: SocketAddrV4,
    pub relay: PeerId,
    pub network: Option<DnsLabel>,
    pub inviter: PeerId,
}

/// A code of `peerup relay pair`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairingCode {
    pub token: Token<16>,
    pub relay_address: SocketAddrV4,
    pub relay: PeerId,
    pub network: Option<DnsLabel>,
}

/// Whatever kind of code somebody typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    Invite(InviteCode),
    Pairing(PairingCode),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    #[error("the code is empty")]
    Empty,
    #[error("a code of {0} characters is too long")]
    TooLong(usize),
    #[error(
        "this is not an invite code: it contains something that is not a letter A-Z or a digit 2-7, or its end is cut off"
    )]
    Base32(#[source] data_encoding::DecodeError),
    #[error("this is not an invite code")]
    NotACode,
    #[error("codes of version 0 are not supported")]
    VersionZero,
    #[error("the code has version {0}, this peerup reads versions 1 and 2: please upgrade")]
    NewerVersion(u8),
    #[error("the code ends within the {0}: it is not complete")]
    Truncated(&'static str),
    #[error("the code has {0} bytes too many")]
    TrailingBytes(usize),
    #[error("the {0} in the code is not a peer ID")]
    InvalidPeerId(&'static str),
    #[error("the network name in the code is not a DNS label")]
    InvalidNetwork,
}

impl InviteCode {
    pub fn encode(&self) -> String {
        let mut bytes = Zeroizing::new(vec![INVITE_VERSION]);
        bytes.extend_from_slice(self.token.as_bytes());
        put_relay(&mut bytes, self.relay_address, &self.relay);
        put_network(&mut bytes, self.network.as_ref());
        bytes.extend_from_slice(&self.inviter.to_bytes());
        to_text(&bytes)
    }

    /// The relay's address in libp2p's notation.
    pub fn relay_multiaddr(&self) -> Multiaddr {
        relay_multiaddr(self.relay_address, self.relay)
    }

    fn decode(mut reader: Reader<'_>) -> Result<Self, CodeError> {
        let token = Token::new(*reader.take("token")?);
        let (relay_address, relay) = reader.take_relay()?;
        let network = reader.take_network()?;
        let inviter = match reader.0 {
            [] => return Err(CodeError::Truncated("inviter ID")),
            rest => peer_from_bytes(rest).ok_or(CodeError::InvalidPeerId("inviter ID"))?,
        };
        Ok(Self { token, relay_address, relay, network, inviter })
    }
}

impl PairingCode {
    pub fn encode(&self) -> String {
        let mut bytes = Zeroizing::new(vec![PAIRING_VERSION]);
        bytes.extend_from_slice(self.token.as_bytes());
        put_relay(&mut bytes, self.relay_address, &self.relay);
        put_network(&mut bytes, self.network.as_ref());
        to_text(&bytes)
    }

    /// The relay's address in libp2p's notation.
    pub fn relay_multiaddr(&self) -> Multiaddr {
        relay_multiaddr(self.relay_address, self.relay)
    }

    fn decode(mut reader: Reader<'_>) -> Result<Self, CodeError> {
        let token = Token::new(*reader.take("token")?);
        let (relay_address, relay) = reader.take_relay()?;
        let network = reader.take_network()?;
        match reader.0.len() {
            0 => Ok(Self { token, relay_address, relay, network }),
            extra => Err(CodeError::TrailingBytes(extra)),
        }
    }
}

impl Code {
    pub fn decode(text: &str) -> Result<Self, CodeError> {
        let bytes = from_text(text)?;
        let (version, body) = bytes.split_first().ok_or(CodeError::Empty)?;
        match *version {
            0 => Err(CodeError::VersionZero),
            INVITE_VERSION => InviteCode::decode(Reader(body)).map(Self::Invite),
            PAIRING_VERSION => PairingCode::decode(Reader(body)).map(Self::Pairing),
            newer if newer <= MAX_VERSION && bytes.len() >= MIN_BYTES => Err(CodeError::NewerVersion(newer)),
            _ => Err(CodeError::NotACode),
        }
    }
}

fn relay_multiaddr(address: SocketAddrV4, relay: PeerId) -> Multiaddr {
    Multiaddr::from(*address.ip()).with(Protocol::Tcp(address.port())).with(Protocol::P2p(relay))
}

fn put_relay(bytes: &mut Vec<u8>, address: SocketAddrV4, relay: &PeerId) {
    let relay = relay.to_bytes();
    bytes.extend_from_slice(&address.ip().octets());
    bytes.extend_from_slice(&address.port().to_be_bytes());
    bytes.push(u8::try_from(relay.len()).expect("a peer ID has at most 66 bytes"));
    bytes.extend_from_slice(&relay);
}

fn put_network(bytes: &mut Vec<u8>, network: Option<&DnsLabel>) {
    let name = network.map_or("", DnsLabel::as_str);
    bytes.push(u8::try_from(name.len()).expect("a DNS label has at most 63 bytes"));
    bytes.extend_from_slice(name.as_bytes());
}

fn to_text(bytes: &[u8]) -> String {
    let base32 = Zeroizing::new(BASE32_NOPAD.encode(bytes));
    let mut text = String::with_capacity(base32.len() * 5 / 4);
    for (index, c) in base32.chars().enumerate() {
        if index > 0 && index % 4 == 0 {
            text.push('-');
        }
        text.push(c);
    }
    text
}

fn from_text(text: &str) -> Result<Zeroizing<Vec<u8>>, CodeError> {
    if text.len() > MAX_TEXT {
        return Err(CodeError::TooLong(text.len()));
    }
    let mut base32 = Zeroizing::new(String::with_capacity(text.len()));
    base32.extend(text.chars().filter(|c| *c != '-' && !c.is_whitespace()).map(|c| c.to_ascii_uppercase()));
    BASE32_NOPAD.decode(base32.as_bytes()).map(Zeroizing::new).map_err(CodeError::Base32)
}

/// The undecoded rest of a code.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self, field: &'static str) -> Result<&'a [u8; N], CodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CodeError::Truncated(field))?;
        self.0 = rest;
        Ok(taken)
    }

    fn take_prefixed(&mut self, field: &'static str) -> Result<&'a [u8], CodeError> {
        let [len] = *self.take::<1>(field)?;
        let (taken, rest) = self.0.split_at_checked(len.into()).ok_or(CodeError::Truncated(field))?;
        self.0 = rest;
        Ok(taken)
    }

    fn take_relay(&mut self) -> Result<(SocketAddrV4, PeerId), CodeError> {
        let ip = Ipv4Addr::from(*self.take("relay address")?);
        let port = u16::from_be_bytes(*self.take("relay port")?);
        let relay = self.take_prefixed("relay ID")?;
        let relay = peer_from_bytes(relay).ok_or(CodeError::InvalidPeerId("relay ID"))?;
        Ok((SocketAddrV4::new(ip, port), relay))
    }

    fn take_network(&mut self) -> Result<Option<DnsLabel>, CodeError> {
        let name = self.take_prefixed("network name")?;
        if name.is_empty() {
            return Ok(None);
        }
        let name = std::str::from_utf8(name).map_err(|_| CodeError::InvalidNetwork)?;
        name.parse().map(Some).map_err(|_| CodeError::InvalidNetwork)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V1_GLOBAL: &str = "AEAA-CAQD-AQCQ-MB6L-ABYT-EHTB-EYAC-ICAB-CIQB-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIA-AASA-QAIS-EARC-EIRC-EIRC-EIRC-EIRC-EIRC-EIRC-EIRC-EIRC-EIRC-EIRC-EIRC-EIRC-E";
    const V2_GLOBAL: &str = "AIAA-CAQD-AQCQ-MBYI-BEFA-WDAN-BYH4-WADR-GIPG-CJQA-EQEA-CERA-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIR-CEIQ-A";

    #[test]
    fn the_published_codes_without_a_network_are_reproduced_and_read() {
        assert_eq!(invite(None).encode(), V1_GLOBAL);
        assert_eq!(Code::decode(V1_GLOBAL), Ok(Code::Invite(invite(None))));
        assert_eq!(pairing(None).encode(), V2_GLOBAL);
        assert_eq!(Code::decode(V2_GLOBAL), Ok(Code::Pairing(pairing(None))));
    }

    #[test]
    fn the_published_codes_of_a_named_network_are_reproduced() {
        let invite = invite(Some("my-crew")).encode();
        let pairing = pairing(Some("my-crew")).encode();
        assert_eq!((invite.len(), pairing.len()), (199, 139));
        assert!(pairing.ends_with("CEIQ-O3LZ-FVRX-EZLX"), "{pairing}");
        assert_eq!(from_text(&invite).unwrap()[54..62], *b"\x07my-crew");
    }

    #[test]
    fn people_may_retype_codes_in_lower_case_and_in_lines() {
        let typed = V1_GLOBAL.replace('-', " \n").to_lowercase();
        assert_eq!(Code::decode(&typed), Ok(Code::Invite(invite(None))));
    }

    #[test]
    fn the_relay_address_is_a_multiaddr() {
        assert_eq!(
            invite(None).relay_multiaddr().to_string(),
            "/ip4/203.0.113.50/tcp/7777/p2p/12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx"
        );
    }

    #[test]
    fn versions_that_this_peerup_cannot_read_are_named() {
        assert_eq!(Code::decode(""), Err(CodeError::Empty));
        assert_eq!(Code::decode(&to_text(&[0; 40])), Err(CodeError::VersionZero));
        let newer = Code::decode(&to_text(&[3; 40])).unwrap_err();
        assert_eq!(newer, CodeError::NewerVersion(3));
        assert!(newer.to_string().contains("please upgrade"));
    }

    #[test]
    fn text_that_only_happens_to_be_base32_is_no_code_of_a_newer_version() {
        let lorem = "please join the network of the house by typing this into the other machine";
        for text in ["NOT-A-CODE", "AMAA-AAAA", &lorem.repeat(2)] {
            assert_eq!(Code::decode(text), Err(CodeError::NotACode), "{text}");
        }
        let message = Code::decode("not a code!").unwrap_err().to_string();
        assert!(message.starts_with("this is not an invite code"), "{message}");
    }

    #[test]
    fn a_code_cut_anywhere_is_refused() {
        for code in [V1_GLOBAL, V2_GLOBAL] {
            let bytes = from_text(code).unwrap();
            for len in 1..bytes.len() {
                let error = Code::decode(&to_text(&bytes[..len])).unwrap_err();
                let cut = matches!(error, CodeError::Truncated(_) | CodeError::InvalidPeerId("inviter ID"));
                assert!(cut, "{len}: {error:?}");
            }
        }
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        let append = |code| to_text(&[from_text(code).unwrap().as_slice(), &[0; 3]].concat());
        assert_eq!(Code::decode(&append(V2_GLOBAL)), Err(CodeError::TrailingBytes(3)));
        assert_eq!(Code::decode(&append(V1_GLOBAL)), Err(CodeError::InvalidPeerId("inviter ID")));
    }

    #[test]
    fn ids_that_are_no_multihash_and_bad_network_names_are_refused() {
        let damage = |code, at: usize, value| {
            let mut bytes = from_text(code).unwrap();
            bytes[at] = value;
            Code::decode(&to_text(&bytes)).unwrap_err()
        };
        assert_eq!(damage(V1_GLOBAL, 16, 0x55), CodeError::InvalidPeerId("relay ID"));
        assert_eq!(damage(V1_GLOBAL, 17, 0x23), CodeError::InvalidPeerId("relay ID"));
        assert_eq!(damage(V1_GLOBAL, 56, 0x23), CodeError::InvalidPeerId("inviter ID"));
        let named = pairing(Some("my-crew")).encode();
        assert_eq!(damage(&named, 63, b'M'), CodeError::InvalidNetwork);
        assert_eq!(damage(&named, 64, 0xff), CodeError::InvalidNetwork);
    }

    #[test]
    fn debug_output_hides_the_token() {
        let text = format!("{:?}", Code::decode(V1_GLOBAL).unwrap());
        assert!(text.contains("redacted") && !text.contains("0, 1, 2"), "{text}");
    }

    proptest! {
        #[test]
        fn every_code_survives_a_round_trip(token: [u8; 8], ip: u32, port: u16, name in "([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?") {
            let network = name.parse().ok();
            let relay_address = SocketAddrV4::new(ip.into(), port);
            let invite = InviteCode { token: Token::new(token), relay_address, network, ..invite(None) };
            prop_assert_eq!(Code::decode(&invite.encode()), Ok(Code::Invite(invite)));
        }

        #[test]
        fn damaged_codes_never_panic(text in "\\PC{0,300}", mut bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0u8..4) {
            let _ = Code::decode(&text);
            bytes.insert(0, version);
            if let Ok(code) = Code::decode(&to_text(&bytes)) {
                let again = match code {
                    Code::Invite(code) => code.encode(),
                    Code::Pairing(code) => code.encode(),
                };
                prop_assert_eq!(again, to_text(&bytes));
            }
        }
    }

    fn invite(network: Option<&str>) -> InviteCode {
        InviteCode {
            token: Token::new([0, 1, 2, 3, 4, 5, 6, 7]),
            relay_address: "203.0.113.50:7777".parse().unwrap(),
            relay: peer(0x11),
            network: network.map(|name| name.parse().unwrap()),
            inviter: peer(0x22),
        }
    }

    fn pairing(network: Option<&str>) -> PairingCode {
        let InviteCode { relay_address, relay, network, .. } = invite(network);
        let token = Token::new(std::array::from_fn(|index| index as u8));
        PairingCode { token, relay_address, relay, network }
    }

    fn peer(fill: u8) -> PeerId {
        PeerId::from_bytes(&[&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20][..], &[fill; 32]].concat()).unwrap()
    }
}
