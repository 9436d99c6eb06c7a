//! `/peerup/relay-pair/1.0.0`: a machine shows its token, the relay answers with the group.
//!
//! ```text
//! request                        response                             refusal
//!   token         16               01                                   00
//!   name length    1  ≤ 64         group ID length  1                   message length  1
//!   name                           group ID         ASCII               message
//!                                  group size       1  codes in it
//!                                  count            1
//!                                  per member: ID length 1 ‖ ID multihash ‖ name length 1 ‖ name
//! ```

use super::{GroupId, Member, MessageError, Reader, count, put_group, put_name};
use crate::{NodeName, Token, peer::peer_from_bytes};

/// A token and the longest name.
pub const MAX_REQUEST: usize = 16 + 1 + NodeName::MAX_LEN;
/// 255 members with long IDs and names, and what is before them.
pub const MAX_RESPONSE: usize = 255 * 300;

const REFUSED: u8 = 0;
const JOINED: u8 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub token: Token<16>,
    pub name: Option<NodeName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    Joined {
        group: GroupId,
        /// As many machines can join it.
        size: u8,
        /// Those that have, without the one that asks.
        members: Vec<Member>,
    },
    /// The message is the same whatever the reason.
    Refused(String),
}

impl Request {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.token.as_bytes().to_vec();
        put_name(&mut bytes, self.name.as_ref());
        bytes
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader(bytes);
        let token = Token::new(*reader.take("token")?);
        match reader.0.first() {
            Some(len) if usize::from(*len) > NodeName::MAX_LEN => {
                return Err(MessageError::LongName((*len).into()));
            }
            Some(_) | None => {}
        }
        let name = reader.take_name()?;
        reader.end()?;
        Ok(Self { token, name })
    }
}

impl Response {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Joined { group, size, members } => {
                let mut bytes = vec![JOINED];
                put_group(&mut bytes, *group);
                bytes.extend([*size, count(members)]);
                for Member { peer, name } in members.iter().take(u8::MAX.into()) {
                    let peer = peer.to_bytes();
                    bytes.push(u8::try_from(peer.len()).expect("a peer ID has at most 66 bytes"));
                    bytes.extend_from_slice(&peer);
                    put_name(&mut bytes, name.as_ref());
                }
                bytes
            }
            Self::Refused(message) => {
                let message = &message.as_bytes()[..message.len().min(u8::MAX.into())];
                [&[REFUSED, message.len() as u8], message].concat()
            }
        }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader(bytes);
        let response = match reader.take_byte("kind")? {
            JOINED => {
                let group = reader.take_group()?;
                let [size, count] = *reader.take("size")?;
                let members = (0..count).map(|_| read_member(&mut reader)).collect::<Result<_, _>>()?;
                Self::Joined { group, size, members }
            }
            REFUSED => {
                let len = reader.take_byte("message")?;
                let message = reader.take_len(len.into(), "message")?;
                let printable = |c: &char| !c.is_control();
                Self::Refused(String::from_utf8_lossy(message).chars().filter(printable).collect())
            }
            other => return Err(MessageError::Kind(other)),
        };
        reader.end()?;
        Ok(response)
    }
}

fn read_member(reader: &mut Reader<'_>) -> Result<Member, MessageError> {
    let len = reader.take_byte("peer ID")?;
    let peer = peer_from_bytes(reader.take_len(len.into(), "peer ID")?).ok_or(MessageError::PeerId)?;
    Ok(Member { peer, name: reader.take_name()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::testing::*, *};

    #[test]
    fn the_bytes_are_those_of_the_original() {
        let request = Request {
            token: Token::new(std::array::from_fn(|index| index as u8)),
            name: NodeName::sanitise("nas"),
        };
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        assert_eq!(hex(&request.encode()), "000102030405060708090a0b0c0d0e0f036e6173");
        let expected = format!("0108{}0301 26 002408011220{} 036e6173", hex(b"deadbeef"), "22".repeat(32));
        assert_eq!(hex(&joined().encode()), expected.replace(' ', ""));
        assert_eq!(hex(&Response::Refused("no".into()).encode()), "00026e6f");
        assert_eq!(Request::parse(&request.encode()), Ok(request));
        assert_eq!(Response::parse(&joined().encode()), Ok(joined()));
    }

    #[test]
    fn a_message_cut_anywhere_or_followed_by_more_is_refused() {
        let good = joined().encode();
        for len in 0..good.len() {
            assert!(matches!(Response::parse(&good[..len]), Err(MessageError::Truncated(_))), "{len}");
        }
        assert_eq!(Response::parse(&[&good[..], &[0]].concat()), Err(MessageError::TrailingBytes(1)));
        assert_eq!(Response::parse(&[2]), Err(MessageError::Kind(2)));
        let long = [&[0; 16][..], &[65], &[b'x'; 65]].concat();
        assert_eq!(Request::parse(&long), Err(MessageError::LongName(65)));
    }

    #[test]
    fn a_relay_cannot_speak_to_the_terminal() {
        let refused = Response::parse(&Response::Refused("no\u{1b}[31m\n".into()).encode());
        assert_eq!(refused, Ok(Response::Refused("no[31m".into())));
        let mut bytes = joined().encode();
        let at = bytes.len() - 3;
        bytes[at..].copy_from_slice(b"\x1b\n#");
        let Ok(Response::Joined { members, .. }) = Response::parse(&bytes) else { panic!("it was refused") };
        assert_eq!(members[0].name, None);
    }

    #[test]
    fn the_largest_answer_is_within_its_bound() {
        let members = vec![member(1, &"x".repeat(64)); 255];
        let response = Response::Joined { group: "deadbeef".parse().unwrap(), size: 255, members };
        assert!(response.encode().len() <= MAX_RESPONSE);
        assert_eq!(Response::parse(&response.encode()), Ok(response));
    }

    proptest! {
        #[test]
        fn damaged_messages_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at: prop::sample::Index, value: u8) {
            let _ = (Request::parse(&bytes), Response::parse(&bytes));
            let mut good = joined().encode();
            let at = at.index(good.len());
            good[at] = value;
            let _ = Response::parse(&good);
        }
    }

    fn joined() -> Response {
        Response::Joined { group: "deadbeef".parse().unwrap(), size: 3, members: vec![member(0x22, "nas")] }
    }
}
