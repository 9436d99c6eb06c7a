use super::*;
use crate::claim::tests::any_claim;
use proptest::{collection::vec, option, prelude::*};

fn any_label() -> impl Strategy<Value = DnsLabel> {
    "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?".prop_map(|text| text.parse().unwrap())
}

fn any_relay_address() -> impl Strategy<Value = Multiaddr> {
    use peerup_types::Protocol;
    (any::<std::net::IpAddr>(), any::<u16>())
        .prop_map(|(ip, port)| Multiaddr::from(ip).with(Protocol::Udp(port)).with(Protocol::QuicV1))
}

fn any_versions() -> impl Strategy<Value = VersionRange> {
    (1..=u16::MAX, 1..=u16::MAX).prop_map(|(a, b)| VersionRange::new(a.min(b), a.max(b)).unwrap())
}

prop_compose! {
    fn any_hello()(
        versions in any_versions(),
        (features, boot_epoch) in any::<(u64, u64)>(),
        (v4, v6) in any::<(Option<Ipv4Addr>, Ipv6Addr)>(),
        own_claim in option::of(any_claim()),
        known_claims in vec(any_claim(), 0..4),
        name in option::of(any_label()),
        mtu in MIN_MTU..,
        network in option::of(any_label()),
        relay_addresses in vec(any_relay_address(), 0..=MAX_RELAY_ADDRS),
    ) -> Hello {
        let overlay = OverlayAddrs { v4, v6 };
        Hello {
            versions, features, boot_epoch, overlay, own_claim, known_claims, name, mtu, network, relay_addresses,
        }
    }
}

fn any_ack() -> impl Strategy<Value = HelloAck> {
    use RefusalReason::*;
    let reason = prop::sample::select(vec![NotAuthorised, Version, Network, Busy, Unspecified]);
    prop_oneof![
        any_hello().prop_map(HelloAck::Accepted),
        (any_versions(), reason).prop_map(|(versions, reason)| HelloAck::Refused { versions, reason }),
    ]
}

/// Splits a message into prefix and body the way a reader does.
fn body(message: &[u8]) -> &[u8] {
    let (prefix, body) = message.split_first_chunk().unwrap();
    assert_eq!(decode_length(*prefix), Ok(body.len()));
    body
}

fn minimal() -> Hello {
    Hello {
        versions: VersionRange::SUPPORTED,
        features: FEATURE_ACKS,
        boot_epoch: 1,
        overlay: OverlayAddrs { v4: None, v6: "fd00::1".parse().unwrap() },
        own_claim: None,
        known_claims: Vec::new(),
        name: None,
        mtu: 1420,
        network: None,
        relay_addresses: Vec::new(),
    }
}

/// The body of a minimal hello, followed by one more field.
fn with_field(field: u16, value: &[u8]) -> Vec<u8> {
    let mut message = body(&minimal().encode()).to_vec();
    tlv::put(&mut message, field, value);
    message
}

/// The body of a minimal hello without one of its fields.
fn without_field(gone: u16) -> Vec<u8> {
    let mut message = Vec::new();
    for (field, value) in Fields::new(body(&minimal().encode())).map(Result::unwrap) {
        if field != gone {
            tlv::put(&mut message, field, value);
        }
    }
    message
}

