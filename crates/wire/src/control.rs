//! Control frames: what two connected nodes tell each other beside packets. `code u16 ‖ payload`.
//!
//! Each list is bounded, so a control body stays far below the frame cap. A code of a later version parses as
//! [`Control::Unknown`], which the receiver passes over.

use peerup_types::{AddressClaim, Multiaddr, NatMapping};

use crate::claim::{self, ClaimError, MAX_CLAIMS};
use crate::codec::{Cursor, Truncated};
use crate::relay_offer::{self, MAX_RELAY_ADDR_LEN, MAX_RELAY_ADDRS};

/// The most addresses one punch message names.
pub const MAX_PUNCH_ADDRS: usize = 16;

/// The longest address a punch message carries, in binary form.
pub const MAX_ADDR_LEN: usize = 512;

const GOODBYE: u16 = 1;
const CLAIMS: u16 = 2;
const PUNCH_REQUEST: u16 = 3;
const PUNCH_REPLY: u16 = 4;
const RELAY_OFFER: u16 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// The sender is about to close; nothing more follows on this stream.
    Goodbye(GoodbyeReason),
    /// Address claims the sender knows, at most [`MAX_CLAIMS`].
    Claims(Vec<AddressClaim>),
    PunchRequest(Punch),
    PunchReply(Punch),
    /// Where the sender relays between its peers; empty when it does not. At most [`MAX_RELAY_ADDRS`], each at most
    /// [`MAX_RELAY_ADDR_LEN`] bytes.
    RelayOffer(Vec<Multiaddr>),
    /// A code of a later version; never sent.
    Unknown(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoodbyeReason {
    /// The daemon stops or restarts.
    Shutdown,
    /// Another path carries the packets.
    PathReplaced,
    /// The receiver is no longer among the sender's authorised peers.
    NotAuthorised,
    /// The receiver sent something that does not parse.
    ProtocolError,
    /// A reason this version does not know.
    Unspecified,
}

/// Both sides dial each other's addresses at one instant: `delay_ms` after the sender wrote a reply, after the
/// receiver read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Punch {
    /// Chosen by the requester, repeated in the reply: a late reply never answers a later attempt.
    pub attempt: u32,
    pub delay_ms: u16,
    /// How the sender's NAT maps ports: which of its addresses are worth a dial.
    pub mapping: NatMapping,
    /// At most [`MAX_PUNCH_ADDRS`], each at most [`MAX_ADDR_LEN`] bytes.
    pub addrs: Vec<Multiaddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error("the control message ends early")]
    Truncated(#[from] Truncated),
    #[error("a control message names {count} addresses or claims, the limit is {limit}")]
    TooMany { count: usize, limit: usize },
    #[error("an address in a punch message has {len} bytes, the limit is {MAX_ADDR_LEN}")]
    AddrTooLong { len: usize },
    #[error("an address in a control message is not a multiaddr")]
    Addr,
    #[error("a relay address exceeds {MAX_RELAY_ADDR_LEN} bytes or is not a multiaddr")]
    RelayAddr,
    #[error("a claim in a control message is damaged")]
    Claim(#[from] ClaimError),
    #[error("{0} bytes follow the control message")]
    Trailing(usize),
    #[error("control code {0} is not known to this version and cannot be sent")]
    UnknownCode(u16),
}

impl Control {
    pub fn parse(body: &[u8]) -> Result<Self, ControlError> {
        let mut cursor = Cursor::new(body);
        let control = match cursor.u16()? {
            GOODBYE => Self::Goodbye(GoodbyeReason::from_code(cursor.u8()?)),
            CLAIMS => Self::Claims(read_claims(&mut cursor)?),
            PUNCH_REQUEST => Self::PunchRequest(Punch::read(&mut cursor)?),
            PUNCH_REPLY => Self::PunchReply(Punch::read(&mut cursor)?),
            RELAY_OFFER => Self::RelayOffer(read_offer(&mut cursor)?),
            unknown => return Ok(Self::Unknown(unknown)),
        };
        match cursor.len() {
            0 => Ok(control),
            extra => Err(ControlError::Trailing(extra)),
        }
    }

    /// The body of a control frame.
    pub fn encode(&self) -> Result<Vec<u8>, ControlError> {
        let mut out = Vec::new();
        match self {
            Self::Goodbye(reason) => {
                out.extend_from_slice(&GOODBYE.to_be_bytes());
                out.push(reason.code());
            }
            Self::Claims(claims) => {
                out.extend_from_slice(&CLAIMS.to_be_bytes());
                emit_claims(claims, &mut out)?;
            }
            Self::PunchRequest(punch) => {
                out.extend_from_slice(&PUNCH_REQUEST.to_be_bytes());
                punch.emit(&mut out)?;
            }
            Self::PunchReply(punch) => {
                out.extend_from_slice(&PUNCH_REPLY.to_be_bytes());
                punch.emit(&mut out)?;
            }
            Self::RelayOffer(addrs) => {
                out.extend_from_slice(&RELAY_OFFER.to_be_bytes());
                emit_offer(addrs, &mut out)?;
            }
            Self::Unknown(code) => return Err(ControlError::UnknownCode(*code)),
        }
        Ok(out)
    }
}

impl GoodbyeReason {
    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Shutdown,
            2 => Self::PathReplaced,
            3 => Self::NotAuthorised,
            4 => Self::ProtocolError,
            _ => Self::Unspecified,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Shutdown => 1,
            Self::PathReplaced => 2,
            Self::NotAuthorised => 3,
            Self::ProtocolError => 4,
            Self::Unspecified => 255,
        }
    }
}

