//! The relay's groups: which codes are open and who has used which.
//!
//! ```text
//! # comment
//! deadbeef until=1767225600 [members-until=1769817600] [network=my-crew]
//! deadbeef code=<SHA-256 of the token, 64 hex> [used=<peer-id>]
//! ```
//!
//! The file is the state, so a relay that restarts loses no code, and codes can be made before it runs. A code is
//! good for one machine; that machine may show it again while it lives, because its first answer may have been
//! lost with the connection. Whatever is wrong with a token, the answer is the same [`PairingFailed`].

use std::{collections::BTreeMap, fmt::Write};

use peerup_types::{DnsLabel, PeerId};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::GroupId;
use crate::{Token, peer::parse_peer_id};

/// Codes of one group.
pub const MAX_CODES: u8 = 100;
/// Groups with open codes at once: a household makes one a year.
const MAX_GROUPS: usize = 64;
const MAX_BYTES: usize = 1 << 20;
const HEADER: &str =
    "# Groups of `peerup relay pair`. The relay reads and changes this file; codes are hashed.\n";

type Hash = [u8; 32];

/// All groups whose codes have not expired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups(BTreeMap<GroupId, Group>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Unix time at which open codes are void.
    pub until: u64,
    /// Unix time at which the relay stops admitting the members.
    pub members_until: Option<u64>,
    /// The network that the codes name.
    pub network: Option<DnsLabel>,
    codes: Vec<Slot>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    token: Hash,
    used: Option<PeerId>,
}

/// What a new group is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// 1 to [`MAX_CODES`].
    pub codes: u8,
    pub until: u64,
    pub members_until: Option<u64>,
    pub network: Option<DnsLabel>,
}

/// A machine has used a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redeemed {
    pub group: GroupId,
    pub size: u8,
    pub members_until: Option<u64>,
    /// The code was open before.
    pub first: bool,
}

/// The only thing that a joiner is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pairing failed")]
pub struct PairingFailed;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    #[error("a group has 1 to {MAX_CODES} codes")]
    Count,
    #[error("{MAX_GROUPS} groups have open codes already")]
    Full,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupsError {
    #[error("{0} bytes are too many")]
    TooLarge(usize),
    #[error("line {0} is no line of a group")]
    Line(usize),
}

