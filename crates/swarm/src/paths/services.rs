//! Protocols that come and go while connections stand: services.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use libp2p::{PeerId, StreamProtocol};

/// What authorized peers are offered besides the fixed protocols. Streams of these protocols take a queue of their
/// own, see [`crate::SwarmConfig::services`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services {
    pub everybody: BTreeSet<String>,
    /// For single peers, in addition.
    pub only: BTreeMap<PeerId, BTreeSet<String>>,
}

/// [`Services`] together with the fixed protocols, in the form that every stream's negotiation reads.
#[derive(Debug)]
pub(super) struct Offered {
    everybody: Arc<[StreamProtocol]>,
    only: BTreeMap<PeerId, Arc<[StreamProtocol]>>,
    fixed: usize,
}

impl Offered {
    /// Names that are none are left out; who made them checks them.
    pub(super) fn new(fixed: &[StreamProtocol], services: &Services) -> Self {
        let named = |names: &BTreeSet<String>| {
            let valid = names.iter().filter_map(|name| StreamProtocol::try_from_owned(name.clone()).ok());
            valid.filter(|name| !fixed.contains(name)).collect::<Vec<_>>()
        };
        let everybody: Vec<_> = fixed.iter().cloned().chain(named(&services.everybody)).collect();
        let with = |(peer, names): (&PeerId, &BTreeSet<String>)| {
            (*peer, everybody.iter().cloned().chain(named(names)).collect())
        };
        let only = services.only.iter().map(with).collect();
        Self { only, everybody: everybody.into(), fixed: fixed.len() }
    }

    pub(super) fn to(&self, peer: &PeerId) -> Arc<[StreamProtocol]> {
        self.only.get(peer).unwrap_or(&self.everybody).clone()
    }

    /// Whether `protocol` is a service rather than one of the fixed protocols.
    pub(super) fn is_service(&self, protocol: &StreamProtocol) -> bool {
        !self.everybody[..self.fixed].contains(protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_offered_what_is_for_everybody_and_what_is_for_it_alone() {
        let (anna, bert) = (PeerId::random(), PeerId::random());
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let services = Services {
            everybody: set(&["/peerup/ssh/1.0.0", "no slash", "/fixed"]),
            only: BTreeMap::from([(anna, set(&["/peerup/web/1.0.0"]))]),
        };
        let fixed = StreamProtocol::new("/fixed");
        let offered = Offered::new(std::slice::from_ref(&fixed), &services);
        let names = |peer| offered.to(peer).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&bert), ["/fixed", "/peerup/ssh/1.0.0"]);
        assert_eq!(names(&anna), ["/fixed", "/peerup/ssh/1.0.0", "/peerup/web/1.0.0"]);
        assert!(!offered.is_service(&fixed));
        assert!(offered.is_service(&StreamProtocol::new("/peerup/ssh/1.0.0")));
    }
}
