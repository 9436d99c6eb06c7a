//! STUN messages (RFC 8489 §5, §14), as far as Binding needs them, with the attributes of RFC 5780 §7.
//!
//! A message is a header of 20 bytes (type u16, length u16 in bytes, magic cookie u32, transaction ID of 96 bits, all
//! big-endian) and attributes (type u16, length u16 in bytes, value, padding to 4 bytes). Requests carry no
//! credentials: public servers ask for none, and the answer is only a hint. Answers are matched by transaction ID.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// RFC 8489 §5.
const MAGIC_COOKIE: u32 = 0x2112_A442;
const HEADER: usize = 20;
/// An answer to Binding is far below the IPv4 minimum of 576 bytes; a longer one is not read.
pub const MAX_MESSAGE: usize = 576;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const MAPPED_ADDRESS: u16 = 0x0001;
const CHANGE_REQUEST: u16 = 0x0003;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const RESPONSE_ORIGIN: u16 = 0x802b;
const OTHER_ADDRESS: u16 = 0x802c;

/// 96 random bits that an off-path attacker cannot guess (RFC 8489 §5).
pub type TransactionId = [u8; 12];

/// From where the server shall answer (RFC 5780 §7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    pub ip: bool,
    pub port: bool,
}

/// The answer to a Binding request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub transaction: TransactionId,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Mapped {
        /// Our address as the server saw it.
        mapped: SocketAddr,
        /// The server's second address (RFC 5780): it differs from the first in address and port.
        other: Option<SocketAddr>,
        /// Where the answer came from, as the server says.
        origin: Option<SocketAddr>,
    },
    /// An error code from 300 to 699.
    Refused { code: u16 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedStun {
    #[error("{len} bytes are no STUN message")]
    Length { len: usize },
    #[error("the magic cookie is missing")]
    Cookie,
    #[error("0x{kind:04x} is no answer to Binding")]
    Kind { kind: u16 },
    #[error("attribute 0x{kind:04x} is malformed")]
    Attribute { kind: u16 },
    #[error("the answer names no mapped address")]
    NoAddress,
}

/// A Binding request. `change` asks a server that has two addresses to answer from another one.
pub fn binding_request(transaction: &TransactionId, change: Option<Change>) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + 8);
    message.extend(BINDING_REQUEST.to_be_bytes());
    message.extend((if change.is_some() { 8u16 } else { 0 }).to_be_bytes());
    message.extend(MAGIC_COOKIE.to_be_bytes());
    message.extend(transaction);
    if let Some(Change { ip, port }) = change {
        message.extend(CHANGE_REQUEST.to_be_bytes());
        message.extend(4u16.to_be_bytes());
        message.extend((u32::from(ip) << 2 | u32::from(port) << 1).to_be_bytes());
    }
    message
}

/// Reads an answer. Unknown attributes are skipped; FINGERPRINT and MESSAGE-INTEGRITY prove nothing without a shared
/// secret and are skipped too.
pub fn parse(message: &[u8]) -> Result<Answer, MalformedStun> {
    let length = MalformedStun::Length { len: message.len() };
    let (header, body) = message.split_at_checked(HEADER).ok_or(length)?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if message.len() > MAX_MESSAGE || usize::from(word(2)) != body.len() || !body.len().is_multiple_of(4) {
        return Err(length);
    }
    if header[4..8] != MAGIC_COOKIE.to_be_bytes() {
        return Err(MalformedStun::Cookie);
    }
    let mut transaction = TransactionId::default();
    transaction.copy_from_slice(&header[8..]);
    let outcome = match word(0) {
        BINDING_SUCCESS => mapped(Attributes(body), &transaction)?,
        BINDING_ERROR => refused(Attributes(body))?,
        kind => return Err(MalformedStun::Kind { kind }),
    };
    Ok(Answer { transaction, outcome })
}

