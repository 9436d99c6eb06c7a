//! What an inviter gives to a joiner besides its trust.
//!
//! ```text
//! version 01 ‖ TLV*          TLV = type u16 BE ‖ length u16 BE ‖ value
//!
//! 1  address            4                           required, once
//! 2  prefix             network 4 ‖ length 1        required, once
//! 3  inviter's address  4                           at most once
//! 4  claim              id length 1 ‖ peer ID ‖ address 4 ‖ epoch u64 BE ‖ sig length 1 ‖ signature ≤ 64;
//!                                                   at most 64 of them
//! 5  relay              multiaddr in binary, ≤ 512; at most 8 of them
//! ```
//!
//! Unknown types are skipped. A joiner that does not know the version goes without a grant, as it does with
//! an inviter that sends none. Claims are opaque here: `peerup-membership` checks their signatures.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use peerup_types::{AddressClaim, Multiaddr};

use crate::peer::peer_from_bytes;

const VERSION: u8 = 1;
const MAX_SIGNATURE: usize = 64;
const MAX_RELAY_BYTES: usize = 512;

const ADDRESS: u16 = 1;
const PREFIX: u16 = 2;
const INVITER_ADDRESS: u16 = 3;
const CLAIM: u16 = 4;
const RELAY: u16 = 5;

/// The joiner's place in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The joiner's overlay address.
    pub address: Ipv4Addr,
    /// The network's range (`vpn.cidr`).
    pub prefix: Ipv4Net,
    pub inviter_address: Option<Ipv4Addr>,
    /// Who has which address, as the inviter knows it; the most useful first, the list is bounded.
    pub claims: Vec<AddressClaim>,
    /// Relays that the network uses.
    pub relays: Vec<Multiaddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    #[error("the grant ends within a value")]
    Truncated,
    #[error("the value of type {kind} is malformed")]
    Malformed { kind: u16 },
    #[error("the value of type {kind} appears more than {limit} times")]
    TooMany { kind: u16, limit: usize },
    #[error("the grant names no address")]
    NoAddress,
    #[error("{address} is not a host address of {prefix}")]
    AddressOutsidePrefix { address: Ipv4Addr, prefix: Ipv4Net },
}

impl Grant {
    pub const MAX_CLAIMS: usize = 64;
    pub const MAX_RELAYS: usize = 8;

    pub(super) fn encode(&self) -> Result<Vec<u8>, GrantError> {
        self.check()?;
        let mut bytes = vec![VERSION];
        put(&mut bytes, ADDRESS, &self.address.octets());
        put(&mut bytes, PREFIX, &prefix_bytes(self.prefix));
        if let Some(address) = self.inviter_address {
            put(&mut bytes, INVITER_ADDRESS, &address.octets());
        }
        for claim in &self.claims {
            put(&mut bytes, CLAIM, &claim_bytes(claim)?);
        }
        for relay in &self.relays {
            put(&mut bytes, RELAY, relay.as_ref());
        }
        Ok(bytes)
    }

    /// `None` for a version that this peerup does not know.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>, GrantError> {
        let (version, mut rest) = bytes.split_first().ok_or(GrantError::Truncated)?;
        if *version != VERSION {
            return Ok(None);
        }
        let mut draft = Draft::default();
        while !rest.is_empty() {
            let (kind, value) = take_tlv(&mut rest)?;
            draft.put(kind, value)?;
        }
        draft.finish().map(Some)
    }

    fn check(&self) -> Result<(), GrantError> {
        let Self { address, prefix, .. } = *self;
        if !is_host(address, prefix) {
            return Err(GrantError::AddressOutsidePrefix { address, prefix });
        }
        check_count(CLAIM, self.claims.len(), Self::MAX_CLAIMS)?;
        check_count(RELAY, self.relays.len(), Self::MAX_RELAYS)?;
        match self.relays.iter().all(|relay| relay.len() <= MAX_RELAY_BYTES) {
            true => Ok(()),
            false => Err(GrantError::Malformed { kind: RELAY }),
        }
    }
}

/// What has been read so far.
#[derive(Default)]
struct Draft {
    address: Option<Ipv4Addr>,
    prefix: Option<Ipv4Net>,
    inviter_address: Option<Ipv4Addr>,
    claims: Vec<AddressClaim>,
    relays: Vec<Multiaddr>,
}

