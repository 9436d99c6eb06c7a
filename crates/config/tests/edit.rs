//! Edits change one value and leave the user's text alone.

use peerup_config::{
    PeerAddr,
    edit::{self, EditError, Edited},
};
use peerup_types::{DnsLabel, PeerId};
use proptest::prelude::*;
use serde_yaml::Value;

const HOME: &str = "12D3KooWC7cDcNR4J3NC9y1gTkqafZKmnjCUvrRMxU2LMugGJGgy";
const R1: &str = "/ip4/203.0.113.50/tcp/7777/p2p/12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";
const R2: &str = "/ip6/2001:db8::1/udp/7777/quic-v1/p2p/12D3KooWC7cDcNR4J3NC9y1gTkqafZKmnjCUvrRMxU2LMugGJGgy";

fn relay(text: &str) -> PeerAddr {
    text.parse().expect("the tests' relays are addresses")
}

fn label(text: &str) -> DnsLabel {
    text.parse().expect("the tests' names are labels")
}

fn peer(text: &str) -> PeerId {
    text.parse().expect("the tests' peers are peer IDs")
}

fn changed(outcome: Result<Edited, EditError>) -> String {
    match outcome {
        Ok(Edited::Changed(text)) => text,
        Ok(Edited::Unchanged) => panic!("nothing changed"),
        Err(error) => panic!("{error}"),
    }
}

fn add(text: &str) -> String {
    changed(edit::add_relay(text, &relay(R2)))
}

fn name(text: &str) -> String {
    changed(edit::set_name(text, &label("home"), peer(HOME)))
}

#[test]
fn a_relay_is_added_in_the_layout_that_is_there() {
    for (before, after) in [
        (
            "relay:\n  addresses:\n    - R1 # eu\n  # end\n",
            "relay:\n  addresses:\n    - R1 # eu\n    - R2\n  # end\n",
        ),
        ("relay:\n  addresses:\n  - R1\n", "relay:\n  addresses:\n  - R1\n  - R2\n"),
        ("relay:\n    addresses:\n       -   R1", "relay:\n    addresses:\n       -   R1\n       - R2\n"),
        (
            "relay:\r\n  addresses:\r\n  - R1\r\na: b\r\n",
            "relay:\r\n  addresses:\r\n  - R1\r\n  - R2\r\na: b\r\n",
        ),
        ("relay:\n  addresses: [] # none\na: b\n", "relay:\n  addresses: # none\n    - R2\na: b\n"),
        ("relay:\n  addresses: [R1, ] # one\n", "relay:\n  addresses: [R1, R2, ] # one\n"),
        ("relay:\n  addresses:   # none\n", "relay:\n  addresses:   # none\n    - R2\n"),
        ("relay:\n  interval: 2m\na: b\n", "relay:\n  interval: 2m\n  addresses:\n    - R2\na: b\n"),
        ("relay: {interval: 2m}\n", "relay: {interval: 2m, addresses: [R2]}\n"),
        ("relay: {addresses: []}\n", "relay: {addresses: [R2]}\n"),
        ("relay: {addresses: }\n", "relay: {addresses: [R2] }\n"),
        ("version: 1\n", "version: 1\n\nrelay:\n  addresses:\n    - R2\n"),
        ("version: 1", "version: 1\n\nrelay:\n  addresses:\n    - R2\n"),
        ("", "relay:\n  addresses:\n    - R2\n"),
        ("# mine\n", "# mine\n\nrelay:\n  addresses:\n    - R2\n"),
        ("{version: 1}", "{version: 1, relay: {addresses: [R2]}}"),
        ("\u{feff}a:\n    b: c\n\n", "\u{feff}a:\n    b: c\n\nrelay:\n    addresses:\n        - R2\n"),
    ] {
        let fill = |text: &str| text.replace("R1", R1).replace("R2", R2);
        assert_eq!(add(&fill(before)), fill(after), "{before:?}");
    }
}

#[test]
fn a_relay_is_removed_with_its_line_and_the_last_leaves_an_empty_list() {
    for (before, after) in [
        (
            "relay:\n  addresses:\n    # eu\n    - R1\n    - R2 # us\n",
            "relay:\n  addresses:\n    # eu\n    - R1\n",
        ),
        ("relay:\n  addresses:  # all\n    - R2\nb: c", "relay:\n  addresses: []  # all\nb: c"),
        ("relay:\n  addresses:\n  - R2\n  - R1\n  - \"R2\"\n", "relay:\n  addresses:\n  - R1\n"),
        ("relay: {addresses: [R2, R1]}\n", "relay: {addresses: [R1]}\n"),
        ("relay: {addresses: [R1, R2]}\n", "relay: {addresses: [R1]}\n"),
        ("relay: {addresses: [R2]}\n", "relay: {addresses: []}\n"),
    ] {
        let fill = |text: &str| text.replace("R1", R1).replace("R2", R2);
        assert_eq!(changed(edit::remove_relay(&fill(before), &relay(R2))), fill(after), "{before:?}");
    }
}

