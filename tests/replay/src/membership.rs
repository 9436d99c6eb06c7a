//! `peers.yaml`.

use ipnet::Ipv4Net;
use peerup_membership::Membership;
use peerup_types::Keypair;

use crate::text;

/// What was read and written once is written the same again.
pub fn peers_yaml(bytes: &[u8]) {
    let Some(read) = text(bytes).and_then(read) else { return };
    let written = read.to_yaml();
    let again = self::read(&written).expect("what was written is readable");
    assert_eq!(again.to_yaml(), written);
}

fn read(text: &str) -> Option<Membership> {
    let keypair = Keypair::ed25519_from_bytes([1; 32]).expect("a key has 32 bytes");
    let network = "my-crew".parse().expect("a label");
    let range = Ipv4Net::new_assert([10, 64, 0, 0].into(), 16);
    Membership::from_yaml(text, keypair, Some(network), range).ok()
}
