//! Links, their counters and everything else `ip` knows about a host.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::host::Host;

/// Bytes and packets of one link since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_packets: u64,
    pub tx_packets: u64,
}

impl Counters {
    pub fn of(host: &Host, link: &str) -> Result<Self> {
        let report = json(host, &format!("ip -s -j link show dev {link}"))?;
        let stats = &report[0]["stats64"];
        let number = |direction: &str, unit: &str| {
            stats[direction][unit].as_u64().with_context(|| format!("{direction} {unit} of {link}"))
        };
        Ok(Self {
            rx_bytes: number("rx", "bytes")?,
            tx_bytes: number("tx", "bytes")?,
            rx_packets: number("rx", "packets")?,
            tx_packets: number("tx", "packets")?,
        })
    }

    /// What was carried since `before`, both ways.
    pub fn bytes_since(&self, before: &Self) -> u64 {
        self.rx_bytes - before.rx_bytes + self.tx_bytes - before.tx_bytes
    }
}

/// A counter of the host's IP stack, as `/proc/net/snmp` and `/proc/net/netstat` name it: "Tcp", "PassiveOpens".
pub fn snmp(host: &Host, protocol: &str, counter: &str) -> Result<u64> {
    let table = host.ask(&format!("grep -h ^{protocol}: /proc/net/snmp /proc/net/netstat"))?;
    find_counter(&table, counter).with_context(|| format!("no {protocol} {counter} in {table}"))
}

/// A row of names, and a row of values below it.
fn find_counter(table: &str, counter: &str) -> Option<u64> {
    let (names, values) = table.split_once('\n')?;
    let column = names.split_whitespace().position(|name| name == counter)?;
    values.split_whitespace().nth(column)?.parse().ok()
}

/// Switches the segmentation offloads of a link: without them each packet is its own buffer, as on a network card
/// that has none.
pub fn set_offloads(host: &Host, link: &str, on: bool) -> Result<()> {
    let word = if on { "on" } else { "off" };
    let names = ["tso", "gso", "gro", "tx-udp-segmentation"];
    let words = names.map(|name| format!("{name} {word}")).join(" ");
    host.ask(&format!("ethtool -K {link} {words}")).map(drop)
}

/// Global addresses, each with its link.
pub fn addresses(host: &Host) -> Result<Vec<(String, String)>> {
    let report = json(host, "ip -j addr show scope global")?;
    let links = report.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(links.iter().flat_map(link_addresses).collect())
}

fn link_addresses(link: &Value) -> Vec<(String, String)> {
    let name = link["ifname"].as_str().unwrap_or_default();
    let infos = link["addr_info"].as_array().map(Vec::as_slice).unwrap_or_default();
    let locals = infos.iter().filter_map(|info| info["local"].as_str());
    locals.map(|address| (name.to_owned(), address.to_owned())).collect()
}

pub fn exists(host: &Host, link: &str) -> bool {
    host.ask(&format!("ip link show dev {link}")).is_ok()
}

/// Links, addresses, routes, rules and the files of name resolution: equal texts mean that nothing was left behind.
pub fn network_state(host: &Host) -> Result<String> {
    host.ask(
        "ip -o link show | sed 's/^[0-9]*: //'
         ip -o addr show | sed 's/^[0-9]*: //'
         ip route show table all
         ip -6 route show table all
         ip rule; ip -6 rule
         nft list ruleset
         cat /etc/hosts /etc/resolv.conf 2>/dev/null",
    )
}

/// The lines that only one of two states has: `-` the earlier one, `+` the later.
pub fn difference(before: &str, after: &str) -> String {
    let only = |sign: char, these: &str, those: &str| -> String {
        let missing = these.lines().filter(|line| !those.lines().any(|other| other == *line));
        missing.map(|line| format!("{sign} {line}\n")).collect()
    };
    only('-', before, after) + &only('+', after, before)
}

fn json(host: &Host, command: &str) -> Result<Value> {
    serde_json::from_str(&host.ask(command)?).with_context(|| format!("JSON of `{command}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_below_its_name() {
        let table = "Udp: InDatagrams NoPorts InErrors\nUdp: 17 2 30\n";
        assert_eq!(find_counter(table, "InErrors"), Some(30));
        assert_eq!(find_counter(table, "RcvbufErrors"), None);
    }
}
