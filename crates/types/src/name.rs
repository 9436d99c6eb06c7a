//! Names that are DNS labels: networks, services and nodes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

/// A DNS label (RFC 1123): 1 to 63 characters of `a-z`, `0-9` and inner `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DnsLabel(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: use 1 to 63 characters of a-z, 0-9 and inner -")]
pub struct NameError(pub String);

impl DnsLabel {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The nearest label to what a person or a remote peer wrote: lower-cased, other characters become `-`.
    /// `None` when nothing usable is left.
    pub fn sanitise(text: &str) -> Option<Self> {
        let mapped: String = text
            .chars()
            .take(63)
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        mapped.trim_matches('-').parse().ok()
    }
}

impl FromStr for DnsLabel {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let bytes = text.as_bytes();
        let ends_ok = !text.starts_with('-') && !text.ends_with('-');
        if (1..=63).contains(&bytes.len()) && ends_ok && bytes.iter().all(|b| inner(*b)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError(text.chars().take(64).collect()))
        }
    }
}

impl fmt::Display for DnsLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DnsLabel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_1_to_63_lower_case_letters_digits_and_inner_hyphens() {
        for good in ["a", "home", "my-nas-2", &"x".repeat(63)] {
            assert_eq!(good.parse::<DnsLabel>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "Home", "a.b", "a_b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<DnsLabel>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sanitise_keeps_what_can_be_kept() {
        assert_eq!(DnsLabel::sanitise("Anna's Laptop!").unwrap().as_str(), "anna-s-laptop");
        assert_eq!(DnsLabel::sanitise("…"), None);
    }
}
