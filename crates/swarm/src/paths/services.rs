//! Protocols that come and go while connections stand: services.

use std::{collections::BTreeSet, sync::Arc};

use libp2p::StreamProtocol;

/// What authorized peers are offered besides the fixed protocols. Streams of these protocols take a queue of their
/// own, see [`crate::SwarmConfig::services`]; whose queue it is decides who gets what.
pub type Services = BTreeSet<String>;

/// [`Services`] together with the fixed protocols, in the form that every stream's negotiation reads.
#[derive(Debug)]
pub(super) struct Offered {
    all: Arc<[StreamProtocol]>,
    fixed: usize,
}

impl Offered {
    /// Names that are none are left out; who made them checks them.
    pub(super) fn new(fixed: &[StreamProtocol], services: &Services) -> Self {
        let valid = services.iter().filter_map(|name| StreamProtocol::try_from_owned(name.clone()).ok());
        let named = valid.filter(|name| !fixed.contains(name));
        Self { all: fixed.iter().cloned().chain(named).collect(), fixed: fixed.len() }
    }

    pub(super) fn all(&self) -> Arc<[StreamProtocol]> {
        self.all.clone()
    }

    /// Whether `protocol` is a service rather than one of the fixed protocols.
    pub(super) fn is_service(&self, protocol: &StreamProtocol) -> bool {
        !self.all[..self.fixed].contains(protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_stand_behind_the_fixed_protocols_and_hide_none_of_them() {
        let services = ["/peerup/ssh/1.0.0", "no slash", "/fixed"].map(str::to_owned).into();
        let fixed = StreamProtocol::new("/fixed");
        let offered = Offered::new(std::slice::from_ref(&fixed), &services);
        let names: Vec<String> = offered.all().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["/fixed", "/peerup/ssh/1.0.0"]);
        assert!(!offered.is_service(&fixed));
        assert!(offered.is_service(&StreamProtocol::new("/peerup/ssh/1.0.0")));
    }
}
