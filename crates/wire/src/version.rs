//! Protocol versions: both sides name the range they speak, both pick the highest common one.

/// The version this build speaks best.
pub const PROTOCOL_VERSION: u16 = 1;

/// A non-empty range of protocol versions; versions count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    min: u16,
    max: u16,
}

/// No version is spoken by both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this side speaks protocol {ours}, the peer {theirs}")]
pub struct NoCommonVersion {
    pub ours: VersionRange,
    pub theirs: VersionRange,
}

impl VersionRange {
    /// What this build speaks: its own version and, from version 2 on, the one before.
    pub const SUPPORTED: Self =
        Self { min: if PROTOCOL_VERSION > 1 { PROTOCOL_VERSION - 1 } else { 1 }, max: PROTOCOL_VERSION };

    /// `None` for an empty range and for version 0, which does not exist.
    pub fn new(min: u16, max: u16) -> Option<Self> {
        (1 <= min && min <= max).then_some(Self { min, max })
    }

    pub fn min(self) -> u16 {
        self.min
    }

    pub fn max(self) -> u16 {
        self.max
    }

    /// The highest version both ranges hold. Both sides come to the same answer without another message.
    pub fn highest_common(self, theirs: Self) -> Result<u16, NoCommonVersion> {
        let candidate = self.max.min(theirs.max);
        if candidate < self.min || candidate < theirs.min {
            return Err(NoCommonVersion { ours: self, theirs });
        }
        Ok(candidate)
    }
}

impl std::fmt::Display for VersionRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.min == self.max {
            return write!(f, "{}", self.max);
        }
        write!(f, "{} to {}", self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(min: u16, max: u16) -> VersionRange {
        VersionRange::new(min, max).unwrap()
    }

    #[test]
    fn a_build_talks_to_the_version_before_and_the_version_after() {
        assert_eq!(range(4, 5).highest_common(range(3, 4)), Ok(4));
        assert_eq!(range(4, 5).highest_common(range(5, 6)), Ok(5));
        assert_eq!(range(4, 5).highest_common(range(4, 5)), Ok(5));
    }

    #[test]
    fn ranges_that_do_not_meet_are_an_error_that_names_both() {
        let error = range(4, 5).highest_common(range(1, 3)).unwrap_err();
        assert_eq!(error.to_string(), "this side speaks protocol 4 to 5, the peer 1 to 3");
    }

    #[test]
    fn empty_ranges_and_version_zero_do_not_exist() {
        assert_eq!(VersionRange::new(2, 1), None);
        assert_eq!(VersionRange::new(0, 1), None);
    }

    proptest! {
        #[test]
        fn both_sides_pick_the_same_version_and_both_speak_it(
            (a, b, c, d) in (1..9u16, 1..9u16, 1..9u16, 1..9u16)
        ) {
            let (ours, theirs) = (range(a.min(b), a.max(b)), range(c.min(d), c.max(d)));
            let common = ours.highest_common(theirs);
            prop_assert_eq!(common.ok(), theirs.highest_common(ours).ok());
            let spoken_by_both = (1..9).rev().find(|v| {
                (ours.min()..=ours.max()).contains(v) && (theirs.min()..=theirs.max()).contains(v)
            });
            prop_assert_eq!(common.ok(), spoken_by_both);
        }
    }
}
