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
        ("relay:\n  addresses: [ # x\n    ]\n", "relay:\n  addresses: [R2]\n  # x\n"),
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
    for text in ["? relay\n: # x\n", "a: b\n...\n"] {
        assert!(matches!(edit::add_relay(text, &relay(R1)), Err(EditError::Unsafe { .. })), "{text:?}");
    }
}

fn text(value: &str) -> edit::Value {
    edit::Value::text(value)
}

#[test]
fn a_service_is_added_switched_and_removed_and_its_neighbours_stay() {
    let before = "# mine\nservices:\n  # the web\n  web:  # busy\n    enabled: true  # for now\n    local_address: localhost:80\nvpn: {}\n";
    let ssh = edit::Value::section([("enabled", true.into()), ("local_address", text("localhost:22"))]);
    let added = changed(edit::set(before, &["services", "ssh"], &ssh));
    assert_eq!(
        added,
        before.replace("vpn", "  ssh:\n    enabled: true\n    local_address: localhost:22\nvpn")
    );
    let off = changed(edit::set(&added, &["services", "web", "enabled"], &false.into()));
    assert_eq!(off, added.replacen("enabled: true", "enabled: false", 1));
    assert_eq!(changed(edit::remove(&added, &["services", "ssh"])), before);
    assert_eq!(
        changed(edit::remove(before, &["services", "web"])),
        "# mine\nservices: {}\n  # the web\nvpn: {}\n"
    );
    assert_eq!(edit::remove(before, &["services", "ssh"]).unwrap(), Edited::Unchanged);
    assert_eq!(edit::remove(before, &["vpn", "mtu"]).unwrap(), Edited::Unchanged);
}

#[test]
fn a_value_of_any_shape_gives_way_to_one_of_any_other_and_comments_stay() {
    let list = edit::Value::texts(["x", "q"]);
    let section = edit::Value::section([("b", text("1")), ("c", edit::Value::texts(["z"]))]);
    let cases = [
        ("a: 1 # one\nz: 2\n", list.clone(), "a: # one\n  - x\n  - q\nz: 2\n"),
        ("a: # all\n  - x # one\n  # two\n  - w\n", text("v"), "a: v # all\n  # one\n  # two\n"),
        ("a: # all\n  - x # one\n  - w # two\n", list.clone(), "a: # all\n  - x # one\n  - q # two\n"),
        ("a:\n- w # w\n- x\n- q\nb: 1\n", list.clone(), "a:\n- x\n- q\nb: 1\n"),
        ("a: [w, # w\n  q] # end\n", list.clone(), "a: [x, # w\n  q] # end\n"),
        ("a: [q, x, q]\n", list.clone(), "a: [x, q]\n"),
        ("a: | # text\n  b\n\nz: 1\n", text("v"), "a: v\n# text\n\nz: 1\n"),
        ("a: {b: 1, d: 2, c: []}\n", section.clone(), "a: {b: 1, c: [z]}\n"),
        ("a:\n  d: 2 # two\n  # last\n", section.clone(), "a:\n  b: 1\n  c:\n    - z\n  # last\n"),
        ("a:\n  - x\nz:\n    k: v\n", section, "a:\n  b: 1\n  c:\n      - z\nz:\n    k: v\n"),
        ("a:\n  b: c\n", edit::Value::List(vec![]), "a: []\n"),
        ("a: 'x'\n", edit::Value::Absent, "a: null\n"),
    ];
    for (before, value, after) in cases {
        assert_eq!(changed(edit::set(before, &["a"], &value)), after, "{before:?}");
    }
}

#[test]
fn items_are_inserted_at_their_number_and_removed_by_it() {
    for (before, number, after) in [
        ("a: [x, q]\n", 0, "a: [m, x, q]\n"),
        ("a: [x, q, ]\n", 2, "a: [x, q, m, ]\n"),
        ("a:\n  - x # 1\n  # about q\n  - q\n", 1, "a:\n  - x # 1\n  # about q\n  - m\n  - q\n"),
        ("a:\n- x\n- q", 2, "a:\n- x\n- q\n- m\n"),
        ("b: 1\n", 0, "b: 1\n\na:\n  - m\n"),
    ] {
        assert_eq!(changed(edit::insert_item(before, &["a"], number, &text("m"))), after, "{before:?}");
    }
    let beyond = edit::insert_item("a: [x]\n", &["a"], 2, &text("m"));
    assert!(matches!(beyond, Err(EditError::NoSuchItem { number: 2, len: 1, .. })), "{beyond:?}");
    for (before, number, after) in [
        ("a: [x, q, z]\n", "1", "a: [x, z]\n"),
        ("a: [\n  x, # 1\n  q, # 2\n]\n", "1", "a: [\n  x, # 1\n   # 2\n]\n"),
        ("a: [\n  x # 1\n  ,\n  q # 2\n]\n", "1", "a: [\n  x # 1\n   # 2\n]\n"),
        ("a: [ x, ]\n", "0", "a: [ ]\n"),
        ("a:\n  -\n  - q\n  - # null\n", "2", "a:\n  -\n  - q\n"),
        ("a:\n  - {b: 1}\n  - b: 2\n    c: 3\n  - z\n", "1", "a:\n  - {b: 1}\n  - z\n"),
    ] {
        assert_eq!(changed(edit::remove(before, &["a", number])), after, "{before:?}");
    }
    let nested = "a:\n  - b: 1\n    c: 2 # two\n  - d: 3\n";
    assert_eq!(changed(edit::remove(nested, &["a", "0", "b"])), "a:\n  - c: 2 # two\n  - d: 3\n");
    assert_eq!(changed(edit::remove(nested, &["a", "1", "d"])), nested.replace("d: 3", "{}"));
    assert_eq!(
        changed(edit::set(nested, &["a", "1", "e"], &text("4"))),
        "a:\n  - b: 1\n    c: 2 # two\n  - d: 3\n    e: 4\n"
    );
}

#[test]
fn what_stands_at_a_path_can_be_asked() {
    let file = "a: {b: [on, {c: 1}], d: }\n";
    let at = |path: &[&str]| edit::get(file, path).unwrap();
    assert_eq!(at(&["a", "b", "0"]), Some(text("on")));
    assert_eq!(at(&["a", "b", "1", "c"]), Some(text("1")));
    assert_eq!(
        (at(&["a", "d"]), at(&["a", "e"]), at(&["a", "b", "x"])),
        (Some(edit::Value::Absent), None, None)
    );
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
