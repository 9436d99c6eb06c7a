//! What a user may say about carriers.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `vpn.carrier`: which of a direct path's carriers packets take (docs/adr/0056).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CarrierChoice {
    /// Each flow the one that suits it.
    #[default]
    Auto,
    /// Reliable streams for everything.
    Stream,
    /// Datagrams for everything that fits into one.
    Datagram,
}

impl CarrierChoice {
    pub const ALL: [Self; 3] = [Self::Auto, Self::Stream, Self::Datagram];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Stream => "stream",
            Self::Datagram => "datagram",
        }
    }
}

impl FromStr for CarrierChoice {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|choice| choice.as_str() == text).ok_or(())
    }
}
