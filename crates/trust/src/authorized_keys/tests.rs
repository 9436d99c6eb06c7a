use proptest::prelude::*;

use super::*;

const HOME: &str = "12D3KooWAxzCBFVtEyKLnRm43gHxigCoe2d4UmkRTXhBNSv5bcCx";
const NAS: &str = "12D3KooWC7cDcNR4J3NC9y1gTkqafZKmnjCUvrRMxU2LMugGJGgy";
const THIRD: &str = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";

/// 2030-01-01T00:00:00Z.
const Y2030: u64 = 1_893_456_000;

#[test]
fn entries_have_peer_attributes_and_comment() {
    let keys = parse(&format!(
        "# my machines\n\n  {HOME}\texpires=2030-01-01T01:00:00+01:00 verified=sha256:65e20db1 ip=10.64.0.9 color=a=b bare # home # of Anna\r\n"
    ));
    let entry = keys.entries().next().unwrap();
    assert_eq!(entry.peer(), peer(HOME));
    assert_eq!(entry.expires(), Some(Y2030));
    assert_eq!(entry.verified(), Some("sha256:65e20db1"));
    assert_eq!(entry.ip(), Some([10, 64, 0, 9].into()));
    assert_eq!(entry.attribute("color"), Some("a=b"));
    assert_eq!(entry.attributes().count(), 4);
    assert_eq!(entry.group(), None);
    assert_eq!(entry.comment(), Some("home # of Anna"));
    assert_eq!(keys.entries().count(), 1);
}

#[test]
fn an_entry_admits_its_peer_until_it_expires() {
    let keys = parse(&format!("{HOME} expires=2030-01-01T00:00:00Z\n{NAS}\n"));
    assert!(keys.is_authorized(&peer(HOME), Y2030 - 1));
    assert!(!keys.is_authorized(&peer(HOME), Y2030));
    assert!(keys.is_authorized(&peer(NAS), u64::MAX));
    assert!(!keys.is_authorized(&peer(THIRD), 0));
}

#[test]
fn the_next_expiry_is_the_earliest_one_still_to_come() {
    let keys =
        parse(&format!("{HOME} expires=2030-01-01T00:00:00Z\n{NAS} expires=2031-01-01T00:00:00Z\n{THIRD}\n"));
    assert_eq!(keys.next_expiry(0), Some(Y2030));
    assert_eq!(keys.next_expiry(Y2030), Some(Y2030 + 365 * 86_400));
    assert_eq!(keys.next_expiry(u64::MAX), None);
}

#[test]
fn an_expiry_before_1970_has_always_passed() {
    assert!(!parse(&format!("{HOME} expires=1950-01-01T00:00:00Z")).is_authorized(&peer(HOME), 0));
}

#[test]
fn the_first_line_of_a_peer_decides() {
    let keys = parse(&format!("{HOME} expires=2030-01-01T00:00:00Z\n{HOME}\n"));
    assert!(!keys.is_authorized(&peer(HOME), Y2030));
}

