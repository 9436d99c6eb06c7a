//! NAT boxes: a router whose outside is on a segment (or behind another NAT) and whose inside is a segment of its own.
//!
//! The kinds are named by RFC 4787. All drop unsolicited packets from outside without a word (address- and
//! port-dependent filtering, which is what a Linux router does), and differ in the mapping.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use crate::host::{Host, Link};
use crate::segment::Segment;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// Endpoint-independent mapping, port kept where it is free.
    EndpointIndependent,
    /// Endpoint-independent mapping onto another port: all of them lie in 10000–19999.
    PortShifting,
    /// Address- and port-dependent mapping: a random port for every flow.
    Symmetric,
}

impl NatKind {
    /// The statement that translates packets to `outside`.
    ///
    /// The kernel re-uses a source's mapping for its next flow when the port lies in the range and nothing asks
    /// for randomness, so a plain range is endpoint-independent; the range lies outside of the ephemeral ports,
    /// so that a port is never kept.
    fn rules(self) -> &'static str {
        match self {
            Self::EndpointIndependent => "oifname @wan masquerade",
            Self::PortShifting => {
                "oifname @wan meta l4proto { tcp, udp } masquerade to :10000-19999
                 oifname @wan masquerade"
            }
            Self::Symmetric => "oifname @wan masquerade fully-random",
        }
    }
}

/// A NAT box; clones name the same box.
#[derive(Clone)]
pub struct Nat {
    router: Host,
    lan: Segment,
    next_address: Arc<AtomicU32>,
}

impl Nat {
    pub(crate) fn start(router: Host, lan: Segment, kind: NatKind) -> Result<Self> {
        let gateway = lan.ipv4(1)?;
        router.attach(&lan, &gateway.to_string())?;
        router.plumb("echo 1 > /proc/sys/net/ipv4/ip_forward")?;
        router.plumb(&format!("nft -f - <<'RULES'\n{}\nRULES", ruleset(kind)))?;
        Ok(Self { router, lan, next_address: Arc::new(AtomicU32::new(2)) })
    }

    pub fn name(&self) -> &str {
        self.router.name()
    }

    /// Puts the outside on a segment.
    pub fn on(self, segment: &Segment, address: &str) -> Result<Self> {
        let outside = self.router.attach(segment, address)?;
        self.translate(&outside)?;
        Ok(self)
    }

    /// Puts the outside behind another NAT (a home router behind a carrier's).
    pub fn behind(self, carrier: &Nat) -> Result<Self> {
        let outside = carrier.adopt(&self.router)?;
        self.translate(&outside)?;
        Ok(self)
    }

    fn translate(&self, outside: &Link) -> Result<()> {
        self.router.plumb(&format!(
            "nft add element ip nat wan '{{ {0} }}'\nnft add element inet filter wan '{{ {0} }}'",
            outside.name
        ))?;
        Ok(())
    }

    /// Drops all UDP between inside and outside.
    pub fn block_udp(self) -> Result<Self> {
        self.router.plumb("nft add rule inet filter forward meta l4proto udp drop")?;
        Ok(self)
    }

    pub(crate) fn adopt(&self, host: &Host) -> Result<Link> {
        let address = self.lan.ipv4(self.next_address.fetch_add(1, Ordering::Relaxed))?;
        let link = host.attach(&self.lan, &address.to_string())?;
        host.default_route(self.lan.ipv4(1)?)?;
        Ok(link)
    }

    /// The box itself: for captures, counters and faults on its outside.
    pub fn router(&self) -> &Host {
        &self.router
    }

    pub fn lan(&self) -> &Segment {
        &self.lan
    }

    /// Forgets every mapping, as a box that was switched off and on.
    pub fn forget_mappings(&self) -> Result<()> {
        // conntrack entries go when the hooks that need them go.
        let rules = "nft list ruleset > /run/rules; nft flush ruleset; nft -f /run/rules";
        self.router.plumb(rules)?;
        Ok(())
    }
}

fn ruleset(kind: NatKind) -> String {
    format!(
        "table ip nat {{
           set wan {{ type ifname; }}
           chain postrouting {{
             type nat hook postrouting priority srcnat;
             {}
           }}
         }}
         table inet filter {{
           set wan {{ type ifname; }}
           chain input {{
             type filter hook input priority filter;
             iifname @wan ct state new,invalid drop
           }}
           chain forward {{
             type filter hook forward priority filter;
             iifname @wan ct state new,invalid drop
           }}
         }}",
        kind.rules()
    )
}
