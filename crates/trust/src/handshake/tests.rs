use peerup_types::AddressClaim;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::{name::NodeName, token::Token};

#[test]
fn inviter_and_joiner_learn_each_others_names_and_the_grant_arrives() {
    let (mut inviter, mut joiner) = pair(TOKEN, TOKEN);
    run(&mut inviter, &mut joiner, usize::MAX).unwrap();
    assert_eq!(inviter.poll_event(), Some(InviterEvent::Proven { joiner_name: Some(name("laptop")) }));
    inviter.accept(&name("home"), Some(&grant())).unwrap();
    run(&mut inviter, &mut joiner, usize::MAX).unwrap();
    assert!(inviter.is_finished());
    assert_eq!(joiner.poll_joined(), Some(Joined { inviter_name: Some(name("home")), grant: Some(grant()) }));
    assert_eq!(joiner.handle_eof(), Ok(()));
    assert_eq!(joiner.poll_joined(), None);
}

#[test]
fn the_frames_have_the_documented_lengths() {
    let (mut inviter, mut joiner) = pair(TOKEN, TOKEN);
    let hello = joiner.poll_transmit().unwrap();
    assert_eq!((hello.len(), hello[0]), (33, 1));
    inviter.handle_input(&hello).unwrap();
    let key = inviter.poll_transmit().unwrap();
    assert_eq!(key.len(), 32);
    joiner.handle_input(&key).unwrap();
    let frame = joiner.poll_transmit().unwrap();
    assert_eq!(frame[..2], [0, 24 + 6 + 16]);
    assert_eq!(frame.len(), 2 + 24 + "laptop".len() + 16);
    inviter.handle_input(&frame).unwrap();
    inviter.accept(&name("home"), None).unwrap();
    assert_eq!(inviter.poll_transmit().unwrap().len(), 2 + 24 + "OK home".len() + 16);
    assert_eq!(inviter.poll_transmit(), None);
}

#[test]
fn an_inviter_that_grants_nothing_leaves_a_member_without_a_grant() {
    let (mut inviter, mut joiner) = pair(TOKEN, TOKEN);
    run(&mut inviter, &mut joiner, usize::MAX).unwrap();
    inviter.accept(&name("home"), None).unwrap();
    run(&mut inviter, &mut joiner, usize::MAX).unwrap();
    assert_eq!(joiner.poll_joined(), None);
    joiner.handle_eof().unwrap();
    assert_eq!(joiner.poll_joined(), Some(Joined { inviter_name: Some(name("home")), grant: None }));
}

#[test]
fn a_stream_that_breaks_within_the_grant_still_makes_a_member() {
    let (mut inviter, mut joiner) = pair(TOKEN, TOKEN);
    run(&mut inviter, &mut joiner, usize::MAX).unwrap();
    inviter.accept(&name("home"), Some(&grant())).unwrap();
    joiner.handle_input(&inviter.poll_transmit().unwrap()).unwrap();
    joiner.handle_input(&inviter.poll_transmit().unwrap()[..20]).unwrap();
    joiner.handle_eof().unwrap();
    assert!(joiner.poll_joined().unwrap().grant.is_none());
}

#[test]
fn a_wrong_token_is_noticed_by_the_inviter_which_says_nothing() {
    let (mut inviter, mut joiner) = pair(TOKEN, [9; 8]);
    let error = run(&mut inviter, &mut joiner, usize::MAX).unwrap_err();
    assert_eq!(error, HandshakeError::WrongCode);
    assert!(error.is_guess());
    assert_eq!(inviter.poll_event(), None);
    assert_eq!(inviter.poll_transmit(), None);
    assert_eq!(inviter.accept(&name("home"), None), Err(AcceptError::NobodyWaits));
    assert_eq!(joiner.handle_eof(), Err(HandshakeError::Rejected));
}

#[test]
fn an_inviter_that_cannot_add_the_joiner_says_so() {
    let (mut inviter, mut joiner) = pair(TOKEN, TOKEN);
    run(&mut inviter, &mut joiner, usize::MAX).unwrap();
    inviter.refuse().unwrap();
    let error = run(&mut inviter, &mut joiner, usize::MAX).unwrap_err();
    assert_eq!(error, HandshakeError::Refused { reason: "server error".into() });
    assert_eq!(joiner.poll_joined(), None);
}

#[test]
fn other_versions_are_refused() {
    let (mut inviter, _) = pair(TOKEN, TOKEN);
    assert_eq!(inviter.handle_input(&[2; 33]), Err(HandshakeError::UnsupportedVersion(2)));
}

#[test]
fn degenerate_public_keys_are_refused_on_both_sides() {
    // RFC 7748 §6.1: points of small order give an all-zero secret; 0 and 1 are two of them.
    for first in [0, 1] {
        let mut point = [0; 33];
        (point[0], point[1]) = (1, first);
        let (mut inviter, mut joiner) = pair(TOKEN, TOKEN);
        assert_eq!(inviter.handle_input(&point), Err(HandshakeError::NonContributory));
        assert_eq!(joiner.handle_input(&point[1..]), Err(HandshakeError::NonContributory));
    }
}

