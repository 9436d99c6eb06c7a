//! STUN answers from anybody on the network, and the address book on disk.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use peerup_reach::{AddressBook, StunProbe, stun};

pub fn stun(bytes: &[u8]) {
    if let Ok(answer) = stun::parse(bytes) {
        assert_eq!(stun::parse(bytes).as_ref(), Ok(&answer));
    }
    round(bytes);
}

/// A server answers each question with these bytes behind the transaction that was asked for.
fn round(bytes: &[u8]) {
    let server: SocketAddr = "198.51.100.1:3478".parse().expect("an address");
    let ids = (0..StunProbe::IDS).map(|n| [n as u8; 12]);
    let mut now = start();
    let mut probe = StunProbe::new(&[server], ids, now);
    let mut questions = 0;
    while !probe.is_done() {
        while let Some((to, question)) = probe.poll_transmit() {
            questions += 1;
            let mut answer = bytes.to_vec();
            if let Some(transaction) = answer.get_mut(8..20) {
                transaction.copy_from_slice(&question[8..20]);
            }
            probe.handle_datagram(to, &answer, now);
        }
        now = probe.poll_timeout().unwrap_or(now);
        probe.handle_timeout(now);
    }
    assert!(questions <= 15, "five tests of three attempts each");
    assert!(probe.findings().sightings.len() <= 3);
}

#[expect(clippy::disallowed_methods, reason = "an instant to count from; nothing depends on which")]
fn start() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

pub fn address_book(bytes: &[u8]) {
    const NOW: u64 = 1_800_000_000;
    let Some(text) = crate::text(bytes) else { return };
    if let Ok(book) = AddressBook::from_json(text, NOW) {
        let again = AddressBook::from_json(&book.to_json(), NOW).expect("what was written is read");
        assert_eq!(again, book);
    }
}
