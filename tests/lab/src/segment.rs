//! A segment: one Ethernet, a bridge in the laboratory's switch room.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use ipnet::IpNet;

use crate::anchor::Anchor;

/// Hosts on one segment reach each other without a router; clones name the same segment.
#[derive(Clone)]
pub struct Segment {
    inner: Arc<SegmentInner>,
}

struct SegmentInner {
    name: String,
    prefixes: Vec<IpNet>,
    bridge: String,
    next_port: AtomicU32,
}

impl Segment {
    /// `prefixes` as "203.0.113.0/24 2001:db8::/64"; `number` is unique in the laboratory.
    pub(crate) fn start(anchor: &Anchor, number: u32, name: &str, prefixes: &str) -> Result<Self> {
        let prefixes = prefixes.split_whitespace().map(|prefix| {
            prefix.parse::<IpNet>().with_context(|| format!("segment {name}: prefix {prefix:?}"))
        });
        let prefixes = prefixes.collect::<Result<_>>()?;
        let bridge = format!("br{number}");
        // Without IGMP queriers snooping would lose the first neighbour solicitations.
        anchor
            .plumb(&format!("ip link add {bridge} type bridge mcast_snooping 0\nip link set {bridge} up"))?;
        let inner = SegmentInner { name: name.to_owned(), prefixes, bridge, next_port: AtomicU32::new(0) };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub(crate) fn bridge(&self) -> &str {
        &self.inner.bridge
    }

    pub(crate) fn next_port(&self) -> String {
        format!("{}p{}", self.inner.bridge, self.inner.next_port.fetch_add(1, Ordering::Relaxed))
    }

    /// The segment's IPv4 address number `index`.
    pub(crate) fn ipv4(&self, index: u32) -> Result<IpAddr> {
        let v4 = self.inner.prefixes.iter().find_map(|prefix| match prefix {
            IpNet::V4(prefix) => Some(u32::from(prefix.network())),
            IpNet::V6(_) => None,
        });
        let network = v4.with_context(|| format!("segment {} has no IPv4", self.name()))?;
        Ok(IpAddr::V4((network + index).into()))
    }

    /// Joins each of the space-separated addresses with the segment's prefix that contains it.
    pub(crate) fn with_prefixes(&self, addresses: &str) -> Result<Vec<IpNet>> {
        addresses.split_whitespace().map(|address| self.with_prefix(address)).collect()
    }

    fn with_prefix(&self, address: &str) -> Result<IpNet> {
        let ip: IpAddr = address.parse().with_context(|| format!("address {address:?}"))?;
        let home = self.inner.prefixes.iter().find(|prefix| prefix.contains(&ip));
        let prefix = home.with_context(|| format!("{ip} is not on segment {}", self.name()))?;
        Ok(IpNet::new(ip, prefix.prefix_len())?)
    }
}
