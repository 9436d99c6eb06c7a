//! Pairing through a relay: its owner hands out codes of a *group*, and whoever joins with one meets all others.
//!
//! ```text
//!  relay's owner                     relay                              machines A, B
//!    peerup relay pair --count 2       │                                     │
//!      tokens, hashed, in a file ─────►│◄── token, name ─────────────────────┤ A joins
//!                                      ├── group, its size, nobody yet ─────►│
//!                                      │◄── token, name ─────────────────────┤ B joins
//!                                      ├── group, its size, A ──────────────►│
//!                                      ├── introduces B ────────────────────►│ A
//! ```
//!
//! - [`Groups`] is the relay's side: which codes are open, who has used them. It keeps hashes of the tokens only.
//! - [`Request`] and [`Response`] cross `/peerup/relay-pair/1.0.0`, [`Introduction`] crosses
//!   `/peerup/peer-notify/1.0.0`. Their bytes are those of the Go original.
//! - [`Memberships`] is a machine's side: the groups it joined, by which relay, how large each may become, and who
//!   has been introduced. A relay cannot introduce more peers than the group was made for, and nobody twice: a peer
//!   that was removed by hand stays removed.
//!
//! The relay vouches for the members: joining with its code is trusting its owner to choose them.

mod group;
mod introduction;
mod membership;
mod message;

use std::{fmt, str::FromStr};

pub use group::{CreateError, Group, Groups, GroupsError, MAX_CODES, Order, PairingFailed, Redeemed};
pub use introduction::Introduction;
pub use membership::{Memberships, MembershipsError, NotIntroduced};
pub use message::{MAX_REQUEST, MAX_RESPONSE, Request, Response};
use peerup_types::PeerId;
use rand_core::CryptoRng;

use crate::NodeName;

/// A group's name: four random bytes, written as eight hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId([u8; 4]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a group ID has eight digits 0-9 and a-f")]
pub struct GroupIdError;

/// A member of a group, as a relay tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub peer: PeerId,
    /// What it calls itself; `None` when it gave no name that can be used.
    pub name: Option<NodeName>,
}

/// Why bytes of a relay or of a joiner are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("the message ends within the {0}")]
    Truncated(&'static str),
    #[error("the message has {0} bytes too many")]
    TrailingBytes(usize),
    #[error("the message begins with {0:#04x}, which means nothing here")]
    Kind(u8),
    #[error("the group ID is not valid")]
    Group(#[from] GroupIdError),
    #[error("a peer ID is not valid")]
    PeerId,
    #[error("the name has {0} bytes, more than {max}", max = NodeName::MAX_LEN)]
    LongName(usize),
}

impl GroupId {
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 4];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for GroupId {
    type Err = GroupIdError;

    fn from_str(text: &str) -> Result<Self, GroupIdError> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| GroupIdError)?;
        bytes.try_into().map(Self).map_err(|_| GroupIdError)
    }
}

/// The groups that an entry of `authorized_keys` names: one, or several with commas between them.
pub fn groups_of(attribute: Option<&str>) -> impl Iterator<Item = GroupId> {
    attribute.unwrap_or_default().split(',').filter_map(|text| text.parse().ok())
}

/// The attribute with one group more.
pub fn with_group(attribute: Option<&str>, group: GroupId) -> String {
    let mut all: Vec<GroupId> = groups_of(attribute).collect();
    if !all.contains(&group) {
        all.push(group);
    }
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The undecoded rest of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self, field: &'static str) -> Result<&'a [u8; N], MessageError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(MessageError::Truncated(field))?;
        self.0 = rest;
        Ok(taken)
    }

    fn take_byte(&mut self, field: &'static str) -> Result<u8, MessageError> {
        self.take::<1>(field).map(|[byte]| *byte)
    }

    fn take_len(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], MessageError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(MessageError::Truncated(field))?;
        self.0 = rest;
        Ok(taken)
    }

    fn take_group(&mut self) -> Result<GroupId, MessageError> {
        let len = self.take_byte("group ID")?;
        let text = std::str::from_utf8(self.take_len(len.into(), "group ID")?).map_err(|_| GroupIdError)?;
        Ok(text.parse()?)
    }

    fn take_name(&mut self) -> Result<Option<NodeName>, MessageError> {
        let len = self.take_byte("name")?;
        let name = self.take_len(len.into(), "name")?;
        Ok(NodeName::sanitise(&String::from_utf8_lossy(name)))
    }

    fn end(self) -> Result<(), MessageError> {
        match self.0.len() {
            0 => Ok(()),
            extra => Err(MessageError::TrailingBytes(extra)),
        }
    }
}

fn put_group(bytes: &mut Vec<u8>, group: GroupId) {
    let text = group.to_string();
    bytes.push(text.len() as u8);
    bytes.extend_from_slice(text.as_bytes());
}

fn put_name(bytes: &mut Vec<u8>, name: Option<&NodeName>) {
    let name = name.map_or("", NodeName::as_str);
    bytes.push(u8::try_from(name.len()).expect("a name has at most 64 bytes"));
    bytes.extend_from_slice(name.as_bytes());
}

/// What a message can count.
fn count(members: &[Member]) -> u8 {
    u8::try_from(members.len()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_eight_digits_and_nothing_else() {
        let group: GroupId = "deadbeef".parse().unwrap();
        assert_eq!(group.to_string(), "deadbeef");
        for wrong in ["", "deadbee", "deadbeef0", "DEADBEEF", "deadbe\nf", "xxxxxxxx"] {
            assert_eq!(wrong.parse::<GroupId>(), Err(GroupIdError), "{wrong:?}");
        }
    }

    #[test]
    fn an_entry_may_be_of_several_groups() {
        let [one, two] = ["00000001", "00000002"].map(|text| text.parse::<GroupId>().unwrap());
        assert_eq!(with_group(None, one), "00000001");
        assert_eq!(with_group(Some("00000001"), one), "00000001");
        assert_eq!(with_group(Some("00000001"), two), "00000001,00000002");
        assert_eq!(groups_of(Some("00000001,00000002,x")).collect::<Vec<_>>(), [one, two]);
        assert_eq!(groups_of(None).count(), 0);
    }
}

#[cfg(test)]
mod testing {
    use peerup_types::PeerId;

    use super::Member;
    use crate::NodeName;

    pub fn peer(fill: u8) -> PeerId {
        PeerId::from_bytes(&[&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20][..], &[fill; 32]].concat()).unwrap()
    }

    pub fn member(fill: u8, name: &str) -> Member {
        Member { peer: peer(fill), name: NodeName::sanitise(name) }
    }
}
