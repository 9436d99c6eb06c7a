//! Hello: the first message in each direction on a `/peerup/tun/1.0.0` stream.
//!
//! The opener sends a [`Hello`], the acceptor answers with a [`HelloAck`]. A path counts only once the ack has
//! arrived: a dialer that the other side's gater refuses sees its connection "established" for a moment.
//!
//! Both are `length u16 ‖ TLVs` of at most [`MAX_LEN`] bytes. Unknown fields are skipped; a known field may
//! stand once (known claims: [`MAX_CLAIMS`] times); required ones must be there. A refusal tells a stranger
//! which versions this node speaks and why it refuses, and nothing else.

use std::net::{Ipv4Addr, Ipv6Addr};

use peerup_types::{AddressClaim, DnsLabel, Multiaddr, OverlayAddrs};

use crate::claim::{self, ClaimError, MAX_CLAIMS};
use crate::codec::Truncated;
use crate::relay_offer::{self, MAX_RELAY_ADDRS};
use crate::tlv::{self, Fields};
use crate::version::VersionRange;

/// Bytes of the length that precedes each message.
pub const LENGTH_PREFIX: usize = 2;

/// The longest message behind its length prefix. [`MAX_CLAIMS`] of the longest claims and [`MAX_RELAY_ADDRS`] of the
/// longest addresses fit with room to spare.
pub const MAX_LEN: usize = 16 * 1024;

/// RFC 8200 §5: IPv6, and every node has an IPv6 overlay address, needs links of at least this MTU.
pub const MIN_MTU: u16 = 1280;

/// The sender takes super-packet frames.
pub const FEATURE_SUPER_PACKETS: u64 = 1 << 0;
/// The sender takes frames as QUIC datagrams.
pub const FEATURE_DATAGRAMS: u64 = 1 << 1;
/// The sender acknowledges packet frames, so what was not acknowledged can be resent on another path.
pub const FEATURE_ACKS: u64 = 1 << 2;

const VERSIONS: u16 = 1;
const FEATURES: u16 = 2;
const BOOT_EPOCH: u16 = 3;
const OVERLAY_V4: u16 = 4;
const OVERLAY_V6: u16 = 5;
const OWN_CLAIM: u16 = 6;
const KNOWN_CLAIM: u16 = 7;
const NODE_NAME: u16 = 8;
const MTU: u16 = 9;
const NETWORK: u16 = 10;
const STATUS: u16 = 11;
const RELAY_ADDRESS: u16 = 12;

const STATUS_ACCEPTED: u8 = 0;

/// What a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub versions: VersionRange,
    /// `FEATURE_*` bits; unknown bits are kept and mean nothing.
    pub features: u64,
    /// Changes with each start of the daemon: sequence numbers of an older epoch are void.
    pub boot_epoch: u64,
    pub overlay: OverlayAddrs,
    pub own_claim: Option<AddressClaim>,
    /// Claims of other nodes. The first [`MAX_CLAIMS`] are sent, the rest belong in control frames.
    pub known_claims: Vec<AddressClaim>,
    pub name: Option<DnsLabel>,
    pub mtu: u16,
    /// `None` is the network without a name.
    pub network: Option<DnsLabel>,
    /// Where the sender relays between its peers; empty when it does not. The first [`MAX_RELAY_ADDRS`] are sent.
    pub relay_addresses: Vec<Multiaddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one exists per opened path, and only for a moment")]
