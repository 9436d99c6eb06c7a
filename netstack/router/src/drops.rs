//! Why packets went nowhere, and how many.

use std::fmt;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident => $word:literal,)*) => {
        /// One reason per dropped packet, whoever drops it on the way between TUN and carrier.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl DropReason {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word that status, logs and metrics use.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

drop_reasons! {
    /// It is not one whole IP packet.
    Malformed => "malformed",
    /// Longer than the tunnel's MTU.
    TooBig => "too-big",
    /// To or from a multicast or broadcast address.
    Multicast => "multicast",
    /// It names further nodes that it shall be sent on to.
    SourceRouted => "source-routed",
    /// Outbound, from an address that is not this node's.
    SourceNotOwn => "source-not-own",
    /// Outbound, to this node itself.
    DestinationOwn => "destination-own",
    /// Outbound, to an address that is neither in the overlay nor routed to a peer.
    OutsideOverlay => "outside-overlay",
    /// Outbound, to an overlay address nobody has.
    NoPeer => "no-peer",
    /// Outbound, to a peer known to be offline.
    PeerOffline => "peer-offline",
    /// Outbound, to a peer that could not be connected while the packet could wait.
    ConnectTimeout => "connect-timeout",
    /// Outbound, and the peer's queue was full and its flow had most of it.
    QueueFull => "queue-full",
    /// Outbound, and dropped so that its flow slows down: the flow's packets wait in the peer's queue for too long.
    QueueCongestion => "queue-congestion",
    /// Outbound, and it waited in the peer's queue for longer than it is of use.
    QueueDelay => "queue-delay",
    /// Outbound, and its path closed before it was sent.
    PathClosed => "path-closed",
    /// Inbound, from a peer that is not in the table.
    UnknownPeer => "unknown-peer",
    /// Inbound, from an address that is not the sending peer's.
    Spoofed => "spoofed",
    /// Inbound, to an address that is not this node's.
    NotForUs => "not-for-us",
    /// Inbound, and the TUN device did not take it.
    TunWrite => "tun-write",
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

const COUNT: usize = DropReason::ALL.len();

/// How many packets each reason has cost. Plain numbers: each thread counts for itself and hands over copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropCounters([u64; COUNT]);

impl DropCounters {
    pub const fn new() -> Self {
        Self([0; COUNT])
    }

    pub fn add(&mut self, reason: DropReason) {
        self.add_many(reason, 1);
    }

    pub fn add_many(&mut self, reason: DropReason, packets: u64) {
        let counter = &mut self.0[reason as usize];
        *counter = counter.saturating_add(packets);
    }

    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    pub fn merge(&mut self, other: &Self) {
        for (reason, packets) in other.iter() {
            self.add_many(reason, packets);
        }
    }

    /// Every reason, also those that never occurred.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> {
        DropReason::ALL.iter().map(|reason| (*reason, self.get(*reason)))
    }

    pub fn total(&self) -> u64 {
        self.iter().fold(0, |sum, (_, packets)| sum.saturating_add(packets))
    }
}

impl Default for DropCounters {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reason_has_a_word_and_a_counter_of_its_own() {
        let words: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), COUNT);
        let mut counters = DropCounters::new();
        for (n, reason) in DropReason::ALL.iter().enumerate() {
            counters.add_many(*reason, n as u64);
        }
        let counted: Vec<_> = counters.iter().map(|(_, packets)| packets).collect();
        assert_eq!(counted, (0..COUNT as u64).collect::<Vec<_>>());
    }

    #[test]
    fn merging_adds_up_and_never_wraps() {
        let (mut ours, mut theirs) = (DropCounters::new(), DropCounters::new());
        ours.add(DropReason::Spoofed);
        theirs.add_many(DropReason::Spoofed, 2);
        theirs.add_many(DropReason::TooBig, u64::MAX);
        ours.merge(&theirs);
        ours.add(DropReason::TooBig);
        assert_eq!(ours.get(DropReason::Spoofed), 3);
        assert_eq!((ours.get(DropReason::TooBig), ours.total()), (u64::MAX, u64::MAX));
    }
}
