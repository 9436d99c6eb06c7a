//! `/peerup/peer-notify/1.0.0`: a relay introduces members of a group to one of them.
//!
//! ```text
//! 01
//! group ID length 1 ‖ group ID
//! members with the receiver 1 ‖ count 1
//! per member: ID length u16 BE ‖ ID as base58 text ‖ name length 1 ‖ name ‖ proof 32
//! ```
//!
//! The proof is an HMAC under the member's token, which nobody but the relay could check: it is written as zeros and
//! read as nothing.

use super::{GroupId, Member, MessageError, Reader, count, put_group, put_name};
use crate::peer::parse_peer_id;

const VERSION: u8 = 1;
const PROOF: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    pub group: GroupId,
    /// Members that the relay knows, the receiver included.
    pub members_in_all: u8,
    pub members: Vec<Member>,
}

impl Introduction {
    /// 255 members with the longest names.
    pub const MAX_BYTES: usize = 255 * 300;

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        put_group(&mut bytes, self.group);
        bytes.extend([self.members_in_all, count(&self.members)]);
        for Member { peer, name } in self.members.iter().take(u8::MAX.into()) {
            let peer = peer.to_string();
            let len = u16::try_from(peer.len()).expect("a peer ID has at most 128 characters");
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(peer.as_bytes());
            put_name(&mut bytes, name.as_ref());
            bytes.extend_from_slice(&[0; PROOF]);
        }
        bytes
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader(bytes);
        match reader.take_byte("version")? {
            VERSION => {}
            other => return Err(MessageError::Kind(other)),
        }
        let group = reader.take_group()?;
        let [members_in_all, count] = *reader.take("size")?;
        let members = (0..count).map(|_| read_member(&mut reader)).collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { group, members_in_all, members })
    }
}

fn read_member(reader: &mut Reader<'_>) -> Result<Member, MessageError> {
    let len = u16::from_be_bytes(*reader.take("peer ID")?);
    let text = std::str::from_utf8(reader.take_len(len.into(), "peer ID")?);
    let peer = text.ok().and_then(|text| parse_peer_id(text).ok()).ok_or(MessageError::PeerId)?;
    let name = reader.take_name()?;
    let _: &[u8; PROOF] = reader.take("proof")?;
    Ok(Member { peer, name })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::testing::*, *};

    #[test]
    fn the_bytes_are_those_of_the_original() {
        let introduction = introduction();
        let id = introduction.members[0].peer.to_string();
        let expected =
            [&b"\x01\x08deadbeef\x03\x01\x00"[..], &[id.len() as u8], id.as_bytes(), b"\x03nas", &[0; 32]]
                .concat();
        assert_eq!(introduction.encode(), expected);
        assert_eq!(Introduction::parse(&expected), Ok(introduction));
    }

    #[test]
    fn what_is_cut_or_too_long_or_no_peer_is_refused() {
        let good = introduction().encode();
        for len in 0..good.len() {
            assert!(matches!(Introduction::parse(&good[..len]), Err(MessageError::Truncated(_))), "{len}");
        }
        assert_eq!(Introduction::parse(&[&good[..], &[7]].concat()), Err(MessageError::TrailingBytes(1)));
        let mut other = good.clone();
        other[0] = 2;
        assert_eq!(Introduction::parse(&other), Err(MessageError::Kind(2)));
        let mut other = good;
        other[14] = b'0';
        assert_eq!(Introduction::parse(&other), Err(MessageError::PeerId));
    }

    proptest! {
        #[test]
        fn damaged_introductions_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, value: u8) {
            let _ = Introduction::parse(&bytes);
            let mut good = introduction().encode();
            let at = at.index(good.len());
            good[at] = value;
            let _ = Introduction::parse(&good);
        }
    }

    fn introduction() -> Introduction {
        let members = vec![member(0x22, "nas")];
        Introduction { group: "deadbeef".parse().unwrap(), members_in_all: 3, members }
    }
}