pub enum HelloAck {
    Accepted(Hello),
    Refused { versions: VersionRange, reason: RefusalReason },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    NotAuthorised,
    /// No common protocol version.
    Version,
    /// The nodes belong to networks of different names.
    Network,
    Busy,
    /// A reason this version does not know.
    Unspecified,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    #[error("a hello of {len} bytes exceeds the limit of {MAX_LEN}")]
    TooLong { len: usize },
    #[error("the hello ends early")]
    Truncated(#[from] Truncated),
    #[error("hello field {field} stands twice")]
    Duplicate { field: u16 },
    #[error("hello field {field} is missing")]
    Missing { field: u16 },
    #[error("hello field {field} has an impossible value")]
    Value { field: u16 },
    #[error("the hello carries more than {MAX_CLAIMS} claims of other nodes")]
    TooManyClaims,
    #[error("the hello names more than {MAX_RELAY_ADDRS} relay addresses")]
    TooManyRelayAddresses,
    #[error("a claim in the hello is damaged")]
    Claim(#[from] ClaimError),
}

/// How many bytes follow the length prefix, if a message may be that long.
pub fn decode_length(prefix: [u8; LENGTH_PREFIX]) -> Result<usize, HelloError> {
    let len = usize::from(u16::from_be_bytes(prefix));
    check_length(len)
}

fn check_length(len: usize) -> Result<usize, HelloError> {
    if len > MAX_LEN {
        return Err(HelloError::TooLong { len });
    }
    Ok(len)
}

impl Hello {
    /// The message with its length prefix.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; LENGTH_PREFIX];
        self.emit(&mut out);
        prefixed(out)
    }

    /// Parses what stands behind the length prefix.
    pub fn parse(message: &[u8]) -> Result<Self, HelloError> {
        Parsed::read(message)?.into_hello()
    }

    fn emit(&self, out: &mut Vec<u8>) {
        emit_versions(self.versions, out);
        tlv::put(out, FEATURES, &self.features.to_be_bytes());
        tlv::put(out, BOOT_EPOCH, &self.boot_epoch.to_be_bytes());
        if let Some(v4) = self.overlay.v4 {
            tlv::put(out, OVERLAY_V4, &v4.octets());
        }
        tlv::put(out, OVERLAY_V6, &self.overlay.v6.octets());
        if let Some(claim) = &self.own_claim {
            emit_claim(OWN_CLAIM, claim, out);
        }
        for claim in self.known_claims.iter().take(MAX_CLAIMS) {
            emit_claim(KNOWN_CLAIM, claim, out);
        }
        if let Some(name) = &self.name {
            tlv::put(out, NODE_NAME, name.as_str().as_bytes());
        }
        tlv::put(out, MTU, &self.mtu.to_be_bytes());
        if let Some(network) = &self.network {
            tlv::put(out, NETWORK, network.as_str().as_bytes());
        }
        for address in self.relay_addresses.iter().filter(|a| relay_offer::fits(a)).take(MAX_RELAY_ADDRS) {
            tlv::put(out, RELAY_ADDRESS, address.as_ref());
        }
    }
}

impl HelloAck {
    /// The message with its length prefix.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; LENGTH_PREFIX];
        match self {
            Self::Accepted(hello) => {
                tlv::put(&mut out, STATUS, &[STATUS_ACCEPTED]);
                hello.emit(&mut out);
            }
            Self::Refused { versions, reason } => {
                tlv::put(&mut out, STATUS, &[reason.code()]);
                emit_versions(*versions, &mut out);
            }
        }
        prefixed(out)
    }

    /// Parses what stands behind the length prefix.
    pub fn parse(message: &[u8]) -> Result<Self, HelloError> {
        let parsed = Parsed::read(message)?;
        match required(STATUS, parsed.status)? {
            STATUS_ACCEPTED => Ok(Self::Accepted(parsed.into_hello()?)),
            code => Ok(Self::Refused {
                versions: required(VERSIONS, parsed.versions)?,
                reason: RefusalReason::from_code(code),
            }),
        }
    }
}

impl RefusalReason {
    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::NotAuthorised,
            2 => Self::Version,
            3 => Self::Network,
            4 => Self::Busy,
            _ => Self::Unspecified,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::NotAuthorised => 1,
            Self::Version => 2,
            Self::Network => 3,
            Self::Busy => 4,
            Self::Unspecified => 255,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAuthorised => "not-authorised",
            Self::Version => "version",
            Self::Network => "network",
            Self::Busy => "busy",
            Self::Unspecified => "unspecified",
        }
    }
}

fn emit_versions(versions: VersionRange, out: &mut Vec<u8>) {
    let [a, b] = versions.min().to_be_bytes();
    let [c, d] = versions.max().to_be_bytes();
    tlv::put(out, VERSIONS, &[a, b, c, d]);
}

fn emit_claim(field: u16, claim: &AddressClaim, out: &mut Vec<u8>) {
    let mut value = Vec::new();
    claim::emit(claim, &mut value);
    tlv::put(out, field, &value);
}

/// Fills in the prefix that `message` begins with.
fn prefixed(mut message: Vec<u8>) -> Vec<u8> {
    let len = check_length(message.len() - LENGTH_PREFIX)
        .expect("claims and addresses are capped so that they fit");
    message[..LENGTH_PREFIX].copy_from_slice(&(len as u16).to_be_bytes());
    message
}

