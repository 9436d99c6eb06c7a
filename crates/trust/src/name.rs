//! Names that machines give themselves.

use std::fmt;

use peerup_types::PeerId;

/// What a machine calls itself: 1 to 64 of `A-Za-z0-9._-`, not starting with `-` or `.`.
///
/// Names arrive from other machines and end up in YAML, comments, terminals and command lines, so
/// everything that could mean something there is dropped on arrival.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

impl NodeName {
    pub const MAX_LEN: usize = 64;

    /// What is left of `text` after dropping every other character; `None` when that is nothing.
    pub fn sanitise(text: &str) -> Option<Self> {
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let first = |c: &char| matches!(c, '.' | '-');
        let name: String = text.chars().filter(allowed).skip_while(first).take(Self::MAX_LEN).collect();
        (!name.is_empty()).then_some(Self(name))
    }

    /// What a peer that gives no name is called.
    pub fn of_peer(peer: &PeerId) -> Self {
        let id = peer.to_string();
        Self(format!("peer-{}", &id[id.len().saturating_sub(6)..]))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_could_mean_something_elsewhere_is_dropped() {
        let name = |text: &str| NodeName::sanitise(text).map(|name| name.to_string());
        assert_eq!(name("Anna's NAS_2.local").as_deref(), Some("AnnasNAS_2.local"));
        assert_eq!(name("-oProxyCommand=x\n# \u{1b}[31m").as_deref(), Some("oProxyCommandx31m"));
        assert_eq!(name("../../etc").as_deref(), Some("etc"));
        assert_eq!(name(" ..-\0ä"), None);
        assert_eq!(name(&"x".repeat(500)).unwrap().len(), 64);
    }
}