#[test]
fn what_the_text_says_already_is_not_written_again() {
    let text = format!("relay:\n  addresses: ['{R2}']\nnames: {{home: {HOME}}}\n");
    assert_eq!(edit::add_relay(&text, &relay(R2)).unwrap(), Edited::Unchanged);
    assert_eq!(edit::remove_relay(&text, &relay(R1)).unwrap(), Edited::Unchanged);
    assert_eq!(edit::set_name(&text, &label("home"), peer(HOME)).unwrap(), Edited::Unchanged);
    assert_eq!(edit::remove_relay("version: 1", &relay(R1)).unwrap(), Edited::Unchanged);
}

#[test]
fn a_name_is_set_in_every_state_the_names_can_be_in() {
    for (before, after) in [
        ("names: {}  # nobody\n", "names:  # nobody\n  home: ID\n"),
        ("names:\n# x\na: b\n", "names:\n  home: ID\n# x\na: b\n"),
        ("names: ~\n", "names:\n  home: ID\n"),
        ("names:\n    nas: x # y\n\n# tail\n", "names:\n    nas: x # y\n    home: ID\n\n# tail\n"),
        ("names:\n  home: x # old\n  nas: y\n", "names:\n  home: ID # old\n  nas: y\n"),
        ("names:\n  home:  # soon\n", "names:\n  home: ID  # soon\n"),
        ("names: {nas: x}\n", "names: {nas: x, home: ID}\n"),
        ("names:\n  {}\n", "names:\n  {home: ID}\n"),
        ("a: |\n  text\n\n", "a: |\n  text\n\nnames:\n  home: ID\n"),
    ] {
        assert_eq!(name(before), after.replace("ID", HOME), "{before:?}");
    }
}

#[test]
fn names_that_yaml_takes_for_something_else_are_quoted() {
    let text = changed(edit::set_name("version: 1\n", &label("on"), peer(HOME)));
    assert_eq!(text, format!("version: 1\n\nnames:\n  \"on\": {HOME}\n"));
}

#[test]
fn a_scalar_is_replaced_created_or_refused() {
    let set = |text: &str| edit::set_scalar(text, &["vpn", "address"], "10.64.0.9");
    assert_eq!(changed(set("vpn: {address: '10.64.0.1'} # x")), "vpn: {address: 10.64.0.9} # x");
    assert_eq!(changed(set("vpn:\n  address: # none\n")), "vpn:\n  address: 10.64.0.9 # none\n");
    assert!(matches!(set("vpn:\n  address: [a]\n"), Err(EditError::WrongShape { .. })));
    assert!(matches!(set("vpn: off\n"), Err(EditError::WrongShape { .. })));
    assert!(matches!(set("vpn: [\n"), Err(EditError::Text(_))));
    let text =
        changed(edit::add_item("network:\n", &["network", "external_addresses"], "/ip4/1.2.3.4/tcp/1"));
    assert_eq!(text, "network:\n  external_addresses:\n    - /ip4/1.2.3.4/tcp/1\n");
}

#[test]
fn layouts_that_lines_cannot_follow_are_refused_rather_than_damaged() {
    for text in ["? relay\n: # x\n", "relay:\n  addresses: [ # x\n    ]\n", "a: b\n...\n"] {
        assert!(matches!(edit::add_relay(text, &relay(R1)), Err(EditError::Unsafe { .. })), "{text:?}");
    }
}

/// A file as somebody might have typed it: sections in any order and layout, comments anywhere.
fn file() -> impl Strategy<Value = String> {
    let names = prop_oneof![
        Just(vec![]),
        Just(vec!["names:"]),
        Just(vec!["names: {}"]),
        Just(vec!["names: ~"]),
        Just(vec!["names: {nas: one, tv: two}"]),
        Just(vec!["names:", ">nas: one", ">tv: \"two\""]),
        Just(vec!["names:", ">nas: one", ">home: somebody"]),
    ];
    let relay = prop_oneof![
        Just(vec![]),
        Just(vec!["relay:"]),
        Just(vec!["relay: {addresses: [one], reservation_interval: 2m}"]),
        Just(vec!["relay:", ">addresses: []"]),
        Just(vec!["relay:", ">addresses:", ">reservation_interval: 2m"]),
        Just(vec!["relay:", ">reservation_interval: 2m"]),
        Just(vec!["relay:", ">addresses: [one, 'two']", ">reservation_interval: 2m"]),
        Just(vec!["relay:", ">addresses:", ">- one", ">- two", ">reservation_interval: 2m"]),
        Just(vec!["relay:", ">reservation_interval: 2m", ">addresses:", ">>- one", ">>-   'two'"]),
    ];
    let vpn = prop_oneof![
        Just(vec!["vpn: {mtu: 1400}"]),
        Just(vec!["vpn:", ">mtu: 1400", ">address: 10.64.0.1"]),
        Just(vec!["vpn:", ">address: \"10.64.0.1\"", ">mtu: 1400"]),
    ];
    let other = Just(vec!["other:", ">text: |", ">>several", ">>lines", ">list: [a,", ">>>b]"]);
    let sections = (names, relay, vpn, other).prop_map(|(a, b, c, d)| vec![a, b, c, d]).prop_shuffle();
    let layout = (
        prop::collection::vec(1usize..=4, 4),
        prop::collection::vec(0u8..6, 40),
        any::<bool>(),
        any::<bool>(),
    );
    (sections, layout).prop_map(|(sections, layout)| lay_out(&sections, layout))
}

