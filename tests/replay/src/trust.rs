//! Keys, codes and the pairing handshake.

use peerup_trust::authorized_keys::AuthorizedKeys;
use peerup_trust::code::Code;
use peerup_trust::handshake::{Inviter, InviterEvent, Joined, Joiner};
use peerup_trust::pairing::{Groups, Introduction, Memberships, Request, Response};
use peerup_trust::{NodeName, Token, identity};
use peerup_types::PeerId;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::text;

const ANYBODY: &str = "12D3KooWC7cDcNR4J3NC9y1gTkqafZKmnjCUvrRMxU2LMugGJGgy";

pub fn authorized_keys(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let (mut keys, problems) = AuthorizedKeys::parse_lenient(text);
    assert_eq!(keys.to_text(), text);
    assert_eq!(AuthorizedKeys::parse(text).is_ok(), problems.is_empty());
    let anybody: PeerId = ANYBODY.parse().expect("a peer ID");
    if keys.get(&anybody).is_some() || keys.add(anybody, Some("somebody")).is_err() {
        return;
    }
    let (added, _) = AuthorizedKeys::parse_lenient(&keys.to_text());
    assert!(added.is_authorized(&anybody, 0));
    keys.remove(&anybody).expect("it was added");
    let restored = keys.to_text();
    assert!(restored == text || restored.strip_suffix('\n') == Some(text), "{restored:?}");
}

pub fn code(bytes: &[u8]) {
    let Some(Ok(code)) = text(bytes).map(Code::decode) else { return };
    let (again, _) = match &code {
        Code::Invite(invite) => (invite.encode(), invite.relay_multiaddr()),
        Code::Pairing(pairing) => (pairing.encode(), pairing.relay_multiaddr()),
    };
    assert_eq!(Code::decode(&again), Ok(code));
}

/// What crosses between a relay and the machines of a group, and the files in which both keep it.
pub fn pairing(bytes: &[u8]) {
    if let Ok(request) = Request::parse(bytes) {
        assert_eq!(Request::parse(&request.encode()), Ok(request));
    }
    match Response::parse(bytes) {
        Ok(joined @ Response::Joined { .. }) => assert_eq!(Response::parse(&joined.encode()), Ok(joined)),
        // Its text is cleaned, and may not fit any more.
        Ok(refused @ Response::Refused(_)) => assert!(Response::parse(&refused.encode()).is_ok()),
        Err(_) => {}
    }
    if let Ok(introduction) = Introduction::parse(bytes) {
        assert_eq!(Introduction::parse(&introduction.encode()), Ok(introduction));
    }
    let Some(text) = text(bytes) else { return };
    if let Ok(groups) = Groups::parse(text) {
        assert_eq!(Groups::parse(&groups.to_text()), Ok(groups));
    }
    if let Ok(memberships) = Memberships::parse(text) {
        assert_eq!(Memberships::parse(&memberships.to_text()), Ok(memberships));
    }
}

pub fn identity(bytes: &[u8]) {
    if let Ok(keypair) = identity::decode(bytes) {
        assert_eq!(*identity::encode(&keypair).expect("it was accepted"), bytes);
    }
}

pub fn inviter(bytes: &[u8]) {
    proves(bytes);
}

pub fn joiner(bytes: &[u8]) {
    joins(bytes);
}

/// Feeds an inviter what follows the first byte, which is the size of the chunks. Its token and randomness never
/// vary, so a kept input that proved the code once does so again. Says whether it did.
pub fn proves(bytes: &[u8]) -> bool {
    let mut inviter = Inviter::new(&token(), &mut rng());
    let fed = chunks(bytes).try_for_each(|chunk| inviter.handle_input(chunk));
    let proven = matches!(inviter.poll_event(), Some(InviterEvent::Proven { .. }));
    assert_eq!(inviter.accept(&name(), None).is_ok(), proven && fed.is_ok());
    let _ = inviter.handle_eof();
    while inviter.poll_transmit().is_some() {}
    assert!(inviter.is_finished());
    proven
}

/// As [`proves`], for a joiner: what it was told when the inviter accepted it.
pub fn joins(bytes: &[u8]) -> Option<Joined> {
    let mut joiner = Joiner::new(&token(), name(), &mut rng());
    let fed = chunks(bytes).try_for_each(|chunk| joiner.handle_input(chunk));
    let ended = joiner.handle_eof();
    let joined = joiner.poll_joined();
    assert_eq!(joined.is_some(), fed.is_ok() && ended.is_ok());
    assert_eq!(joiner.poll_joined(), None);
    joined
}

fn chunks(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (size, stream) = bytes.split_first().unwrap_or((&1, &[]));
    stream.chunks(usize::from(*size).max(1))
}

fn token() -> Token<8> {
    Token::new([0, 1, 2, 3, 4, 5, 6, 7])
}

fn name() -> NodeName {
    NodeName::sanitise("laptop").expect("a name")
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}
