//! `peers.yaml`: what [`Membership`] must remember over a restart.
//!
//! ```yaml
//! version: 1
//! network: my-crew            # absent for the global network
//! peers:
//! - peer: 12D3KooW…
//!   name: home                # absent when unknown
//!   claim:                    # absent before the peer signed one; ours is among them
//!     address: 10.64.0.1
//!     epoch: 1700000000
//!     signature: base64
//!   held:                     # absent when nothing is reserved
//!     address: 10.64.0.2
//!     until: 1700086400
//! ```
//!
//! The file is trusted no further than the network is: every signature is checked again. Entries outside the
//! configured range are left out, because the user may have changed `vpn.cidr`.

use std::{collections::BTreeSet, net::Ipv4Addr};

use data_encoding::BASE64;
use ipnet::Ipv4Net;
use peerup_types::{AddressClaim, DnsLabel, Keypair, PeerId};
use serde::{Deserialize, Serialize};

use crate::{
    claim::{VerifyError, verify},
    membership::{Hold, MAX_PEERS, Membership, PrefixTooSmall},
};

const VERSION: u32 = 1;

/// [`MAX_PEERS`] entries of every kind with room to spare.
const MAX_BYTES: usize = 4 << 20;

/// Base58 takes quadratic time to decode; no peer ID comes near.
const MAX_PEER_ID_TEXT: usize = 128;

const HEADER: &str =
    "# Addresses of this network's members, kept by peerup. Claims are signed: edit names only.\n";