impl Draft {
    fn put(&mut self, kind: u16, value: &[u8]) -> Result<(), GrantError> {
        let malformed = GrantError::Malformed { kind };
        match kind {
            ADDRESS => put_once(&mut self.address, kind, parse_address(value).ok_or(malformed)?),
            PREFIX => put_once(&mut self.prefix, kind, parse_prefix(value).ok_or(malformed)?),
            INVITER_ADDRESS => {
                put_once(&mut self.inviter_address, kind, parse_address(value).ok_or(malformed)?)
            }
            CLAIM => {
                check_count(kind, self.claims.len() + 1, Grant::MAX_CLAIMS)?;
                self.claims.push(parse_claim(value).ok_or(malformed)?);
                Ok(())
            }
            RELAY => {
                check_count(kind, self.relays.len() + 1, Grant::MAX_RELAYS)?;
                self.relays.push(parse_relay(value).ok_or(malformed)?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<Grant, GrantError> {
        let Self { address, prefix, inviter_address, claims, relays } = self;
        let (Some(address), Some(prefix)) = (address, prefix) else { return Err(GrantError::NoAddress) };
        let grant = Grant { address, prefix, inviter_address, claims, relays };
        grant.check()?;
        Ok(grant)
    }
}

fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(value.len()).expect("values are at most 512 bytes");
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(value);
}

fn put_once<T>(slot: &mut Option<T>, kind: u16, value: T) -> Result<(), GrantError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(GrantError::TooMany { kind, limit: 1 }),
    }
}

fn check_count(kind: u16, count: usize, limit: usize) -> Result<(), GrantError> {
    if count <= limit { Ok(()) } else { Err(GrantError::TooMany { kind, limit }) }
}

fn prefix_bytes(prefix: Ipv4Net) -> [u8; 5] {
    let [a, b, c, d] = prefix.network().octets();
    [a, b, c, d, prefix.prefix_len()]
}

fn claim_bytes(claim: &AddressClaim) -> Result<Vec<u8>, GrantError> {
    if claim.signature.len() > MAX_SIGNATURE {
        return Err(GrantError::Malformed { kind: CLAIM });
    }
    let peer = claim.peer.to_bytes();
    let mut bytes = vec![u8::try_from(peer.len()).expect("a peer ID has at most 66 bytes")];
    bytes.extend_from_slice(&peer);
    bytes.extend_from_slice(&claim.address.octets());
    bytes.extend_from_slice(&claim.epoch.to_be_bytes());
    bytes.push(claim.signature.len() as u8);
    bytes.extend_from_slice(&claim.signature);
    Ok(bytes)
}

fn take_tlv<'a>(bytes: &mut &'a [u8]) -> Result<(u16, &'a [u8]), GrantError> {
    let ([k0, k1, l0, l1], rest) = bytes.split_first_chunk().ok_or(GrantError::Truncated)?;
    let len = u16::from_be_bytes([*l0, *l1]);
    let (value, rest) = rest.split_at_checked(len.into()).ok_or(GrantError::Truncated)?;
    *bytes = rest;
    Ok((u16::from_be_bytes([*k0, *k1]), value))
}

fn parse_address(value: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
}

/// Only a canonical prefix: no host bits, and room for two hosts.
fn parse_prefix(value: &[u8]) -> Option<Ipv4Net> {
    let [a, b, c, d, len @ 0..=30] = *value else { return None };
    let prefix = Ipv4Net::new([a, b, c, d].into(), len).ok()?;
    (prefix.addr() == prefix.network()).then_some(prefix)
}

fn parse_claim(value: &[u8]) -> Option<AddressClaim> {
    let (len, rest) = value.split_first()?;
    let (peer, rest) = rest.split_at_checked((*len).into())?;
    let (address, rest) = rest.split_first_chunk::<4>()?;
    let (epoch, rest) = rest.split_first_chunk()?;
    let (len, signature) = rest.split_first()?;
    if signature.len() != usize::from(*len) || signature.len() > MAX_SIGNATURE {
        return None;
    }
    Some(AddressClaim {
        peer: peer_from_bytes(peer)?,
        address: Ipv4Addr::from(*address),
        epoch: u64::from_be_bytes(*epoch),
        signature: signature.to_vec(),
    })
}

fn parse_relay(value: &[u8]) -> Option<Multiaddr> {
    if value.len() > MAX_RELAY_BYTES {
        return None;
    }
    Multiaddr::try_from(value.to_vec()).ok()
}

