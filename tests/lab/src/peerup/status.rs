//! `peerup status --json`, as far as tests look at it.

use anyhow::{Context, Result};
use serde_json::Value;

/// One answer of `peerup status --json`.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

/// One peer in it.
#[derive(Clone, Debug)]
pub struct PeerView {
    pub name: String,
    pub ips: Vec<String>,
    /// `None` while the peer is offline.
    pub path: Option<PathView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathView {
    pub class: String,
    pub family: String,
    pub carrier: String,
    pub addr: String,
}

impl Status {
    pub fn parse(json: &str) -> Result<Self> {
        Ok(Self(
            serde_json::from_str(json).with_context(|| format!("`peerup status --json` printed {json:?}"))?,
        ))
    }

    pub fn own_ips(&self) -> Vec<String> {
        texts(&self.0["self"]["ips"])
    }

    /// The peer of this name or overlay address.
    pub fn peer(&self, who: &str) -> Result<PeerView> {
        let peers = self.0["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut peers = peers.iter().map(peer);
        let found = peers.find(|peer| peer.name == who || peer.ips.iter().any(|ip| ip == who));
        found.with_context(|| format!("no peer {who} in {}", self.0))
    }

    /// How many packets or frames were refused for this reason: `spoofed`, `frame-malformed`, …
    pub fn refused(&self, reason: &str) -> u64 {
        let items = self.0["health"].as_array().map(Vec::as_slice).unwrap_or_default();
        let item = items.iter().find(|item| item["code"] == "packets-refused");
        // `packets refused: spoofed 3, frame-malformed 1`
        let text = item.map(|item| text(&item["text"])).unwrap_or_default();
        let counts = text.split([':', ',']).filter_map(|count| count.trim().split_once(' '));
        counts.filter(|(word, _)| *word == reason).find_map(|(_, count)| count.parse().ok()).unwrap_or(0)
    }

    /// The class of the path to a peer; empty while there is none.
    pub fn class(&self, who: &str) -> Result<String> {
        Ok(self.peer(who)?.path.unwrap_or_default().class)
    }
}

fn peer(value: &Value) -> PeerView {
    let path = &value["path"];
    let path = path.is_object().then(|| PathView {
        class: text(&path["class"]),
        family: text(&path["family"]),
        carrier: text(&path["carrier"]),
        addr: text(&path["addr"]),
    });
    PeerView { name: text(&value["name"]), ips: texts(&value["ips"]), path }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_found_by_name_and_by_address() {
        let status = Status::parse(
            r#"{"self":{"ips":["10.64.0.1"]},"peers":[{"name":"b","ips":["10.64.0.2"],
                "path":{"class":"relay","family":"ipv4","carrier":"relay-stream","addr":"x"}},
                {"name":"c","ips":[],"path":null}]}"#,
        );
        let status = status.unwrap();
        assert_eq!(status.own_ips(), ["10.64.0.1"]);
        assert_eq!(status.class("b").unwrap(), "relay");
        assert_eq!(status.class("10.64.0.2").unwrap(), "relay");
        assert_eq!(status.class("c").unwrap(), "");
        assert!(status.peer("d").is_err());
    }

    #[test]
    fn refused_packets_are_counted_by_reason() {
        let json = r#"{"health":[{"code":"other","text":"spoofed 9"},
            {"code":"packets-refused","text":"packets refused: spoofed 3, frame-malformed 1"}]}"#;
        let status = Status::parse(json).unwrap();
        let counts = ["spoofed", "frame-malformed", "malformed"].map(|reason| status.refused(reason));
        assert_eq!(counts, [3, 1, 0]);
        assert_eq!(Status::parse("{}").unwrap().refused("spoofed"), 0);
    }
}
