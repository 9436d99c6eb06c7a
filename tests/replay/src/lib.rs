//! What reads bytes that somebody else wrote, one entry each: feed bytes, check what must hold for whatever is
//! accepted. No entry may panic, whatever the bytes.
//!
//! `tests/fuzz` looks for bytes that break an entry; the test of this package replays those that are kept in
//! `tests/fuzz/corpus`, a few valid inputs per entry and every input that once broke one.
#![forbid(unsafe_code)]

mod config;
mod control;
mod membership;
mod reach;
mod trust;

pub use trust::{joins, proves};

/// An entry's name, which is also that of its fuzz target and of its folder in the corpus.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("address_book", reach::address_book),
    ("authorized_keys", trust::authorized_keys),
    ("code", trust::code),
    ("config_edit", config::edit),
    ("control_request", control::request),
    ("frame", peerup_wire::fuzz::frame),
    ("hello", peerup_wire::fuzz::hello),
    ("identity", trust::identity),
    ("inviter", trust::inviter),
    ("joiner", trust::joiner),
    ("merge", peerup_packet::fuzz::merge),
    ("node_config", config::node),
    ("packet", peerup_packet::fuzz::packet),
    ("pairing", trust::pairing),
    ("peers_yaml", membership::peers_yaml),
    ("relay_config", config::relay),
    ("stun", reach::stun),
    ("super_packet", peerup_packet::fuzz::super_packet),
    ("vouch", peerup_wire::fuzz::vouch),
];

/// Runs the entry of that name.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, entry) = TARGETS.iter().find(|(target, _)| *target == name).expect("a name from TARGETS");
    entry(bytes);
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