/// The fields of a hello or an ack, before it is known which of them must be there.
#[derive(Default)]
struct Parsed {
    status: Option<u8>,
    versions: Option<VersionRange>,
    features: Option<u64>,
    boot_epoch: Option<u64>,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    own_claim: Option<AddressClaim>,
    known_claims: Vec<AddressClaim>,
    name: Option<DnsLabel>,
    mtu: Option<u16>,
    network: Option<DnsLabel>,
    relay_addresses: Vec<Multiaddr>,
}

impl Parsed {
    fn read(message: &[u8]) -> Result<Self, HelloError> {
        check_length(message.len())?;
        let mut parsed = Self::default();
        for field in Fields::new(message) {
            let (field, value) = field?;
            parsed.read_field(field, value)?;
        }
        Ok(parsed)
    }

    fn read_field(&mut self, field: u16, value: &[u8]) -> Result<(), HelloError> {
        match field {
            STATUS => set(&mut self.status, field, fixed(field, value).map(u8::from_be_bytes)?),
            VERSIONS => set(&mut self.versions, field, read_versions(value)?),
            FEATURES => set(&mut self.features, field, fixed(field, value).map(u64::from_be_bytes)?),
            BOOT_EPOCH => set(&mut self.boot_epoch, field, fixed(field, value).map(u64::from_be_bytes)?),
            OVERLAY_V4 => set(&mut self.v4, field, fixed::<4>(field, value)?.into()),
            OVERLAY_V6 => set(&mut self.v6, field, fixed::<16>(field, value)?.into()),
            OWN_CLAIM => set(&mut self.own_claim, field, claim::parse(value)?),
            KNOWN_CLAIM => self.push_known_claim(value),
            NODE_NAME => set(&mut self.name, field, label(field, value)?),
            MTU => set(&mut self.mtu, field, read_mtu(value)?),
            NETWORK => set(&mut self.network, field, label(field, value)?),
            RELAY_ADDRESS => self.push_relay_address(value),
            _ => Ok(()), // a field of a later version
        }
    }

    fn push_known_claim(&mut self, value: &[u8]) -> Result<(), HelloError> {
        if self.known_claims.len() == MAX_CLAIMS {
            return Err(HelloError::TooManyClaims);
        }
        self.known_claims.push(claim::parse(value)?);
        Ok(())
    }

    fn push_relay_address(&mut self, value: &[u8]) -> Result<(), HelloError> {
        if self.relay_addresses.len() == MAX_RELAY_ADDRS {
            return Err(HelloError::TooManyRelayAddresses);
        }
        let address = relay_offer::parse(value).ok_or(HelloError::Value { field: RELAY_ADDRESS })?;
        self.relay_addresses.push(address);
        Ok(())
    }

    fn into_hello(self) -> Result<Hello, HelloError> {
        Ok(Hello {
            versions: required(VERSIONS, self.versions)?,
            features: required(FEATURES, self.features)?,
            boot_epoch: required(BOOT_EPOCH, self.boot_epoch)?,
            overlay: OverlayAddrs { v4: self.v4, v6: required(OVERLAY_V6, self.v6)? },
            own_claim: self.own_claim,
            known_claims: self.known_claims,
            name: self.name,
            mtu: required(MTU, self.mtu)?,
            network: self.network,
            relay_addresses: self.relay_addresses,
        })
    }
}

fn set<T>(slot: &mut Option<T>, field: u16, value: T) -> Result<(), HelloError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(HelloError::Duplicate { field }),
    }
}

fn required<T>(field: u16, value: Option<T>) -> Result<T, HelloError> {
    value.ok_or(HelloError::Missing { field })
}

fn fixed<const N: usize>(field: u16, value: &[u8]) -> Result<[u8; N], HelloError> {
    value.try_into().map_err(|_| HelloError::Value { field })
}

fn read_versions(value: &[u8]) -> Result<VersionRange, HelloError> {
    let [a, b, c, d] = fixed(VERSIONS, value)?;
    let range = VersionRange::new(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    range.ok_or(HelloError::Value { field: VERSIONS })
}

fn read_mtu(value: &[u8]) -> Result<u16, HelloError> {
    let mtu = u16::from_be_bytes(fixed(MTU, value)?);
    if mtu < MIN_MTU {
        return Err(HelloError::Value { field: MTU });
    }
    Ok(mtu)
}

fn label(field: u16, value: &[u8]) -> Result<DnsLabel, HelloError> {
    let text = std::str::from_utf8(value).map_err(|_| HelloError::Value { field })?;
    text.parse().map_err(|_| HelloError::Value { field })
}

#[cfg(test)]
mod tests;
