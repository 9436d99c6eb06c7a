//! Faults on purpose: cables unplugged, packets between two addresses swallowed.

use anyhow::Result;

use crate::host::{Host, Link};
use crate::tools::links;

type Undo = Box<dyn FnOnce() -> Result<()> + Send>;

/// A fault that lasts until it is restored or dropped.
pub struct Cut {
    undo: Vec<Undo>,
}

impl Cut {
    pub fn restore(mut self) -> Result<()> {
        self.undo.drain(..).try_for_each(|undo| undo())
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let _ = self.undo.drain(..).try_for_each(|undo| undo());
    }
}

impl Host {
    /// Swallows, without a word, all packets that arrive from the given addresses ("203.0.113.1 2001:db8::1").
    pub fn ignore(&self, addresses: &str) -> Result<Cut> {
        let table = format!("cut_{}", addresses.replace(['.', ':', ' '], "_"));
        let rules = addresses.split_whitespace().map(|address| {
            let family = if address.contains(':') { "ip6" } else { "ip" };
            format!("nft add rule inet {table} c {family} saddr {address} drop\n")
        });
        self.plumb(&format!(
            "nft add table inet {table}
             nft add chain inet {table} c '{{ type filter hook prerouting priority raw; }}'
             {}",
            rules.collect::<String>()
        ))?;
        let host = self.clone();
        let undo = move || host.plumb(&format!("nft delete table inet {table}")).map(drop);
        Ok(Cut { undo: vec![Box::new(undo)] })
    }

    /// Swallows all packets between this host and another; both sides see silence.
    pub fn cut_from(&self, other: &Host) -> Result<Cut> {
        let mut cut = self.ignore(&other.addresses()?)?;
        let mut back = other.ignore(&self.addresses()?)?;
        cut.undo.append(&mut back.undo);
        Ok(cut)
    }

    /// Pulls the cable at the far end: the link here loses its carrier, addresses and routes stay.
    pub fn unplug(&self, link: &Link) -> Result<Cut> {
        let (anchor, port) = (self.anchor().clone(), link.port.clone());
        anchor.plumb(&format!("ip link set {port} down"))?;
        let undo = move || anchor.plumb(&format!("ip link set {port} up")).map(drop);
        Ok(Cut { undo: vec![Box::new(undo)] })
    }

    /// The host's global underlay addresses, space separated.
    pub fn addresses(&self) -> Result<String> {
        let addresses = links::addresses(self)?;
        let underlay = addresses.into_iter().filter(|(link, _)| link.starts_with("eth"));
        Ok(underlay.map(|(_, address)| address).collect::<Vec<_>>().join(" "))
    }
}
