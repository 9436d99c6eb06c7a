//! `api:` who on this machine may talk to the daemon.

use std::{fmt, str::FromStr};

use crate::{
    error::{ConfigError, Excerpt, Problem},
    resolved::Resolved,
    section::Section,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Members of this group may use the local API, besides the owner and root.
    pub group: Option<GroupName>,
}

/// A group of the operating system, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupName(String);

impl GroupName {
    /// What groupadd(8) allows.
    const MAX_LEN: usize = 32;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let begins = |b: u8| b.is_ascii_alphabetic() || b == b'_';
        let named = text.bytes().next().is_some_and(begins) && text.len() <= Self::MAX_LEN;
        if named && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(Problem::Group { found: Excerpt::new(text) })
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Api {
    pub(crate) fn read(root: &Section<'_>) -> Result<Self, ConfigError> {
        Ok(Self { group: root.section("api", &["group"])?.value("group", str::parse)? })
    }

    pub(crate) fn resolved(&self) -> Resolved {
        Resolved::section([("group", Resolved::optional(self.group.as_ref()))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_names_are_those_of_the_system() {
        for good in ["peerup", "_vpn", "net-admin", "a1.b"] {
            assert_eq!(good.parse::<GroupName>().unwrap().as_str(), good);
        }
        for bad in ["", "0", "1000", "-x", "a b", "a:b", "ä", &"x".repeat(33)] {
            assert!(bad.parse::<GroupName>().is_err(), "{bad}");
        }
    }
}
