//! The groups that this machine joined, and whom their relays may still introduce.
//!
//! ```text
//! # comment
//! deadbeef relay=<peer-id> size=3 <peer-id> …
//! ```
//!
//! `size` is what the relay said when this machine joined. With it a relay is bound: all it ever introduces are
//! `size - 1` different peers. Who has been introduced is remembered, also after the user has removed that key.

use std::collections::{BTreeMap, BTreeSet};

use peerup_types::PeerId;

use super::{GroupId, Introduction, Member};
use crate::peer::parse_peer_id;

/// Groups of one machine.
const MAX_GROUPS: usize = 64;
const MAX_BYTES: usize = 1 << 20;
const HEADER: &str = "# Groups that this node joined, and whom their relays have introduced.\n";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memberships(BTreeMap<GroupId, Membership>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Membership {
    relay: PeerId,
    size: u8,
    introduced: BTreeSet<PeerId>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipsError {
    #[error("{0} bytes are too many")]
    TooLarge(usize),
    #[error("line {0} is no line of a group")]
    Line(usize),
}

/// Why an introduction does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotIntroduced {
    #[error("this node is not in group {0}")]
    UnknownGroup(GroupId),
    #[error("group {0} belongs to another relay")]
    OtherRelay(GroupId),
    #[error("group {group} was made for {size} machines, and this would be more")]
    TooMany { group: GroupId, size: u8 },
    #[error("{MAX_GROUPS} groups are joined already")]
    TooManyGroups,
}

impl Memberships {
    pub fn parse(text: &str) -> Result<Self, MembershipsError> {
        if text.len() > MAX_BYTES {
            return Err(MembershipsError::TooLarge(text.len()));
        }
        let mut memberships = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let (group, membership) = read_line(line).ok_or(MembershipsError::Line(number))?;
                memberships.0.insert(group, membership);
            }
        }
        Ok(memberships)
    }

    pub fn to_text(&self) -> String {
        let mut text = HEADER.to_owned();
        for (group, Membership { relay, size, introduced }) in &self.0 {
            let peers: String = introduced.iter().map(|peer| format!(" {peer}")).collect();
            text.push_str(&format!("{group} relay={relay} size={size}{peers}\n"));
        }
        text
    }

    /// This machine has joined a group. Joining it again, after a lost answer, keeps what is known.
    pub fn join(&mut self, group: GroupId, relay: PeerId, size: u8) -> Result<(), NotIntroduced> {
        match self.0.get(&group) {
            Some(known) if known.relay != relay => Err(NotIntroduced::OtherRelay(group)),
            Some(_) => Ok(()),
            None if self.0.len() >= MAX_GROUPS => Err(NotIntroduced::TooManyGroups),
            None => {
                self.0.insert(group, Membership { relay, size, introduced: BTreeSet::new() });
                Ok(())
            }
        }
    }

    /// Whom `sender` introduces for the first time; remembered from here on. `own` is this machine. Either all of it
    /// is allowed or nothing.
    pub fn introduce(
        &mut self,
        sender: PeerId,
        own: PeerId,
        introduction: &Introduction,
    ) -> Result<Vec<Member>, NotIntroduced> {
        let group = introduction.group;
        let known = self.0.get_mut(&group).ok_or(NotIntroduced::UnknownGroup(group))?;
        if known.relay != sender {
            return Err(NotIntroduced::OtherRelay(group));
        }
        let mut introduced = known.introduced.clone();
        let is_new = |member: &&Member| member.peer != own && introduced.insert(member.peer);
        let new: Vec<Member> = introduction.members.iter().filter(is_new).cloned().collect();
        if introduced.len() >= usize::from(known.size) && !new.is_empty() {
            return Err(NotIntroduced::TooMany { group, size: known.size });
        }
        known.introduced = introduced;
        Ok(new)
    }
}

