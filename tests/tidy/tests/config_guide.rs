//! docs/guide/config.md and the configuration parser know the same keys.

use std::collections::BTreeSet;
use std::path::Path;

use peerup_config::{
    NodeConfig, RelayConfig, Resolved,
    effect::{self, Counts},
};
use peerup_tidy::{Markdown, Tree, assert_none};

const GUIDE: &str = "docs/guide/config.md";

/// One entry of each section whose keys are the user's own names.
const NODE: &str = "
services: {ssh: {local_address: 'localhost:22'}}
names: {home: 12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx}
";

#[test]
fn every_node_key_is_documented_and_every_documented_key_exists() {
    let config = NodeConfig::parse(NODE, Path::new("/etc/peerup")).expect("the sample is a configuration");
    compare("Node", keys(&config.resolved()));
}

#[test]
fn every_relay_key_is_documented_and_every_documented_key_exists() {
    let config = RelayConfig::parse("version: 1", Path::new("/etc/peerup")).expect("a version is enough");
    compare("Relay", keys(&config.resolved()));
}

#[test]
fn the_guide_says_when_each_key_counts() {
    let tree = Tree::read();
    let guide = tree.document(GUIDE).expect("the guide exists");
    for (section, table) in
        [("When a node's key counts", effect::NODE), ("When a relay's key counts", effect::RELAY)]
    {
        let heading = format!("## {section}");
        let rows = guide.prose().skip_while(|line| **line != heading).skip(1);
        let rows: BTreeSet<&str> =
            rows.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `")).collect();
        let row = |(key, counts): &(&str, Counts)| match counts {
            Counts::AtOnce => format!("| `{key}` | at once |"),
            Counts::AtRestart => format!("| `{key}` | after a restart |"),
        };
        let expected: Vec<String> = table.iter().map(row).collect();
        let missing = expected.iter().filter(|row| !rows.contains(row.as_str())).cloned();
        let invented = rows
            .iter()
            .filter(|row| !expected.iter().any(|known| known == *row))
            .map(|row| format!("{row} is not so"));
        assert_none(section, &missing.chain(invented).collect::<Vec<_>>());
    }
}

fn compare(section: &str, parsed: BTreeSet<String>) {
    let tree = Tree::read();
    let guide = tree.document(GUIDE).expect("the guide exists");
    let documented = documented(&guide, section);
    let covered = |key: &String| documented.iter().any(|known| matches(known, key));
    let missing = parsed.iter().filter(|key| !covered(key)).map(|key| format!("{key} is not in {GUIDE}"));
    let exists = |known: &String| parsed.iter().any(|key| matches(known, key));
    let invented = documented.iter().filter(|known| !exists(known)).map(|key| format!("{key} is no key"));
    assert_none(&format!("{section} keys"), &missing.chain(invented).collect::<Vec<_>>());
}

/// `services.<name>.enabled` and `telemetry.*` stand for whatever the user or the section has there.
fn matches(documented: &str, key: &str) -> bool {
    let mut known = documented.split('.');
    let mut found = key.split('.');
    loop {
        match (known.next(), found.next()) {
            (None, None) | (Some("*"), Some(_)) => return true,
            (Some(a), Some(b)) if a == b || a.starts_with('<') => {}
            _ => return false,
        }
    }
}

/// First column of the table under `## section`.
fn documented(guide: &Markdown<'_>, section: &str) -> BTreeSet<String> {
    let heading = format!("## {section}");
    guide
        .prose()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split_once('`'))
        .map(|(key, _)| key.to_owned())
        .collect()
}

fn keys(resolved: &Resolved) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    collect(resolved, "", &mut keys);
    keys
}

fn collect(resolved: &Resolved, path: &str, keys: &mut BTreeSet<String>) {
    let Resolved::Section(entries) = resolved else {
        keys.insert(path.to_owned());
        return;
    };
    for (key, value) in entries {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        collect(value, &path, keys);
    }
}
