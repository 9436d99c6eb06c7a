//! Configuration files, and the commands that change them.

use std::path::Path;

use peerup_config::edit::{self, EditError, Edited};
use peerup_config::{ConfigError, NodeConfig, PeerAddr, RelayConfig};
use peerup_types::{DnsLabel, PeerId};

use crate::text;

const RELAY: &str = "/ip4/203.0.113.7/tcp/7777/p2p/12D3KooWC7cDcNR4J3NC9y1gTkqafZKmnjCUvrRMxU2LMugGJGgy";

pub fn node(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let parse = |text: &str| NodeConfig::parse(text, folder()).map(|config| config.resolved());
    match parse(text) {
        Ok(shown) => assert_eq!(parse(&shown.to_string()).ok(), Some(shown)),
        Err(error) => check_error(&error),
    }
}

pub fn relay(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let parse = |text: &str| RelayConfig::parse(text, folder()).map(|config| config.resolved());
    match parse(text) {
        Ok(shown) => assert_eq!(parse(&shown.to_string()).ok(), Some(shown)),
        Err(error) => check_error(&error),
    }
}

/// Every edit that was made once has nothing left to do.
pub fn edit(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let relay: PeerAddr = RELAY.parse().expect("an address");
    let (peer, home): (PeerId, DnsLabel) = (relay.peer(), "home".parse().expect("a label"));
    settles(text, |text| edit::add_relay(text, &relay));
    settles(text, |text| edit::remove_relay(text, &relay));
    settles(text, |text| edit::set_name(text, &home, peer));
    settles(text, |text| edit::set_scalar(text, &["vpn", "address"], "10.64.0.7"));
    settles(text, |text| edit::add_item(text, &["network", "listen_addresses"], "/ip4/0.0.0.0/tcp/0"));
}

fn settles(text: &str, edit: impl Fn(&str) -> Result<Edited, EditError>) {
    if let Ok(Edited::Changed(after)) = edit(text) {
        assert!(matches!(edit(&after), Ok(Edited::Unchanged)), "{after:?}");
    }
}

fn check_error(error: &ConfigError) {
    assert!(!error.to_string().contains('\n'), "{error}");
    let _ = error.hint();
}

fn folder() -> &'static Path {
    Path::new("/etc/peerup")
}
