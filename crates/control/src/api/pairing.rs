//! `invite` and `join`.

use std::net::Ipv4Addr;

use peerup_types::PeerId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::error::ApiError;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InviteRequest {
    /// What the inviter calls itself; its configured name when absent.
    #[serde(default)]
    pub name: Option<String>,
    pub ttl_s: u64,
}

/// The life of an invite: one `Code`, any number of `Attempt`s and `Warning`s, then exactly one of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum InviteEvent {
    Code {
        code: String,
        expires_at: Timestamp,
    },
    /// Someone tried and failed; `left` failures remain before the code burns.
    Attempt {
        reason: String,
        left: u32,
    },
    /// The code is good, and something else stands in the way of the joiner.
    Warning {
        text: String,
        /// The next command to try.
        #[serde(default)]
        hint: Option<String>,
    },
    Joined {
        #[schemars(with = "String")]
        peer_id: PeerId,
        name: String,
        address: Option<Ipv4Addr>,
    },
    Expired,
    Burned,
    /// The invite could not be kept open.
    Failed(ApiError),
}

impl InviteEvent {
    /// Whether no other event follows.
    pub fn is_last(&self) -> bool {
        match self {
            Self::Code { .. } | Self::Attempt { .. } | Self::Warning { .. } => false,
            Self::Joined { .. } | Self::Expired | Self::Burned | Self::Failed(_) => true,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JoinRequest {
    pub code: String,
    /// What the joiner calls itself; its configured name when absent.
    #[serde(default)]
    pub name: Option<String>,
}

/// A code admits whoever holds it, so it stays out of logs.
impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JoinReport {
    /// Whose code it was: the inviting machine, or the relay of a group.
    #[schemars(with = "String")]
    pub inviter: PeerId,
    pub inviter_name: Option<String>,
    /// This machine's address in the overlay.
    pub address: Option<Ipv4Addr>,
    pub inviter_address: Option<Ipv4Addr>,
    /// Whether the inviter's relay admits this machine from here on.
    pub relay_authorised: bool,
    /// What a code of `peerup relay pair` joined.
    #[serde(default)]
    pub group: Option<GroupReport>,
}

/// A group of a relay that this machine has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupReport {
    pub id: String,
    /// As many machines can join it.
    pub size: u8,
    /// Those that have, besides this one.
    pub members: Vec<GroupMember>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupMember {
    #[schemars(with = "String")]
    pub peer_id: PeerId,
    pub name: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_survives_the_trip_and_names_itself() {
        let events = [
            InviteEvent::Code { code: "AAAA-BBBB".into(), expires_at: Timestamp::from_unix(60) },
            InviteEvent::Attempt { reason: "wrong code".into(), left: 4 },
            InviteEvent::Warning { text: "the relay is shy".into(), hint: Some("ask its owner".into()) },
            InviteEvent::Joined { peer_id: PeerId::random(), name: "home".into(), address: None },
            InviteEvent::Expired,
            InviteEvent::Burned,
            InviteEvent::Failed(ApiError::failure("relay lost")),
        ];
        for event in events {
            let text = serde_json::to_string(&event).unwrap();
            assert!(text.starts_with(r#"{"event":""#), "{text}");
            assert_eq!(serde_json::from_str::<InviteEvent>(&text).unwrap(), event);
        }
    }

    #[test]
    fn a_code_is_not_printed_by_debug() {
        let request = JoinRequest { code: "SECRET".into(), name: None };
        assert!(!format!("{request:?}").contains("SECRET"));
    }
}