fn mapped(attributes: Attributes<'_>, transaction: &TransactionId) -> Result<Outcome, MalformedStun> {
    let (mut plain, mut xored, mut other, mut origin) = (None, None, None, None);
    for attribute in attributes {
        let (kind, value) = attribute?;
        // Of several equal attributes the first counts (RFC 8489 §14).
        let slot = match kind {
            MAPPED_ADDRESS => &mut plain,
            XOR_MAPPED_ADDRESS => &mut xored,
            OTHER_ADDRESS => &mut other,
            RESPONSE_ORIGIN => &mut origin,
            _ => continue,
        };
        let address = address(value).ok_or(MalformedStun::Attribute { kind })?;
        slot.get_or_insert(address);
    }
    // Routers that rewrite addresses in payloads leave the XORed one alone.
    let mapped = xored.map(|address| xor(address, transaction)).or(plain);
    mapped.map(|mapped| Outcome::Mapped { mapped, other, origin }).ok_or(MalformedStun::NoAddress)
}

fn refused(attributes: Attributes<'_>) -> Result<Outcome, MalformedStun> {
    let kind = ERROR_CODE;
    for attribute in attributes {
        let (ERROR_CODE, value) = attribute? else { continue };
        let [_, _, class, number, ..] = value else { return Err(MalformedStun::Attribute { kind }) };
        let code = u16::from(class & 0x7) * 100 + u16::from(*number);
        return match code {
            300..=699 if *number < 100 => Ok(Outcome::Refused { code }),
            _ => Err(MalformedStun::Attribute { kind }),
        };
    }
    Err(MalformedStun::Attribute { kind })
}

/// `0 ‖ family u8 ‖ port u16 ‖ address`.
fn address(value: &[u8]) -> Option<SocketAddr> {
    let [_, family, high, low, ip @ ..] = value else { return None };
    let ip = match family {
        1 => IpAddr::V4(<[u8; 4]>::try_from(ip).ok()?.into()),
        2 => IpAddr::V6(<[u8; 16]>::try_from(ip).ok()?.into()),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([*high, *low])))
}

/// RFC 8489 §14.2: the port with the cookie's upper half, the address with cookie and transaction ID.
fn xor(address: SocketAddr, transaction: &TransactionId) -> SocketAddr {
    let cookie = MAGIC_COOKIE.to_be_bytes();
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&cookie);
    mask[4..].copy_from_slice(transaction);
    let ip = match address.ip() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() ^ MAGIC_COOKIE)),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() ^ u128::from_be_bytes(mask))),
    };
    SocketAddr::new(ip, address.port() ^ u16::from_be_bytes([cookie[0], cookie[1]]))
}