#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    #[error("{0} bytes are too many for peers.yaml, the limit is {MAX_BYTES}")]
    TooLarge(usize),
    #[error("peers.yaml is damaged")]
    Syntax(#[source] serde_yaml::Error),
    #[error("peers.yaml has version {0}, this peerup reads version {VERSION}: please upgrade")]
    Version(u32),
    #[error("peers.yaml belongs to {}, the configuration says {}", shown(.found), shown(.configured))]
    OtherNetwork { found: Option<DnsLabel>, configured: Option<DnsLabel> },
    #[error("peers.yaml lists more than {MAX_PEERS} peers")]
    TooManyPeers,
    #[error("`{0}` in peers.yaml is not a peer ID")]
    InvalidPeerId(String),
    #[error("{0} appears twice in peers.yaml")]
    RepeatedPeer(PeerId),
    #[error("the signature of {peer} in peers.yaml is not base64")]
    InvalidSignature { peer: PeerId, source: data_encoding::DecodeError },
    #[error("a claim in peers.yaml is damaged")]
    Claim(#[from] VerifyError),
    #[error(transparent)]
    Prefix(#[from] PrefixTooSmall),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<DnsLabel>,
    #[serde(default)]
    peers: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    peer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<DnsLabel>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<Claim>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    address: Ipv4Addr,
    epoch: u64,
    signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    address: Ipv4Addr,
    until: u64,
}

/// The version alone, so that a file from the future is named as such whatever else it contains.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Membership {
    /// The text of `peers.yaml`. Whom to trust and what is pinned is written elsewhere.
    pub fn to_yaml(&self) -> String {
        let peers: BTreeSet<_> =
            self.claims.keys().chain(self.holds.keys()).chain(self.names.keys()).collect();
        let peers = peers.into_iter().map(|peer| self.entry(peer)).collect();
        let file = File { version: VERSION, network: self.network.clone(), peers };
        let yaml = serde_yaml::to_string(&file).expect("plain structs with string keys always serialize");
        format!("{HEADER}{yaml}")
    }

    /// Reads `peers.yaml`. Call [`set_authorized`](Self::set_authorized) and [`set_pins`](Self::set_pins)
    /// next: the file says what peers claimed, not whom to trust.
    pub fn from_yaml(
        text: &str,
        keypair: Keypair,
        network: Option<DnsLabel>,
        prefix: Ipv4Net,
    ) -> Result<Self, YamlError> {
        let file = parse(text)?;
        if file.network != network {
            return Err(YamlError::OtherNetwork { found: file.network, configured: network });
        }
        let mut membership = Self::new(keypair, network, prefix)?;
        let mut seen = BTreeSet::new();
        for entry in file.peers {
            let peer = parse_peer(&entry.peer)?;
            if !seen.insert(peer) {
                return Err(YamlError::RepeatedPeer(peer));
            }
            membership.load(peer, entry)?;
        }
        membership.adopt_assignment();
        Ok(membership)
    }

    fn entry(&self, peer: &PeerId) -> Entry {
        let claim = |claim: &AddressClaim| Claim {
            address: claim.address,
            epoch: claim.epoch,
            signature: BASE64.encode(&claim.signature),
        };
        Entry {
            peer: peer.to_string(),
            name: self.names.get(peer).cloned(),
            claim: self.claims.get(peer).map(claim),
            held: self.holds.get(peer).map(|hold| Held { address: hold.address, until: hold.until }),
        }
    }

    fn load(&mut self, peer: PeerId, entry: Entry) -> Result<(), YamlError> {
        let Entry { name, claim, held, peer: _ } = entry;
        self.names.extend(name.map(|name| (peer, name)));
        if let Some(claim) = claim {
            let claim = parse_claim(peer, claim)?;
            verify(&claim, self.network.as_ref())?;
            if self.check_host(claim.address).is_ok() {
                self.claims.insert(peer, claim);
            }
        }
        if let Some(Held { address, until }) = held.filter(|held| self.check_host(held.address).is_ok()) {
            self.holds.insert(peer, Hold { address, until });
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<File, YamlError> {
    if text.len() > MAX_BYTES {
        return Err(YamlError::TooLarge(text.len()));
    }
    let Version { version } = serde_yaml::from_str(text).map_err(YamlError::Syntax)?;
    if version != VERSION {
        return Err(YamlError::Version(version));
    }
    let file: File = serde_yaml::from_str(text).map_err(YamlError::Syntax)?;
    if file.peers.len() > 2 * MAX_PEERS { Err(YamlError::TooManyPeers) } else { Ok(file) }
}

fn parse_peer(text: &str) -> Result<PeerId, YamlError> {
    let invalid = || YamlError::InvalidPeerId(text.chars().take(64).collect());
    if text.len() > MAX_PEER_ID_TEXT {
        return Err(invalid());
    }
    text.parse().map_err(|_| invalid())
}

fn parse_claim(peer: PeerId, claim: Claim) -> Result<AddressClaim, YamlError> {
    let Claim { address, epoch, signature } = claim;
    let signature =
        BASE64.decode(signature.as_bytes()).map_err(|source| YamlError::InvalidSignature { peer, source })?;
    Ok(AddressClaim { peer, address, epoch, signature })
}

fn shown(network: &Option<DnsLabel>) -> String {
    network.as_ref().map_or_else(|| "the global network".to_owned(), |name| format!("network `{name}`"))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_700_000_000;

    #[test]
    fn a_file_round_trips_without_loss() {
        let membership = sample();
        let text = membership.to_yaml();
        let again = Membership::from_yaml(&text, keypair(1), network(), prefix()).unwrap();
        assert_eq!(again.to_yaml(), text);
        assert_eq!(again.own_addrs(), membership.own_addrs());
        assert_eq!(again.claims, membership.claims);
        assert_eq!(again.holds, membership.holds);
        assert_eq!(again.names, membership.names);
    }

    #[test]
    fn the_text_is_readable() {
        let mut membership = Membership::new(keypair(1), network(), prefix()).unwrap();
        membership.set_name(keypair(2).public().to_peer_id(), "home".parse().unwrap());
        assert_eq!(
            membership.to_yaml(),
            format!(
                "{HEADER}version: 1\nnetwork: my-crew\npeers:\n- peer: {}\n  name: home\n",
                keypair(2).public().to_peer_id()
            )
        );
    }

    #[test]
    fn damaged_files_are_explained() {
        let good = sample().to_yaml();
        let load = |text: &str| Membership::from_yaml(text, keypair(1), network(), prefix());
        assert!(matches!(load(""), Err(YamlError::Syntax(_))));
        assert!(matches!(load("version: 2\nnew: thing\n"), Err(YamlError::Version(2))));
        assert!(matches!(load(&good.replace("network:", "netwrk:")), Err(YamlError::Syntax(_))));
        assert!(matches!(load(&good.replace("my-crew", "other")), Err(YamlError::OtherNetwork { .. })));
        assert!(matches!(load(&good.replace("10.64.0.1", "10.64.0.7")), Err(YamlError::Claim(_))));
        assert!(matches!(
            load(&good.replace("signature: ", "signature: '!'#")),
            Err(YamlError::InvalidSignature { .. })
        ));
        assert!(matches!(load(&good.replacen("peer: 1", "peer: 0", 1)), Err(YamlError::InvalidPeerId(_))));
        let (_, entries) = good.split_once("peers:\n").unwrap();
        assert!(matches!(load(&format!("{good}{entries}")), Err(YamlError::RepeatedPeer(_))));
        assert!(matches!(load(&"#".repeat(MAX_BYTES + 1)), Err(YamlError::TooLarge(_))));
        assert!(load(&good[..good.len() / 2]).is_err());
    }

    #[test]
    fn addresses_outside_a_changed_range_are_left_out() {
        let text = sample().to_yaml();
        let prefix = "10.99.0.0/16".parse().unwrap();
        let mut moved = Membership::from_yaml(&text, keypair(1), network(), prefix).unwrap();
        assert_eq!(moved.own_addrs().v4, None);
        assert_eq!(moved.ensure_own(NOW + 9), Ok([10, 99, 0, 1].into()));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}", at: prop::sample::Index, byte in 0u8..128) {
            let _ = Membership::from_yaml(&text, keypair(1), network(), prefix());
            static GOOD: LazyLock<String> = LazyLock::new(|| sample().to_yaml());
            let mut good = GOOD.clone().into_bytes();
            let at = at.index(good.len());
            good[at] = byte;
            let _ = Membership::from_yaml(&String::from_utf8_lossy(&good), keypair(1), network(), prefix());
        }
    }

    fn sample() -> Membership {
        let mut membership = Membership::new(keypair(1), network(), prefix()).unwrap();
        let [second, third] = [keypair(2), keypair(3)];
        membership.set_authorized([&second, &third].map(|key| key.public().to_peer_id()).into(), NOW);
        membership.ensure_own(NOW).unwrap();
        let claim = crate::sign(&second, network().as_ref(), [10, 64, 3, 4].into(), NOW);
        membership.handle_claim(claim, NOW).unwrap();
        membership.assign_for(third.public().to_peer_id(), NOW).unwrap();
        membership.set_name(second.public().to_peer_id(), "123".parse().unwrap());
        membership
    }

    fn network() -> Option<DnsLabel> {
        Some("my-crew".parse().unwrap())
    }

    fn prefix() -> Ipv4Net {
        "10.64.0.0/16".parse().unwrap()
    }

    fn keypair(fill: u8) -> Keypair {
        Keypair::ed25519_from_bytes([fill; 32]).unwrap()
    }
}