proptest! {
    #[test]
    fn a_hello_survives_the_wire(hello in any_hello()) {
        prop_assert_eq!(Hello::parse(body(&hello.encode())), Ok(hello));
    }

    #[test]
    fn an_ack_survives_the_wire(ack in any_ack()) {
        prop_assert_eq!(HelloAck::parse(body(&ack.encode())), Ok(ack));
    }

    #[test]
    fn a_hello_whose_bytes_are_damaged_never_panics(
        hello in any_hello(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut message = body(&hello.encode()).to_vec();
        let at = at.index(message.len());
        message[at] = byte;
        let _ = Hello::parse(&message);
        let _ = HelloAck::parse(&message);
    }

    #[test]
    fn arbitrary_bytes_never_panic(message in vec(any::<u8>(), 0..300)) {
        let _ = Hello::parse(&message);
        let _ = HelloAck::parse(&message);
    }

    #[test]
    fn a_hello_cut_short_is_refused(hello in any_hello(), at in any::<prop::sample::Index>()) {
        // What stands last and may be absent is not missed by a cut exactly before it.
        let hello = Hello { network: None, relay_addresses: Vec::new(), ..hello };
        let message = hello.encode();
        let message = body(&message);
        prop_assert!(Hello::parse(&message[..at.index(message.len())]).is_err());
    }
}

#[test]
fn fields_of_later_versions_are_skipped() {
    assert_eq!(Hello::parse(&with_field(4711, b"whatever")), Ok(minimal()));
}

#[test]
fn a_known_field_that_stands_twice_is_refused() {
    for (field, value) in [(MTU, &[0x05, 0x8c][..]), (FEATURES, &[0; 8]), (OVERLAY_V6, &[0; 16])] {
        assert_eq!(Hello::parse(&with_field(field, value)), Err(HelloError::Duplicate { field }));
    }
}

#[test]
fn a_required_field_that_is_missing_is_named() {
    for field in [VERSIONS, FEATURES, BOOT_EPOCH, OVERLAY_V6, MTU] {
        assert_eq!(Hello::parse(&without_field(field)), Err(HelloError::Missing { field }));
    }
}

#[test]
fn an_ack_without_a_status_is_refused() {
    let message = minimal().encode();
    assert_eq!(HelloAck::parse(body(&message)), Err(HelloError::Missing { field: STATUS }));
}

#[test]
fn values_that_cannot_be_are_refused() {
    let impossible: [(u16, &[u8]); 6] = [
        (OVERLAY_V4, &[10, 64, 0]),
        (NODE_NAME, b"not a name"),
        (NODE_NAME, &[0xff]),
        (NETWORK, b""),
        (NODE_NAME, &[b'x'; 64]),
        (STATUS, &[0, 0]),
    ];
    for (field, value) in impossible {
        assert_eq!(Hello::parse(&with_field(field, value)), Err(HelloError::Value { field }));
    }
    for mtu in [0, MIN_MTU - 1] {
        let message = Hello { mtu, ..minimal() }.encode();
        assert_eq!(Hello::parse(body(&message)), Err(HelloError::Value { field: MTU }));
    }
}

#[test]
fn a_length_over_16_kib_is_refused_before_anything_is_read() {
    assert_eq!(decode_length(16_384_u16.to_be_bytes()), Ok(16_384));
    assert_eq!(decode_length(16_385_u16.to_be_bytes()), Err(HelloError::TooLong { len: 16_385 }));
    assert_eq!(Hello::parse(&vec![0; MAX_LEN + 1]), Err(HelloError::TooLong { len: MAX_LEN + 1 }));
}

#[test]
fn a_hello_carries_at_most_64_claims_of_others() {
    let claim = AddressClaim {
        peer: peerup_types::PeerId::random(),
        address: [10, 64, 0, 9].into(),
        epoch: 7,
        signature: vec![9; 64],
    };
    let hello = Hello { known_claims: vec![claim; 100], ..minimal() };
    let mut message = body(&hello.encode()).to_vec();
    let parsed = Hello::parse(&message).unwrap();
    assert_eq!(parsed.known_claims, hello.known_claims[..MAX_CLAIMS]);
    emit_claim(KNOWN_CLAIM, &hello.known_claims[0], &mut message);
    assert_eq!(Hello::parse(&message), Err(HelloError::TooManyClaims));
}

#[test]
fn a_hello_carries_at_most_8_relay_addresses_and_none_that_is_over_long() {
    let short: Multiaddr = "/ip4/192.0.2.1/tcp/4001".parse().unwrap();
    let long: Multiaddr = format!("/dns4/{}/tcp/4001", "x".repeat(200)).parse().unwrap();
    let hello = Hello { relay_addresses: [vec![long.clone()], vec![short.clone(); 9]].concat(), ..minimal() };
    let mut message = body(&hello.encode()).to_vec();
    assert_eq!(Hello::parse(&message).unwrap().relay_addresses, vec![short.clone(); 8]);
    tlv::put(&mut message, RELAY_ADDRESS, short.as_ref());
    assert_eq!(Hello::parse(&message), Err(HelloError::TooManyRelayAddresses));
    for damaged in [long.as_ref(), &[0xff, 0xff, 0xff][..]] {
        let refused = Err(HelloError::Value { field: RELAY_ADDRESS });
        assert_eq!(Hello::parse(&with_field(RELAY_ADDRESS, damaged)), refused);
    }
}

#[test]
fn a_refusal_says_nothing_but_versions_and_reason() {
    let ack = HelloAck::Refused { versions: VersionRange::SUPPORTED, reason: RefusalReason::NotAuthorised };
    let message = ack.encode();
    let fields: Vec<u16> = Fields::new(body(&message)).map(|field| field.unwrap().0).collect();
    assert_eq!(fields, [STATUS, VERSIONS]);
}

#[test]
fn a_refusal_for_a_reason_of_a_later_version_is_still_a_refusal() {
    let mut message = Vec::new();
    tlv::put(&mut message, STATUS, &[99]);
    emit_versions(VersionRange::SUPPORTED, &mut message);
    let refused = HelloAck::Refused { versions: VersionRange::SUPPORTED, reason: RefusalReason::Unspecified };
    assert_eq!(HelloAck::parse(&message), Ok(refused));
}