impl Groups {
    pub fn parse(text: &str) -> Result<Self, GroupsError> {
        if text.len() > MAX_BYTES {
            return Err(GroupsError::TooLarge(text.len()));
        }
        let mut groups = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                groups.read_line(line).ok_or(GroupsError::Line(number))?;
            }
        }
        Ok(groups)
    }

    fn read_line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_whitespace();
        let id: GroupId = words.next()?.parse().ok()?;
        let mut values: BTreeMap<&str, &str> = BTreeMap::new();
        for word in words {
            let (key, value) = word.split_once('=')?;
            if values.insert(key, value).is_some() {
                return None;
            }
        }
        if let Some(until) = values.remove("until") {
            let group = Group {
                until: until.parse().ok()?,
                members_until: values.remove("members-until").map(str::parse).transpose().ok()?,
                network: values.remove("network").map(str::parse).transpose().ok()?,
                codes: Vec::new(),
            };
            let fresh = self.0.insert(id, group).is_none();
            return (fresh && values.is_empty()).then_some(());
        }
        let token = data_encoding::HEXLOWER.decode(values.remove("code")?.as_bytes()).ok()?;
        let used = values.remove("used").map(parse_peer_id).transpose().ok()?;
        let codes = &mut self.0.get_mut(&id)?.codes;
        codes.push(Slot { token: token.try_into().ok()?, used });
        (values.is_empty() && codes.len() <= MAX_CODES.into()).then_some(())
    }

    pub fn to_text(&self) -> String {
        let mut text = HEADER.to_owned();
        for (id, group) in &self.0 {
            group.write(*id, &mut text);
        }
        text
    }

    /// Makes a group and its tokens, which are nowhere else from here on.
    pub fn create(
        &mut self,
        order: Order,
        unix_now: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<(GroupId, Vec<Token<16>>), CreateError> {
        if !(1..=MAX_CODES).contains(&order.codes) {
            return Err(CreateError::Count);
        }
        self.0.retain(|_, group| group.until > unix_now);
        if self.0.len() >= MAX_GROUPS {
            return Err(CreateError::Full);
        }
        let mut id = GroupId::random(rng);
        while self.0.contains_key(&id) {
            id = GroupId::random(rng);
        }
        let tokens: Vec<Token<16>> = (0..order.codes).map(|_| Token::random(rng)).collect();
        let codes = tokens.iter().map(|token| Slot { token: hash(token), used: None }).collect();
        let Order { until, members_until, network, .. } = order;
        self.0.insert(id, Group { until, members_until, network, codes });
        Ok((id, tokens))
    }

    /// Voids the open codes of a group; its members stay. False when there is no such group.
    pub fn revoke(&mut self, group: GroupId) -> bool {
        self.0.remove(&group).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.0.iter().map(|(id, group)| (*id, group))
    }

    /// When the last code that nobody has used is void; `None` when none is open.
    pub fn open_until(&self, unix_now: u64) -> Option<u64> {
        let unused = self.0.values().filter(|group| group.codes.iter().any(|slot| slot.used.is_none()));
        unused.map(|group| group.until).filter(|until| *until > unix_now).max()
    }

    /// A machine shows a token. Every slot is compared, and in constant time, so that how long it takes tells nothing.
    pub fn redeem(
        &mut self,
        token: &Token<16>,
        peer: PeerId,
        unix_now: u64,
    ) -> Result<Redeemed, PairingFailed> {
        let shown = hash(token);
        let mut found = None;
        for (id, group) in &self.0 {
            for (index, slot) in group.codes.iter().enumerate() {
                if bool::from(slot.token.ct_eq(&shown)) {
                    found = Some((*id, index));
                }
            }
        }
        let (id, index) = found.ok_or(PairingFailed)?;
        let group = self.0.get_mut(&id).ok_or(PairingFailed)?;
        let is_member = group.codes.iter().any(|slot| slot.used == Some(peer));
        let slot = &mut group.codes[index];
        let first = match slot.used {
            _ if group.until <= unix_now => return Err(PairingFailed),
            // One machine cannot use up what was made for others.
            None if is_member => return Err(PairingFailed),
            None => true,
            Some(by) if by == peer => false,
            Some(_) => return Err(PairingFailed),
        };
        slot.used = Some(peer);
        Ok(Redeemed { group: id, size: group.size(), members_until: group.members_until, first })
    }
}

impl Group {
    pub fn size(&self) -> u8 {
        u8::try_from(self.codes.len()).unwrap_or(u8::MAX)
    }

    /// Who has used a code.
    pub fn members(&self) -> impl Iterator<Item = PeerId> {
        self.codes.iter().filter_map(|slot| slot.used)
    }

    fn write(&self, id: GroupId, text: &mut String) {
        let Self { until, members_until, network, codes } = self;
        let mut line = format!("{id} until={until}");
        if let Some(until) = members_until {
            let _ = write!(line, " members-until={until}");
        }
        if let Some(network) = network {
            let _ = write!(line, " network={network}");
        }
        text.push_str(&line);
        for Slot { token, used } in codes {
            let _ = write!(text, "\n{id} code={}", data_encoding::HEXLOWER.encode(token));
            if let Some(peer) = used {
                let _ = write!(text, " used={peer}");
            }
        }
        text.push('\n');
    }
}