/// Type and value of each attribute.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), MalformedStun>;

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.0.split_at_checked(4)?;
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let Some(value) = rest.get(..len) else {
            self.0 = &[];
            return Some(Err(MalformedStun::Attribute { kind }));
        };
        self.0 = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok((kind, value)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 5769: the transaction ID of all its samples.
    const ID: TransactionId = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| byte.is_ascii_hexdigit()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    /// RFC 5769 §2.2.
    const IPV4_RESPONSE: &str = "0101003c 2112a442 b7e7a701bc34d686fa87dfae
        8022000b 7465737420766563746f7220
        00200008 0001a147e112a643
        00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7
        80280004 c07d4c96";

    /// RFC 5769 §2.3.
    const IPV6_RESPONSE: &str = "01010048 2112a442 b7e7a701bc34d686fa87dfae
        8022000b 7465737420766563746f7220
        00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9
        00080014 a382954e4be67bf11784c97c8292c275bfe3ed41
        80280004 c8fb0b4c";

    /// RFC 5769 §2.1: a request is no answer.
    const REQUEST: &str = "00010058 2112a442 b7e7a701bc34d686fa87dfae
        80220010 5354554e207465737420636c69656e74
        00240004 6e0001ff 80290008 932ff9b151263b36
        00060009 6576746a3a68367659202020
        00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2
        80280004 e57a3bcf";

    fn mapped_of(message: &[u8]) -> SocketAddr {
        let answer = parse(message).unwrap();
        assert_eq!(answer.transaction, ID);
        match answer.outcome {
            Outcome::Mapped { mapped, .. } => mapped,
            Outcome::Refused { code } => panic!("refused: {code}"),
        }
    }

    #[test]
    fn the_sample_responses_of_rfc_5769_are_read() {
        assert_eq!(mapped_of(&bytes(IPV4_RESPONSE)), "192.0.2.1:32853".parse().unwrap());
        let v6 = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        assert_eq!(mapped_of(&bytes(IPV6_RESPONSE)), v6);
    }

    #[test]
    fn the_sample_request_of_rfc_5769_is_no_answer() {
        assert_eq!(parse(&bytes(REQUEST)), Err(MalformedStun::Kind { kind: 1 }));
    }

    #[test]
    fn requests_are_twenty_bytes_and_eight_more_with_a_change() {
        let plain = binding_request(&ID, None);
        assert_eq!(plain, bytes("00010000 2112a442 b7e7a701bc34d686fa87dfae"));
        let both = binding_request(&ID, Some(Change { ip: true, port: true }));
        assert_eq!(both, bytes("00010008 2112a442 b7e7a701bc34d686fa87dfae 00030004 00000006"));
        let port = binding_request(&ID, Some(Change { ip: false, port: true }));
        assert_eq!(port[24..], [0, 0, 0, 2]);
    }

    #[test]
    fn a_server_with_two_addresses_names_the_other_one() {
        let message = bytes(
            "01010024 2112a442 b7e7a701bc34d686fa87dfae
             00010008 00018055c0000201 802b0008 00010d96c6336401 802c0008 00010d97c6336402",
        );
        let Outcome::Mapped { mapped, other, origin } = parse(&message).unwrap().outcome else { panic!() };
        assert_eq!(mapped, "192.0.2.1:32853".parse().unwrap());
        assert_eq!(origin, Some("198.51.100.1:3478".parse().unwrap()));
        assert_eq!(other, Some("198.51.100.2:3479".parse().unwrap()));
    }

    #[test]
    fn an_error_tells_its_code() {
        let message = bytes("0111000c 2112a442 b7e7a701bc34d686fa87dfae 00090006 00000414 6e6f 0000");
        assert_eq!(parse(&message).unwrap().outcome, Outcome::Refused { code: 420 });
    }

    #[test]
    fn damaged_messages_are_refused() {
        let good = bytes(IPV4_RESPONSE);
        assert_eq!(parse(&good[..19]), Err(MalformedStun::Length { len: 19 }));
        assert_eq!(parse(&good[..good.len() - 4]), Err(MalformedStun::Length { len: good.len() - 4 }));
        let mut other_cookie = good.clone();
        other_cookie[4] ^= 1;
        assert_eq!(parse(&other_cookie), Err(MalformedStun::Cookie));
        let mut family = good.clone();
        family[41] = 9;
        assert_eq!(parse(&family), Err(MalformedStun::Attribute { kind: XOR_MAPPED_ADDRESS }));
        let empty = bytes("01010000 2112a442 b7e7a701bc34d686fa87dfae");
        assert_eq!(parse(&empty), Err(MalformedStun::NoAddress));
        let overlong = bytes("01010004 2112a442 b7e7a701bc34d686fa87dfae 00200008");
        assert_eq!(parse(&overlong), Err(MalformedStun::Attribute { kind: XOR_MAPPED_ADDRESS }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(message in prop::collection::vec(any::<u8>(), 0..700)) {
            let _ = parse(&message);
        }

        #[test]
        fn no_attributes_make_it_panic(kind in prop::sample::select(vec![BINDING_SUCCESS, BINDING_ERROR]),
                                       body in prop::collection::vec(any::<u8>(), 0..140)) {
            let body = &body[..body.len() / 4 * 4];
            let mut message = kind.to_be_bytes().to_vec();
            message.extend((body.len() as u16).to_be_bytes());
            message.extend(MAGIC_COOKIE.to_be_bytes());
            message.extend(ID);
            message.extend(body);
            if let Ok(Answer { outcome: Outcome::Refused { code }, .. }) = parse(&message) {
                prop_assert!((300..700).contains(&code));
            }
        }

        #[test]
        fn any_address_survives_the_masking(ip in any::<[u8; 16]>(), port in any::<u16>(), id in any::<TransactionId>()) {
            let v6 = SocketAddr::new(IpAddr::V6(ip.into()), port);
            prop_assert_eq!(xor(xor(v6, &id), &id), v6);
            let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3])), port);
            prop_assert_eq!(xor(xor(v4, &id), &id), v4);
        }
    }
}