/// `count u8 ‖ claims`
fn read_claims(cursor: &mut Cursor<'_>) -> Result<Vec<AddressClaim>, ControlError> {
    let count = bounded(usize::from(cursor.u8()?), MAX_CLAIMS)?;
    (0..count).map(|_| Ok(claim::read(cursor)?)).collect()
}

fn emit_claims(claims: &[AddressClaim], out: &mut Vec<u8>) -> Result<(), ControlError> {
    out.push(bounded(claims.len(), MAX_CLAIMS)? as u8);
    for claim in claims {
        claim::emit(claim, out);
    }
    Ok(())
}

/// `count u8 ‖ (len u8 ‖ multiaddr)…`
fn read_offer(cursor: &mut Cursor<'_>) -> Result<Vec<Multiaddr>, ControlError> {
    let count = bounded(usize::from(cursor.u8()?), MAX_RELAY_ADDRS)?;
    (0..count).map(|_| relay_offer::parse(cursor.short()?).ok_or(ControlError::RelayAddr)).collect()
}

fn emit_offer(addrs: &[Multiaddr], out: &mut Vec<u8>) -> Result<(), ControlError> {
    out.push(bounded(addrs.len(), MAX_RELAY_ADDRS)? as u8);
    for addr in addrs {
        if !relay_offer::fits(addr) {
            return Err(ControlError::RelayAddr);
        }
        out.push(addr.len() as u8);
        out.extend_from_slice(addr.as_ref());
    }
    Ok(())
}

fn bounded(count: usize, limit: usize) -> Result<usize, ControlError> {
    if count > limit {
        return Err(ControlError::TooMany { count, limit });
    }
    Ok(count)
}

impl Punch {
    /// `attempt u32 ‖ delay u16 ‖ mapping u8 ‖ count u8 ‖ (len u16 ‖ multiaddr)…`
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, ControlError> {
        let attempt = cursor.u32()?;
        let delay_ms = cursor.u16()?;
        let mapping = mapping(cursor.u8()?);
        let count = bounded(usize::from(cursor.u8()?), MAX_PUNCH_ADDRS)?;
        let addrs = (0..count).map(|_| read_addr(cursor)).collect::<Result<_, _>>()?;
        Ok(Self { attempt, delay_ms, mapping, addrs })
    }

    fn emit(&self, out: &mut Vec<u8>) -> Result<(), ControlError> {
        out.extend_from_slice(&self.attempt.to_be_bytes());
        out.extend_from_slice(&self.delay_ms.to_be_bytes());
        out.push(mapping_code(self.mapping));
        out.push(bounded(self.addrs.len(), MAX_PUNCH_ADDRS)? as u8);
        for addr in &self.addrs {
            let bytes: &[u8] = addr.as_ref();
            out.extend_from_slice(&addr_len(bytes.len())?.to_be_bytes());
            out.extend_from_slice(bytes);
        }
        Ok(())
    }
}

/// A code of a later version is no knowledge.
fn mapping(code: u8) -> NatMapping {
    match code {
        1 => NatMapping::EndpointIndependent,
        2 => NatMapping::AddressDependent,
        3 => NatMapping::AddressAndPortDependent,
        _ => NatMapping::Unknown,
    }
}

fn mapping_code(mapping: NatMapping) -> u8 {
    match mapping {
        NatMapping::Unknown => 0,
        NatMapping::EndpointIndependent => 1,
        NatMapping::AddressDependent => 2,
        NatMapping::AddressAndPortDependent => 3,
    }
}