#[test]
fn frame_lengths_are_checked_before_the_frame_arrives() {
    for (len, frame) in [(0, [0, 0]), (4097, [0x10, 0x01]), (65_535, [0xff, 0xff])] {
        let (mut inviter, mut joiner) = pair(TOKEN, TOKEN);
        inviter.handle_input(&joiner.poll_transmit().unwrap()).unwrap();
        joiner.handle_input(&inviter.poll_transmit().unwrap()).unwrap();
        let error = HandshakeError::FrameLength { len, max: 4096 };
        assert_eq!(inviter.handle_input(&frame), Err(error.clone()));
        assert_eq!(joiner.handle_input(&frame), Err(error));
    }
}

#[test]
fn a_joiner_whose_own_frame_comes_back_does_not_take_it_for_an_answer() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut joiner = Joiner::new(&Token::new(TOKEN), NodeName::sanitise("OK home").unwrap(), &mut rng);
    let mut inviter = Inviter::new(&Token::new(TOKEN), &mut rng);
    inviter.handle_input(&joiner.poll_transmit().unwrap()).unwrap();
    joiner.handle_input(&inviter.poll_transmit().unwrap()).unwrap();
    let own = joiner.poll_transmit().unwrap();
    assert_eq!(joiner.handle_input(&own), Err(HandshakeError::UnexpectedAnswer));
}

#[test]
fn a_closed_stream_is_explained_by_what_was_missing() {
    let (mut inviter, mut joiner) = pair(TOKEN, TOKEN);
    assert_eq!(joiner.handle_eof(), Err(HandshakeError::NotOpen));
    assert_eq!(inviter.handle_eof(), Err(HandshakeError::Abandoned));
    assert!(!HandshakeError::Abandoned.is_guess());
}

#[test]
fn after_an_error_nothing_more_happens() {
    let (mut inviter, mut joiner) = pair(TOKEN, TOKEN);
    inviter.handle_input(&[0; 33]).unwrap_err();
    inviter.handle_input(&joiner.poll_transmit().unwrap()).unwrap();
    assert_eq!((inviter.poll_transmit(), inviter.poll_event()), (None, None));
    assert!(inviter.is_finished());
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_result(chunk in 1usize..80) {
        let (mut inviter, mut joiner) = pair(TOKEN, TOKEN);
        run(&mut inviter, &mut joiner, chunk).unwrap();
        inviter.accept(&name("home"), Some(&grant())).unwrap();
        run(&mut inviter, &mut joiner, chunk).unwrap();
        prop_assert_eq!(joiner.poll_joined().unwrap().grant, Some(grant()));
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_make_a_member(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..10), versioned: bool) {
        let (mut inviter, mut joiner) = pair(TOKEN, TOKEN);
        let mut first = vec![];
        if versioned {
            first.push(VERSION);
        }
        let _ = inviter.handle_input(&first);
        for chunk in &chunks {
            let _ = inviter.handle_input(chunk);
            let _ = joiner.handle_input(chunk);
        }
        let _ = (inviter.handle_eof(), joiner.handle_eof());
        prop_assert_eq!(inviter.poll_event(), None);
        prop_assert_eq!(joiner.poll_joined(), None);
    }
}

const TOKEN: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

fn pair(inviter: [u8; 8], joiner: [u8; 8]) -> (Inviter, Joiner) {
    let mut rng = StdRng::seed_from_u64(7);
    let inviter = Inviter::new(&Token::new(inviter), &mut rng);
    (inviter, Joiner::new(&Token::new(joiner), name("laptop"), &mut rng))
}

/// Carries bytes both ways in chunks until neither side has anything to say.
fn run(inviter: &mut Inviter, joiner: &mut Joiner, chunk: usize) -> Result<(), HandshakeError> {
    loop {
        let up = joiner.poll_transmit();
        let down = inviter.poll_transmit();
        if up.is_none() && down.is_none() {
            return Ok(());
        }
        up.unwrap_or_default().chunks(chunk).try_for_each(|bytes| inviter.handle_input(bytes))?;
        down.unwrap_or_default().chunks(chunk).try_for_each(|bytes| joiner.handle_input(bytes))?;
    }
}

fn grant() -> Grant {
    let inviter = "12D3KooWC7cDcNR4J3NC9y1gTkqafZKmnjCUvrRMxU2LMugGJGgy".parse().unwrap();
    let claim = AddressClaim {
        peer: inviter,
        address: [10, 64, 0, 1].into(),
        epoch: 1_700_000_000,
        signature: vec![5; 64],
    };
    Grant {
        address: [10, 64, 0, 2].into(),
        prefix: "10.64.0.0/16".parse().unwrap(),
        inviter_address: Some([10, 64, 0, 1].into()),
        claims: vec![claim],
        relays: vec!["/ip4/203.0.113.50/tcp/7777".parse().unwrap()],
    }
}

fn name(text: &str) -> NodeName {
    NodeName::sanitise(text).unwrap()
}