#[test]
fn the_strict_reader_names_the_line_that_it_refuses() {
    for (bad, message) in [
        ("not-a-peer", "line 3: `not-a-peer` is not a peer ID"),
        (
            &format!("{NAS} expires=tomorrow"),
            "line 3: `expires=tomorrow` is not an RFC 3339 time such as 2030-01-31T12:00:00Z",
        ),
        (&format!("{NAS} ip=10.64.0"), "line 3: `ip=10.64.0` is not an IPv4 address"),
        (
            &format!("{NAS} addr=nas.example.org:4001"),
            "line 3: `addr=nas.example.org:4001` is not /ip4/.../tcp/PORT or /ip4/.../udp/PORT/quic-v1 (or ip6)",
        ),
        (
            &format!("{NAS} addr=/ip4/192.0.2.1/tcp/0"),
            "line 3: `addr=/ip4/192.0.2.1/tcp/0` is not /ip4/.../tcp/PORT or /ip4/.../udp/PORT/quic-v1 (or ip6)",
        ),
        (&format!("{NAS}{}", " addr=/ip4/192.0.2.1/tcp/1".repeat(9)), "line 3: more than 8 `addr=`"),
        (&format!("{NAS} ip=10.64.0.1 ip=10.64.0.1"), "line 3: `ip=` appears twice"),
        (
            &format!("{NAS} # {}", "x".repeat(MAX_LINE_BYTES)),
            "line 3: 4152 bytes are too many, the limit is 4096",
        ),
    ] {
        let error = AuthorizedKeys::parse(&format!("# one\n{HOME}\n{bad}\n")).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn the_lenient_reader_skips_bad_lines_keeps_their_text_and_reports_them() {
    let text = format!("{HOME}\nrubbish here\n{NAS} expires=never\n");
    let (mut keys, problems) = AuthorizedKeys::parse_lenient(&text);
    assert_eq!(problems.len(), 2);
    assert_eq!(keys.entries().count(), 1);
    assert!(!keys.is_authorized(&peer(NAS), 0));
    keys.remove(&peer(HOME)).unwrap();
    assert_eq!(keys.to_text(), format!("rubbish here\n{NAS} expires=never\n"));
}

#[test]
fn oversized_files_are_refused_but_never_lost() {
    let text = "#".repeat(MAX_BYTES + 1);
    assert!(matches!(AuthorizedKeys::parse(&text), Err(ParseError::TooLarge(len)) if len == MAX_BYTES + 1));
    assert!(matches!(AuthorizedKeys::parse(&"\n".repeat(MAX_LINES + 1)), Err(ParseError::TooManyLines(_))));
    let (keys, problems) = AuthorizedKeys::parse_lenient(&text);
    assert_eq!((keys.to_text(), problems.len()), (text, 1));
}

#[test]
fn add_appends_a_line_also_after_one_without_newline() {
    let mut keys = parse(&format!("# mine\n{HOME} # home"));
    keys.add(peer(NAS), Some("nas")).unwrap();
    keys.add(peer(THIRD), None).unwrap();
    assert_eq!(keys.to_text(), format!("# mine\n{HOME} # home\n{NAS}  # nas\n{THIRD}\n"));
    assert!(matches!(keys.add(peer(HOME), None), Err(AddError::Duplicate(_))));
}

#[test]
fn a_comment_cannot_add_lines_or_speak_to_the_terminal() {
    let mut keys = AuthorizedKeys::default();
    keys.add(peer(NAS), Some(&format!(" nas\r\n{HOME}\0\u{1b}[2J"))).unwrap();
    assert_eq!(keys.to_text(), format!("{NAS}  # nas{HOME}[2J\n"));
    assert!(!parse(&keys.to_text()).is_authorized(&peer(HOME), 0));
}

#[test]
fn a_full_document_takes_no_more_entries() {
    let mut keys = parse(&"#\n".repeat(MAX_LINES));
    assert!(matches!(keys.add(peer(NAS), None), Err(AddError::Full)));
}

#[test]
fn remove_takes_every_line_of_the_peer_and_nothing_else() {
    let text = format!("# a\r\n{HOME} x=y\r\n \t\n{NAS}# n\n{HOME}");
    let mut keys = parse(&text);
    keys.remove(&peer(HOME)).unwrap();
    assert_eq!(keys.to_text(), format!("# a\r\n \t\n{NAS}# n\n"));
    assert_eq!(keys.remove(&peer(HOME)), Err(UnknownPeer(peer(HOME))));
}

#[test]
fn set_attribute_rewrites_one_line_in_writer_order() {
    let text = format!("# a\n{HOME} group=00112233 bare # home\r\n{NAS}   # nas");
    let mut keys = parse(&text);
    keys.set_attribute(&peer(HOME), "verified", Some("sha256:65e20db1")).unwrap();
    keys.set_attribute(&peer(HOME), "expires", Some("2030-01-01T00:00:00Z")).unwrap();
    keys.set_attribute(&peer(HOME), "group", None).unwrap();
    assert_eq!(
        keys.to_text(),
        format!(
            "# a\n{HOME}  expires=2030-01-01T00:00:00Z  verified=sha256:65e20db1  bare  # home\r\n{NAS}   # nas"
        )
    );
    assert!(!keys.is_authorized(&peer(HOME), Y2030));
}

#[test]
fn set_attribute_refuses_what_would_damage_the_file() {
    let text = format!("{HOME}\n");
    let mut keys = parse(&text);
    let long = "x".repeat(MAX_LINE_BYTES);
    for (key, value) in [
        ("group", "a\nb"),
        ("group", "a b"),
        ("group", "a#b"),
        ("group", "a\u{85}b"),
        ("group", ""),
        ("", "x"),
        ("a=b", "x"),
        ("expires", "soon"),
        ("ip", "fd00::1"),
        ("group", &long),
    ] {
        assert!(keys.set_attribute(&peer(HOME), key, Some(value)).is_err(), "{key}={value}");
    }
    assert!(matches!(keys.set_attribute(&peer(NAS), "group", None), Err(SetAttributeError::UnknownPeer(_))));
    assert_eq!(keys.to_text(), text);
}

proptest! {
    #[test]
    fn any_text_is_kept_byte_for_byte(text in document()) {
        let (lenient, problems) = AuthorizedKeys::parse_lenient(&text);
        prop_assert_eq!(lenient.to_text(), text.clone());
        match AuthorizedKeys::parse(&text) {
            Ok(strict) => {
                prop_assert!(problems.is_empty());
                prop_assert_eq!(strict.to_text(), text);
            }
            Err(_) => prop_assert!(!problems.is_empty()),
        }
    }

    #[test]
    fn adding_and_removing_a_peer_changes_no_other_line(text in document(), comment in "\\PC{0,30}") {
        let (mut keys, _) = AuthorizedKeys::parse_lenient(&text);
        prop_assume!(keys.get(&peer(THIRD)).is_none());
        keys.add(peer(THIRD), Some(&comment)).unwrap();
        let added = AuthorizedKeys::parse_lenient(&keys.to_text()).0;
        prop_assert!(added.is_authorized(&peer(THIRD), 0));
        keys.remove(&peer(THIRD)).unwrap();
        let restored = keys.to_text();
        prop_assert!(restored == text || restored == text + "\n");
    }

    #[test]
    fn what_was_edited_reads_back_the_same(text in document(), key in "[a-z]{1,8}", value in "\\PC{1,20}") {
        let (mut keys, _) = AuthorizedKeys::parse_lenient(&text);
        if keys.set_attribute(&peer(HOME), &key, Some(&value)).is_ok() {
            let again = AuthorizedKeys::parse_lenient(&keys.to_text()).0;
            prop_assert_eq!(again.get(&peer(HOME)).unwrap().attribute(&key), Some(value.as_str()));
            prop_assert!(keys.entries().eq(again.entries()));
        }
    }
}

fn document() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just(HOME.to_owned()),
        Just(format!("{NAS} group=1 # x")),
        Just(format!("{HOME} ip=10.64.0.3")),
        "\\PC{0,40}",
        "(#|[a-z]+=)?[ -~]{0,30}",
    ];
    let ending = prop_oneof![Just("\n"), Just("\r\n"), Just("\n\n"), Just("")];
    proptest::collection::vec((line, ending), 0..8)
        .prop_map(|lines| lines.into_iter().map(|(line, ending)| line + ending).collect())
}

fn parse(text: &str) -> AuthorizedKeys {
    AuthorizedKeys::parse(text).unwrap()
}

fn peer(text: &str) -> PeerId {
    text.parse().unwrap()
}

#[test]
fn static_addresses_of_a_peer_are_read_in_order() {
    let line = format!("{NAS}  addr=/ip4/192.0.2.1/udp/4001/quic-v1 addr=/ip6/2001:db8::1/tcp/4001  # nas\n");
    let keys = AuthorizedKeys::parse(&line).unwrap();
    let entry = keys.entries().next().unwrap();
    let texts: Vec<String> = entry.addresses().iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["/ip4/192.0.2.1/udp/4001/quic-v1", "/ip6/2001:db8::1/tcp/4001"]);
}
