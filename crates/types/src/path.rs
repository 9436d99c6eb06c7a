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

/// What the frames ride on. The order is the order of preference for reliable frames on one way: TCP+TLS costs about
/// half of what a QUIC stream costs (ADR 0064).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CarrierKind {
    TcpStream,
    QuicStream,
    QuicDatagram,
    RelayStream,
}

/// Class, family and carrier of one path; `Ord` is preference, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PathKind {
    pub class: PathClass,
    pub family: Family,
    pub carrier: CarrierKind,
}

impl PathKind {
    /// Whether both lead the same way and differ in the carrier at most: nobody would call the other another path.
    pub fn is_same_way(&self, other: &Self) -> bool {
        (self.class, self.family) == (other.class, other.family)
    }
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
    fn any_direct_path_is_preferred_to_any_relayed_one_ipv6_to_ipv4_and_tcp_to_quic() {
        let kind = |class, family, carrier| PathKind { class, family, carrier };
        use {CarrierKind::*, Family::*, PathClass::*};
        let ranked = [
            kind(Direct, Ipv6, TcpStream),
            kind(Direct, Ipv6, QuicStream),
            kind(Direct, Ipv4, TcpStream),
            kind(Direct, Ipv4, QuicStream),
            kind(PeerRelay, Ipv6, RelayStream),
            kind(Relay, Ipv6, RelayStream),
            kind(Relay, Ipv4, RelayStream),
        ];
        assert!(ranked.is_sorted());
    }
}