fn is_host(address: Ipv4Addr, prefix: Ipv4Net) -> bool {
    prefix.contains(&address) && address != prefix.network() && address != prefix.broadcast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerup_types::PeerId;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_of_a_grant_are_fixed() {
        let claim = AddressClaim {
            peer: peer(0x22),
            address: [10, 64, 0, 1].into(),
            epoch: 0x0102,
            signature: vec![0xaa],
        };
        let grant =
            Grant { claims: vec![claim], relays: vec!["/ip4/1.2.3.4/tcp/5".parse().unwrap()], ..grant() };
        let expected = format!(
            "01\
             000100040a400002\
             000200050a40000010\
             000300040a400001\
             00040035 26002408011220{} 0a400001 0000000000000102 01aa\
             00050008 0401020304 060005",
            "22".repeat(32)
        )
        .replace(' ', "");
        assert_eq!(data_encoding::HEXLOWER.encode(&grant.encode().unwrap()), expected);
        assert_eq!(Grant::decode(&grant.encode().unwrap()), Ok(Some(grant)));
    }

    #[test]
    fn a_newer_version_is_no_grant_and_unknown_types_are_skipped() {
        let mut bytes = grant().encode().unwrap();
        put(&mut bytes, 999, b"what is this");
        assert_eq!(Grant::decode(&bytes), Ok(Some(grant())));
        bytes[0] = 2;
        assert_eq!(Grant::decode(&bytes), Ok(None));
    }

    #[test]
    fn an_address_that_is_no_host_of_the_prefix_is_refused() {
        for address in ["10.65.0.1", "10.64.0.0", "10.64.255.255"] {
            let grant = Grant { address: address.parse().unwrap(), ..grant() };
            assert!(matches!(grant.encode(), Err(GrantError::AddressOutsidePrefix { .. })), "{address}");
        }
    }

    #[test]
    fn repeated_missing_and_malformed_values_are_refused() {
        let good = grant().encode().unwrap();
        let with = |kind, value: &[u8]| {
            let mut bytes = good.clone();
            put(&mut bytes, kind, value);
            Grant::decode(&bytes)
        };
        assert_eq!(with(ADDRESS, &[10, 64, 0, 3]), Err(GrantError::TooMany { kind: ADDRESS, limit: 1 }));
        assert_eq!(with(RELAY, &[0xff; 20]), Err(GrantError::Malformed { kind: RELAY }));
        assert_eq!(with(CLAIM, &[]), Err(GrantError::Malformed { kind: CLAIM }));
        assert_eq!(Grant::decode(&[VERSION]), Err(GrantError::NoAddress));
        assert_eq!(Grant::decode(&good[..good.len() - 1]), Err(GrantError::Truncated));
        assert_eq!(Grant::decode(&[]), Err(GrantError::Truncated));
    }

    #[test]
    fn a_full_grant_fits_its_frame() {
        let grant = full();
        let sealed = 24 + grant.encode().unwrap().len() + 16;
        assert!(sealed <= crate::handshake::frame::MAX_GRANT_FRAME, "{sealed}");
        let mut longer = grant.clone();
        longer.claims.push(longer.claims[0].clone());
        assert_eq!(longer.encode(), Err(GrantError::TooMany { kind: CLAIM, limit: Grant::MAX_CLAIMS }));
        let mut longer = grant;
        longer.relays.push(longer.relays[0].clone());
        assert_eq!(longer.encode(), Err(GrantError::TooMany { kind: RELAY, limit: Grant::MAX_RELAYS }));
    }

    proptest! {
        #[test]
        fn every_grant_survives_a_round_trip(host in 1u32..65_535, epochs in proptest::collection::vec(any::<u64>(), 0..64), sig in proptest::collection::vec(any::<u8>(), 0..=64), port: u16, inviter: bool) {
            let grant = Grant {
                address: (0x0a40_0000 + host).into(),
                inviter_address: inviter.then_some([10, 64, 0, 1].into()),
                claims: epochs.iter().map(|epoch| AddressClaim { peer: peer(*epoch as u8), address: (*epoch as u32).into(), epoch: *epoch, signature: sig.clone() }).collect(),
                relays: vec![format!("/ip6/2001:db8::1/udp/{port}/quic-v1").parse().unwrap()],
                ..grant()
            };
            prop_assert_eq!(Grant::decode(&grant.encode().unwrap()), Ok(Some(grant)));
        }

        #[test]
        fn damaged_grants_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, value: u8) {
            let _ = Grant::decode(&bytes);
            bytes.insert(0, VERSION);
            let _ = Grant::decode(&bytes);
            let mut good = full().encode().unwrap();
            let at = at.index(good.len());
            good[at] = value;
            let _ = Grant::decode(&good);
        }
    }

    fn grant() -> Grant {
        Grant {
            address: [10, 64, 0, 2].into(),
            prefix: "10.64.0.0/16".parse().unwrap(),
            inviter_address: Some([10, 64, 0, 1].into()),
            claims: Vec::new(),
            relays: Vec::new(),
        }
    }

    fn full() -> Grant {
        let claim =
            AddressClaim { peer: peer(1), address: [10, 64, 0, 1].into(), epoch: 1, signature: vec![0; 64] };
        let relay: Multiaddr = format!("/dns/{}/tcp/1", "x".repeat(250)).parse().unwrap();
        Grant { claims: vec![claim; Grant::MAX_CLAIMS], relays: vec![relay; Grant::MAX_RELAYS], ..grant() }
    }

    fn peer(fill: u8) -> PeerId {
        PeerId::from_bytes(&[&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20][..], &[fill; 32]].concat()).unwrap()
    }
}