fn hash(token: &Token<16>) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::{super::testing::peer, *};

    const NOW: u64 = 1_000;

    #[test]
    fn a_code_is_good_for_one_machine_which_may_ask_again() {
        let (mut groups, group, tokens) = groups(2);
        assert_eq!(groups.open_until(NOW), Some(NOW + 60));
        let first = groups.redeem(&tokens[0], peer(1), NOW).unwrap();
        assert_eq!(first, Redeemed { group, size: 2, members_until: None, first: true });
        assert!(!groups.redeem(&tokens[0], peer(1), NOW).unwrap().first);
        assert_eq!(groups.redeem(&tokens[0], peer(2), NOW), Err(PairingFailed));
        assert!(groups.redeem(&tokens[1], peer(2), NOW).unwrap().first);
        assert_eq!(groups.open_until(NOW), None, "nobody else can use any of them");
        assert_eq!(groups.iter().next().unwrap().1.members().collect::<Vec<_>>(), [peer(1), peer(2)]);
    }

    #[test]
    fn one_machine_cannot_use_the_codes_of_others() {
        let (mut groups, _, tokens) = groups(2);
        groups.redeem(&tokens[0], peer(1), NOW).unwrap();
        assert_eq!(groups.redeem(&tokens[1], peer(1), NOW), Err(PairingFailed));
        groups.redeem(&tokens[1], peer(2), NOW).unwrap();
    }

    #[test]
    fn wrong_used_expired_and_revoked_codes_all_fail_alike() {
        let (mut groups, group, tokens) = groups(1);
        assert_eq!(groups.redeem(&Token::new([9; 16]), peer(1), NOW), Err(PairingFailed));
        assert_eq!(groups.redeem(&tokens[0], peer(1), NOW + 60), Err(PairingFailed));
        assert_eq!(groups.open_until(NOW), Some(NOW + 60));
        assert_eq!(groups.open_until(NOW + 60), None);
        assert!(groups.revoke(group) && !groups.revoke(group));
        assert_eq!(groups.redeem(&tokens[0], peer(1), NOW), Err(PairingFailed));
    }

    #[test]
    fn the_file_says_everything_but_the_tokens() {
        let mut groups = Groups::default();
        let order = Order {
            codes: 2,
            until: NOW + 60,
            members_until: Some(NOW + 3600),
            network: Some("my-crew".parse().unwrap()),
        };
        let (_, tokens) = groups.create(order, NOW, &mut StdRng::seed_from_u64(1)).unwrap();
        groups.redeem(&tokens[1], peer(1), NOW).unwrap();
        let text = groups.to_text();
        for token in &tokens {
            assert!(!text.contains(&data_encoding::HEXLOWER.encode(token.as_bytes())));
        }
        let mut again = Groups::parse(&text).unwrap();
        assert_eq!(again, groups);
        assert!(!again.redeem(&tokens[1], peer(1), NOW).unwrap().first);
    }

    #[test]
    fn a_group_has_a_hundred_codes_at_most_and_dead_groups_make_room() {
        let mut groups = Groups::default();
        let rng = &mut StdRng::seed_from_u64(2);
        for codes in [0, MAX_CODES + 1] {
            assert_eq!(groups.create(order(codes), NOW, rng).unwrap_err(), CreateError::Count);
        }
        for _ in 0..MAX_GROUPS {
            groups.create(order(1), NOW, rng).unwrap();
        }
        assert_eq!(groups.create(order(1), NOW, rng).unwrap_err(), CreateError::Full);
        groups.create(Order { until: NOW + 120, ..order(1) }, NOW + 60, rng).unwrap();
        assert_eq!(groups.iter().count(), 1);
    }

    #[test]
    fn damaged_files_are_refused_with_their_line() {
        for wrong in [
            "deadbeef",
            "deadbeef until=soon",
            "deadbeef until=1 until=2",
            "deadbeef until=1 colour=red",
            "deadbeef code=00",
            "deadbeef until=1\ndeadbeef code=00",
        ] {
            assert!(matches!(Groups::parse(wrong), Err(GroupsError::Line(_))), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_kept(text in "\\PC{0,200}", line in "[0-9a-f]{8} (until|code|used)=[0-9a-f]{1,64}") {
            for text in [text, line] {
                if let Ok(groups) = Groups::parse(&text) {
                    prop_assert_eq!(Groups::parse(&groups.to_text()), Ok(groups));
                }
            }
        }
    }

    fn order(codes: u8) -> Order {
        Order { codes, until: NOW + 60, members_until: None, network: None }
    }

    fn groups(codes: u8) -> (Groups, GroupId, Vec<Token<16>>) {
        let mut groups = Groups::default();
        let (id, tokens) = groups.create(order(codes), NOW, &mut StdRng::seed_from_u64(7)).unwrap();
        (groups, id, tokens)
    }
}
