//! One code, one machine.

use std::time::Duration;

use peerup_lab::Show;
use peerup_lab::peerup::{INVITER, JOINER, Node, Pair};
use peerup_lab::tools::ping::{first_reply, pings};

use crate::limits::{DIRECT, FIRST_REPLY};

#[test]
fn inviter_and_joiner_get_their_addresses_and_know_each_other() {
    let (pair, first) = Pair::running("addresses", crate::homes).unwrap();
    assert!(first <= FIRST_REPLY, "{first:?}");
    assert!(pair.a.status().unwrap().own_ips().contains(&INVITER.to_owned()));
    assert!(pair.b.status().unwrap().own_ips().contains(&JOINER.to_owned()));
    assert!(pair.a.status().unwrap().peer("b").is_ok());
    assert!(pair.b.status().unwrap().peer("a").is_ok());
    for node in [&pair.a, &pair.b] {
        let keys = node.host().read(&node.dir().join("authorized_keys")).unwrap();
        assert_eq!(keys.lines().filter(|line| line.starts_with("12D3")).count(), 1, "{keys}");
    }
}

#[test]
fn a_third_machine_joins_through_a_running_daemon_without_a_visit_to_the_relay() {
    let mut pair = Pair::direct("third", crate::homes).unwrap();
    let host = pair.lab.host("c").unwrap().on(&pair.internet, "203.0.113.30").unwrap();
    let c = Node::new(host, Show::Command);
    let invitation = pair.a.invite().unwrap();
    c.join(&invitation.code).unwrap();
    invitation.joined().unwrap();
    c.up().unwrap();
    let first = first_reply(c.host(), INVITER, DIRECT).unwrap();
    assert!(first <= FIRST_REPLY, "{first:?}");
    // The lowest free address, and trust that counts at once on the side that was up all the time.
    assert!(c.status().unwrap().own_ips().contains(&"10.64.0.3".to_owned()));
    pings(pair.a.host(), "10.64.0.3", 5, Duration::from_millis(50)).unwrap().all_answered().unwrap();
    pings(pair.a.host(), JOINER, 5, Duration::from_millis(50)).unwrap().all_answered().unwrap();
    // b was not asked about c and does not let it in.
    assert_eq!(pings(c.host(), JOINER, 2, Duration::from_millis(200)).unwrap().received, 0);
}

#[test]
fn a_used_code_and_a_wrong_code_are_refused() {
    let mut pair = Pair::new("codes", Show::Command, crate::homes).unwrap();
    pair.a.init(&pair.relay.multiaddr()).unwrap();
    pair.relay.authorize(&pair.a.id().unwrap(), "a").unwrap();
    let invitation = pair.a.invite().unwrap();
    let code = invitation.code.clone();

    let wrong = pair.b.join_cmd(&with_another_character(&code)).unwrap().try_run().unwrap();
    assert!(!matches!(wrong.code, Some(0) | None), "{wrong}");
    assert!(invitation.is_open(), "one wrong try must not end the invitation");
    pair.b.join(&code).unwrap();
    invitation.joined().unwrap();

    let host = pair.lab.host("c").unwrap().on(&pair.internet, "203.0.113.30").unwrap();
    let late = Node::new(host, Show::Command).join_cmd(&code).unwrap().try_run().unwrap();
    assert!(!matches!(late.code, Some(0) | None), "{late}");
    assert!(late.stderr.contains("hint:"), "{late}");
    let keys = pair.a.host().read(&pair.a.dir().join("authorized_keys")).unwrap();
    assert_eq!(keys.lines().filter(|line| line.starts_with("12D3")).count(), 1, "{keys}");
}

#[test]
fn five_wrong_tries_burn_a_code() {
    let pair = Pair::new("burnt", Show::Command, crate::homes).unwrap();
    pair.a.init(&pair.relay.multiaddr()).unwrap();
    pair.relay.authorize(&pair.a.id().unwrap(), "a").unwrap();
    let invitation = pair.a.invite().unwrap();
    let (code, wrong) = (invitation.code.clone(), with_another_character(&invitation.code));
    for _ in 0..5 {
        let refused = pair.b.join_cmd(&wrong).unwrap().try_run().unwrap();
        assert!(!matches!(refused.code, Some(0) | None), "{refused}");
    }
    let ended = invitation.end(Duration::from_secs(15)).unwrap();
    assert!(!matches!(ended.code, Some(0) | None), "{ended}");
    let late = pair.b.join_cmd(&code).unwrap().try_run().unwrap();
    assert!(!matches!(late.code, Some(0) | None), "{late}");
}

#[test]
fn peers_authorised_by_hand_agree_on_addresses_too() {
    let pair = Pair::new("by-hand", Show::Command, crate::homes).unwrap();
    for node in [&pair.a, &pair.b] {
        node.init(&pair.relay.multiaddr()).unwrap();
        pair.relay.authorize(&node.id().unwrap(), node.name()).unwrap();
    }
    pair.a.peerup(["auth", "add", &pair.b.id().unwrap(), "--comment", "b"]).unwrap();
    pair.b.peerup(["auth", "add", &pair.a.id().unwrap(), "--comment", "a"]).unwrap();
    pair.up().unwrap();
    let connected = || pair.a.status().is_ok_and(|status| status.0["peers"][0]["path"].is_object());
    pair.a.host().wait_until("a and b are connected", DIRECT * 2, connected).unwrap();
    let known =
        || pair.a.status().unwrap().0["peers"][0]["ips"].as_array().is_some_and(|ips| !ips.is_empty());
    pair.a.host().wait_until("b's addresses are known", DIRECT, known).unwrap();
    let ips = pair.a.status().unwrap().0["peers"][0]["ips"].clone();
    for ip in ips.as_array().unwrap() {
        first_reply(pair.a.host(), ip.as_str().unwrap(), DIRECT).unwrap();
    }
}

/// The same code with another token, which lies in characters 2 to 14 (the code has no checksum).
fn with_another_character(code: &str) -> String {
    let place = code.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()).nth(6).unwrap().0;
    let other = if &code[place..=place] == "B" { "C" } else { "B" };
    format!("{}{other}{}", &code[..place], &code[place + 1..])
}