/// `>` stands for one level; `notes` says per line what comment stands before or behind it.
fn lay_out(
    sections: &[Vec<&str>],
    (steps, notes, crlf, last_break): (Vec<usize>, Vec<u8>, bool, bool),
) -> String {
    let mut notes = notes.into_iter().enumerate().cycle();
    let mut lines = Vec::new();
    for (section, step) in sections.iter().zip(steps) {
        for line in section {
            let level = line.len() - line.trim_start_matches('>').len();
            let (number, note) = notes.next().expect("a cycle has no end");
            let in_text = line.contains("several") || line.contains("lines");
            let indent = " ".repeat(level * step);
            match note {
                0 if !in_text => lines.push(format!("{indent}# before-{number}.")),
                1 if !in_text => lines.push(format!("# far-left-{number}.")),
                2 if !in_text => lines.push(String::new()),
                _ => {}
            }
            let behind = if note == 3 && !in_text && !line.ends_with('|') { "  # behind." } else { "" };
            lines.push(format!("{indent}{}{behind}", &line[level..]));
        }
    }
    let newline = if crlf { "\r\n" } else { "\n" };
    let text = lines.join(newline);
    if last_break { text + newline } else { text }
}

/// Whether a text with `\r\n` got lines that end otherwise.
fn mixes_breaks(text: &str) -> bool {
    let crlf = text.matches("\r\n").count();
    crlf > 0 && crlf != text.matches('\n').count()
}

fn comments(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_once('#')).map(|(_, comment)| comment).collect()
}

/// What another YAML parser reads, to judge edits by something that has no part in them.
fn meaning(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn put(root: &mut Value, path: &[&str], value: Value) {
    let Some((key, rest)) = path.split_first() else {
        *root = value;
        return;
    };
    if root.is_null() {
        *root = Value::Mapping(Default::default());
    }
    put(&mut root[*key], rest, value);
}

proptest! {
    #[test]
    fn an_edit_changes_one_value_and_keeps_every_comment(text in file()) {
        let before = meaning(&text);
        let mut relays = before["relay"]["addresses"].as_sequence().cloned().unwrap_or_default();
        relays.push(R2.into());
        let cases = [
            (add(&text), vec!["relay", "addresses"], Value::Sequence(relays)),
            (name(&text), vec!["names", "home"], HOME.into()),
            (changed(edit::set_scalar(&text, &["vpn", "address"], "10.64.0.9")), vec!["vpn", "address"], "10.64.0.9".into()),
            (changed(edit::set_scalar(&text, &["new", "er", "st"], "x y")), vec!["new", "er", "st"], "x y".into()),
        ];
        for (after, path, value) in cases {
            let mut expected = before.clone();
            put(&mut expected, &path, value);
            prop_assert_eq!(meaning(&after), expected, "{}", after);
            prop_assert_eq!(comments(&after), comments(&text), "{}", after);
prop_assert!(!mixes_breaks(&after), "{:?}", after);
        }
    }

    #[test]
    fn what_was_added_can_be_removed_again(text in file()) {
        let before = meaning(&text);
        let after = changed(edit::remove_relay(&add(&text), &relay(R2)));
        let mut expected = before.clone();
        let relays = before["relay"]["addresses"].as_sequence().cloned().unwrap_or_default();
        put(&mut expected, &["relay", "addresses"], Value::Sequence(relays));
        prop_assert_eq!(meaning(&after), expected, "{}", after);
        prop_assert_eq!(comments(&after), comments(&text), "{}", after);
    }

    #[test]
    fn no_text_makes_an_edit_panic(text in "[ -~\u{e9}\u{feff}\\n\\r]{0,120}|(relay:|  addresses:|\\n|\\r\\n| |- x|\\[|\\]|\\{|\\}|#|,|~|'|names: )*") {
        let _ = edit::add_relay(&text, &relay(R1));
        let _ = edit::remove_relay(&text, &relay(R1));
        let _ = edit::set_name(&text, &label("home"), peer(HOME));
    }
}