fn read_addr(cursor: &mut Cursor<'_>) -> Result<Multiaddr, ControlError> {
    let len = addr_len(usize::from(cursor.u16()?))?;
    let bytes = cursor.take(usize::from(len))?;
    Multiaddr::try_from(bytes.to_vec()).map_err(|_| ControlError::Addr)
}

fn addr_len(len: usize) -> Result<u16, ControlError> {
    if len > MAX_ADDR_LEN {
        return Err(ControlError::AddrTooLong { len });
    }
    Ok(len as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::tests::{any_claim, any_peer};
    use peerup_types::Protocol;
    use proptest::{collection::vec, prelude::*};

    fn any_addr() -> impl Strategy<Value = Multiaddr> {
        (any::<std::net::IpAddr>(), any::<u16>(), proptest::option::of(any_peer())).prop_map(
            |(ip, port, peer)| {
                let addr = Multiaddr::from(ip).with(Protocol::Udp(port)).with(Protocol::QuicV1);
                match peer {
                    Some(peer) => addr.with(Protocol::P2p(peer)),
                    None => addr,
                }
            },
        )
    }

    fn any_punch() -> impl Strategy<Value = Punch> {
        let mapping = (0u8..4).prop_map(mapping);
        (any::<u32>(), any::<u16>(), mapping, vec(any_addr(), 0..=MAX_PUNCH_ADDRS))
            .prop_map(|(attempt, delay_ms, mapping, addrs)| Punch { attempt, delay_ms, mapping, addrs })
    }

    fn any_control() -> impl Strategy<Value = Control> {
        use GoodbyeReason::*;
        let reason =
            prop::sample::select(vec![Shutdown, PathReplaced, NotAuthorised, ProtocolError, Unspecified]);
        prop_oneof![
            reason.prop_map(Control::Goodbye),
            vec(any_claim(), 0..8).prop_map(Control::Claims),
            any_punch().prop_map(Control::PunchRequest),
            any_punch().prop_map(Control::PunchReply),
            vec(any_addr(), 0..=MAX_RELAY_ADDRS).prop_map(Control::RelayOffer),
        ]
    }

    proptest! {
        #[test]
        fn a_control_message_survives_the_wire(control in any_control()) {
            prop_assert_eq!(Control::parse(&control.encode().unwrap()), Ok(control));
        }

        #[test]
        fn a_control_message_cut_short_or_lengthened_is_refused(
            control in any_control(),
            at in any::<prop::sample::Index>(),
        ) {
            let mut body = control.encode().unwrap();
            prop_assert!(Control::parse(&body[..at.index(body.len())]).is_err());
            body.push(0);
            prop_assert_eq!(Control::parse(&body), Err(ControlError::Trailing(1)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(code in 0..6u16, payload in vec(any::<u8>(), 0..200)) {
            let body = [&code.to_be_bytes()[..], &payload].concat();
            let _ = Control::parse(&body);
        }
    }

    #[test]
    fn codes_of_later_versions_are_passed_over_but_never_sent() {
        assert_eq!(Control::parse(&[0x12, 0x34, 9, 9, 9]), Ok(Control::Unknown(0x1234)));
        assert_eq!(Control::Unknown(9).encode(), Err(ControlError::UnknownCode(9)));
        let reason = Control::parse(&[0, 1, 77]);
        assert_eq!(reason, Ok(Control::Goodbye(GoodbyeReason::Unspecified)));
    }

    #[test]
    fn lists_over_their_limit_are_refused_in_both_directions() {
        let addrs = vec![Multiaddr::empty(); MAX_PUNCH_ADDRS + 1];
        let error = Err(ControlError::TooMany { count: 17, limit: 16 });
        let punch = Punch { attempt: 0, delay_ms: 0, mapping: NatMapping::Unknown, addrs };
        assert_eq!(Control::PunchRequest(punch).encode(), error);
        assert_eq!(Control::parse(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 17]).map(drop), error.map(drop));
        let claims_65 = Control::parse(&[0, 2, 65]);
        assert_eq!(claims_65, Err(ControlError::TooMany { count: 65, limit: 64 }));
        let offers_9 = Control::parse(&[0, 5, 9]);
        assert_eq!(offers_9, Err(ControlError::TooMany { count: 9, limit: 8 }));
        assert_eq!(Control::parse(&[0, 5, 1, 129]), Err(Truncated.into()));
    }

    #[test]
    fn an_over_long_address_is_refused_before_it_is_waited_for() {
        let body = [0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
        assert_eq!(Control::parse(&body), Err(ControlError::AddrTooLong { len: 65_535 }));
    }
}