fn read_line(line: &str) -> Option<(GroupId, Membership)> {
    let mut words = line.split_whitespace();
    let group = words.next()?.parse().ok()?;
    let relay = parse_peer_id(words.next()?.strip_prefix("relay=")?).ok()?;
    let size = words.next()?.strip_prefix("size=")?.parse().ok()?;
    let introduced = words.map(parse_peer_id).collect::<Result<_, _>>().ok()?;
    Some((group, Membership { relay, size, introduced }))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    const OWN: u8 = 1;
    const RELAY: u8 = 100;

    #[test]
    fn the_first_of_three_meets_the_second_and_the_third() {
        let mut groups = joined(3);
        assert_eq!(introduce(&mut groups, RELAY, &[2]), Ok(vec![2]));
        assert_eq!(introduce(&mut groups, RELAY, &[2, 3]), Ok(vec![3]));
        assert_eq!(introduce(&mut groups, RELAY, &[2, 3]), Ok(vec![]), "told again, and nothing to do");
    }

    #[test]
    fn one_that_was_away_meets_all_at_once() {
        assert_eq!(introduce(&mut joined(3), RELAY, &[OWN, 2, 3]), Ok(vec![2, 3]));
    }

    #[test]
    fn a_relay_introduces_no_more_than_the_group_was_made_for() {
        let mut groups = joined(3);
        introduce(&mut groups, RELAY, &[2, 3]).unwrap();
        let too_many = NotIntroduced::TooMany { group: group(), size: 3 };
        assert_eq!(introduce(&mut groups, RELAY, &[4]), Err(too_many));
        assert_eq!(introduce(&mut joined(3), RELAY, &[2, 3, 4]), Err(too_many));
        assert_eq!(
            introduce(&mut joined(1), RELAY, &[2]),
            Err(NotIntroduced::TooMany { group: group(), size: 1 })
        );
        assert_eq!(introduce(&mut joined(0), RELAY, &[]), Ok(vec![]));
    }

    #[test]
    fn only_the_relay_of_the_group_introduces() {
        let mut groups = joined(3);
        assert_eq!(introduce(&mut groups, 101, &[2]), Err(NotIntroduced::OtherRelay(group())));
        assert_eq!(groups.join(group(), peer(101), 9), Err(NotIntroduced::OtherRelay(group())));
        let stranger = Introduction { group: "00000000".parse().unwrap(), ..introduction(&[2]) };
        assert_eq!(
            groups.introduce(peer(RELAY), peer(OWN), &stranger),
            Err(NotIntroduced::UnknownGroup(stranger.group))
        );
        assert_eq!(introduce(&mut groups, RELAY, &[2]), Ok(vec![2]));
    }

    #[test]
    fn what_is_known_survives_the_file() {
        let mut groups = joined(3);
        introduce(&mut groups, RELAY, &[2]).unwrap();
        let mut again = Memberships::parse(&groups.to_text()).unwrap();
        assert_eq!(again, groups);
        assert_eq!(introduce(&mut again, RELAY, &[2]), Ok(vec![]));
        again.join(group(), peer(RELAY), 9).unwrap();
        assert_eq!(again, groups, "the size of the first answer stays");
        assert_eq!(Memberships::parse("# \ndeadbeef relay=x size=3"), Err(MembershipsError::Line(2)));
    }

    fn group() -> GroupId {
        "deadbeef".parse().unwrap()
    }

    fn joined(size: u8) -> Memberships {
        let mut groups = Memberships::default();
        groups.join(group(), peer(RELAY), size).unwrap();
        groups
    }

    fn introduction(fills: &[u8]) -> Introduction {
        let members = fills.iter().map(|fill| member(*fill, "x")).collect();
        Introduction { group: group(), members_in_all: 0, members }
    }

    fn introduce(groups: &mut Memberships, sender: u8, fills: &[u8]) -> Result<Vec<u8>, NotIntroduced> {
        let new = groups.introduce(peer(sender), peer(OWN), &introduction(fills))?;
        Ok(new.iter().map(|member| *fills.iter().find(|fill| peer(**fill) == member.peer).unwrap()).collect())
    }
}
