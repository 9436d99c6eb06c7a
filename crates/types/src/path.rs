//! Kinds of path, ordered by preference.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many other machines carry the packets. The order is the order of preference (DESIGN §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathClass {
    Direct,
    PeerRelay,
    Relay,
}

/// Address family of the underlay; IPv6 is preferred because it needs no translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ipv6,
    Ipv4,
}

/// What the frames ride on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CarrierKind {
    QuicDatagram,
    QuicStream,
    TcpStream,
    RelayStream,
}

/// Class, family and carrier of one path; `Ord` is preference, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PathKind {
    pub class: PathClass,
    pub family: Family,
    pub carrier: CarrierKind,
}

/// One path, unique within the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PathId(pub u64);

macro_rules! display_words {
    ($type:ty { $($variant:ident => $word:literal),* $(,)? }) => {
        impl $type {
            /// The word that status, logs and metrics use.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

display_words!(PathClass { Direct => "direct", PeerRelay => "peer-relay", Relay => "relay" });
display_words!(Family { Ipv6 => "ipv6", Ipv4 => "ipv4" });
display_words!(CarrierKind {
    QuicDatagram => "quic-datagram",
    QuicStream => "quic-stream",
    TcpStream => "tcp-stream",
    RelayStream => "relay-stream",
});

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "path-{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_direct_path_is_preferred_to_any_relayed_one_and_ipv6_to_ipv4() {
        let kind = |class, family, carrier| PathKind { class, family, carrier };
        use {CarrierKind::*, Family::*, PathClass::*};
        let ranked = [
            kind(Direct, Ipv6, QuicStream),
            kind(Direct, Ipv4, QuicStream),
            kind(Direct, Ipv4, TcpStream),
            kind(PeerRelay, Ipv6, RelayStream),
            kind(Relay, Ipv6, RelayStream),
            kind(Relay, Ipv4, RelayStream),
        ];
        assert!(ranked.is_sorted());
    }
}
