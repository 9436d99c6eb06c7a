//! [`Offers`]: everything this node serves to members.

use std::collections::{BTreeMap, BTreeSet};

use peerup_config::{HostPort, PingPong, PortRange, ProtocolId, Service};
use peerup_types::{DnsLabel, PeerId};
use peerup_wire::protocol;

/// Services that are exposed for the life of the daemon; each is a name in every stream's negotiation.
const MAX_EXPOSED: usize = 64;
/// Where a port that is asked for by number is served.
const LOOPBACK: &str = "localhost";

/// A service that somebody exposed through the API; it is gone with the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    pub local_address: HostPort,
    /// `None`: every member.
    pub allowed_peers: Option<Vec<PeerId>>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    #[error("`{name}` is in the configuration already")]
    Configured { name: DnsLabel },
    #[error("`{name}` is in the configuration, which keeps it")]
    Kept { name: DnsLabel },
    #[error("no service is called `{name}`")]
    Unknown { name: DnsLabel },
    #[error("{MAX_EXPOSED} services are exposed already")]
    TooMany,
}

/// What becomes of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Connect {
        service: DnsLabel,
        to: HostPort,
    },
    /// The stream says first which port; see [`Offers::port`].
    AskPort,
    PingPong,
}

/// Why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the peer is not authorized")]
    Stranger,
    #[error("the service is for other peers")]
    NotAllowed,
    #[error("there is no such service")]
    Unknown,
    #[error("the port is not in service_ports")]
    PortClosed,
}

/// A service as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: DnsLabel,
    pub protocol: String,
    pub local_address: HostPort,
    pub enabled: bool,
    pub allowed_peers: Option<Vec<PeerId>>,
    pub exposed: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Offers {
    members: BTreeSet<PeerId>,
    configured: BTreeMap<DnsLabel, Service>,
    exposed: BTreeMap<DnsLabel, Exposed>,
    ports: Vec<PortRange>,
    ping_pong: Option<ProtocolId>,
}

impl Offers {
    /// Who is a member, as `authorized_keys` says at this moment.
    pub fn set_members(&mut self, members: BTreeSet<PeerId>) {
        self.members = members;
    }

    pub fn configure(
        &mut self,
        services: &BTreeMap<DnsLabel, Service>,
        ports: &[PortRange],
        ping_pong: &PingPong,
    ) {
        self.configured = services.clone();
        self.ports = ports.to_vec();
        self.ping_pong = ping_pong.enabled.then(|| ping_pong.id.clone());
        // The configuration wins over what was exposed for a while.
        self.exposed.retain(|name, _| !services.contains_key(name));
    }

    /// Offers `name` until the process ends. Exposing it again changes it.
    pub fn expose(&mut self, name: DnsLabel, exposed: Exposed) -> Result<(), OfferError> {
        if self.configured.contains_key(&name) {
            return Err(OfferError::Configured { name });
        }
        if self.exposed.len() >= MAX_EXPOSED && !self.exposed.contains_key(&name) {
            return Err(OfferError::TooMany);
        }
        self.exposed.insert(name, exposed);
        Ok(())
    }

    pub fn unexpose(&mut self, name: &DnsLabel) -> Result<(), OfferError> {
        if self.exposed.remove(name).is_some() {
            return Ok(());
        }
        let name = name.clone();
        Err(match self.configured.contains_key(&name) {
            true => OfferError::Kept { name },
            false => OfferError::Unknown { name },
        })
    }

    /// Every service, also those that are off.
    pub fn list(&self) -> Vec<Listed> {
        let configured = self.configured.iter().map(|(name, service)| Listed {
            name: name.clone(),
            protocol: protocol::service(name),
            local_address: service.local_address.clone(),
            enabled: service.enabled,
            allowed_peers: service.allowed_peers.clone(),
            exposed: false,
        });
        let exposed = self.exposed.iter().map(|(name, exposed)| Listed {
            name: name.clone(),
            protocol: protocol::service(name),
            local_address: exposed.local_address.clone(),
            enabled: true,
            allowed_peers: exposed.allowed_peers.clone(),
            exposed: true,
        });
        configured.chain(exposed).collect()
    }

    /// Protocols of everything that is served, to whomever: [`answer`](Self::answer) tells the members apart.
    pub fn protocols(&self) -> BTreeSet<String> {
        let ports = (!self.ports.is_empty()).then(|| protocol::PORT.to_owned());
        let ping_pong = self.ping_pong.as_ref().map(ToString::to_string);
        self.active().flat_map(|offer| offer.protocols()).chain(ports).chain(ping_pong).collect()
    }

    /// What a stream of `protocol` from `peer` gets.
    pub fn answer(&self, peer: &PeerId, protocol: &str) -> Result<Answer, Refusal> {
        if !self.members.contains(peer) {
            return Err(Refusal::Stranger);
        }
        if protocol == protocol::PORT {
            return Ok(Answer::AskPort);
        }
        let found = self.active().find(|offer| offer.protocols().any(|name| name == protocol));
        if let Some(offer) = found {
            return match offer.allowed.is_none_or(|allowed| allowed.contains(peer)) {
                true => Ok(Answer::Connect { service: offer.name.clone(), to: offer.to.clone() }),
                false => Err(Refusal::NotAllowed),
            };
        }
        match &self.ping_pong {
            Some(id) if id.as_str() == protocol => Ok(Answer::PingPong),
            Some(_) | None => Err(Refusal::Unknown),
        }
    }

    /// Where the port leads that a member asks for.
    pub fn port(&self, peer: &PeerId, port: u16) -> Result<HostPort, Refusal> {
        if !self.members.contains(peer) {
            return Err(Refusal::Stranger);
        }
        match self.ports.iter().any(|range| range.contains(port)) {
            true => Ok(HostPort { host: LOOPBACK.to_owned(), port }),
            false => Err(Refusal::PortClosed),
        }
    }

    fn active(&self) -> impl Iterator<Item = Offer<'_>> {
        let configured = self.configured.iter().filter(|(_, service)| service.enabled);
        let configured = configured.map(|(name, service)| Offer {
            name,
            to: &service.local_address,
            allowed: service.allowed_peers.as_deref(),
            alias: service.protocol.as_ref(),
        });
        let exposed = self.exposed.iter().map(|(name, exposed)| Offer {
            name,
            to: &exposed.local_address,
            allowed: exposed.allowed_peers.as_deref(),
            alias: None,
        });
        configured.chain(exposed)
    }
}

/// A service that is on.
struct Offer<'a> {
    name: &'a DnsLabel,
    to: &'a HostPort,
    allowed: Option<&'a [PeerId]>,
    alias: Option<&'a ProtocolId>,
}

impl Offer<'_> {
    fn protocols(&self) -> impl Iterator<Item = String> + use<> {
        std::iter::once(protocol::service(self.name)).chain(self.alias.map(ToString::to_string))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_gets_what_is_for_everybody_and_what_names_it() {
        let (anna, bert) = (PeerId::random(), PeerId::random());
        let offers = offers(&[anna, bert], |services| {
            services.insert(label("ssh"), service("localhost:22"));
            let only = Some(vec![anna]);
            services.insert(label("db"), Service { allowed_peers: only, ..service("localhost:5432") });
            services.insert(label("off"), Service { enabled: false, ..service("localhost:1") });
        });
        let ssh = Answer::Connect { service: label("ssh"), to: "localhost:22".parse().unwrap() };
        assert_eq!(offers.answer(&bert, "/peerup/ssh/1.0.0"), Ok(ssh));
        assert!(offers.answer(&anna, "/peerup/db/1.0.0").is_ok());
        assert_eq!(offers.answer(&bert, "/peerup/db/1.0.0"), Err(Refusal::NotAllowed));
        assert_eq!(offers.answer(&anna, "/peerup/off/1.0.0"), Err(Refusal::Unknown));
        assert_eq!(offers.answer(&anna, "/peerup/tun/1.0.0"), Err(Refusal::Unknown));
        let all = ["/peerup/db/1.0.0", "/peerup/ssh/1.0.0", "/pingpong/1.0.0"].map(str::to_owned);
        assert_eq!(offers.protocols(), BTreeSet::from(all));
    }

    #[test]
    fn nobody_gets_anything_who_is_not_a_member_at_that_moment() {
        let anna = PeerId::random();
        let mut offers = offers(&[anna], |services| {
            services.insert(label("ssh"), service("localhost:22"));
        });
        offers.ports = vec!["22".parse().unwrap()];
        assert!(offers.answer(&anna, "/peerup/ssh/1.0.0").is_ok());
        offers.set_members(BTreeSet::new());
        for protocol in ["/peerup/ssh/1.0.0", "/peerup/port/1.0.0", "/pingpong/1.0.0"] {
            assert_eq!(offers.answer(&anna, protocol), Err(Refusal::Stranger), "{protocol}");
        }
        assert_eq!(offers.port(&anna, 22), Err(Refusal::Stranger));
    }

    #[test]
    fn ports_are_closed_unless_they_are_listed() {
        let anna = PeerId::random();
        let mut offers = offers(&[anna], |_| {});
        assert!(!offers.protocols().contains(protocol::PORT));
        assert_eq!(offers.port(&anna, 22), Err(Refusal::PortClosed));
        offers.ports = vec!["22".parse().unwrap(), "8000-8001".parse().unwrap()];
        assert!(offers.protocols().contains(protocol::PORT));
        assert_eq!(offers.answer(&anna, protocol::PORT), Ok(Answer::AskPort));
        assert_eq!(offers.port(&anna, 8001), Ok("localhost:8001".parse().unwrap()));
        assert_eq!(offers.port(&anna, 8002), Err(Refusal::PortClosed));
    }

    #[test]
    fn exposed_services_come_and_go_but_never_stand_in_for_configured_ones() {
        let anna = PeerId::random();
        let mut offers = offers(&[anna], |services| {
            services.insert(label("ssh"), service("localhost:22"));
        });
        let web = || Exposed { local_address: "localhost:80".parse().unwrap(), allowed_peers: None };
        let configured = Err(OfferError::Configured { name: label("ssh") });
        assert_eq!(offers.expose(label("ssh"), web()), configured);
        offers.expose(label("web"), web()).unwrap();
        assert!(offers.answer(&anna, "/peerup/web/1.0.0").is_ok());
        assert_eq!(offers.list().iter().map(|row| row.exposed).collect::<Vec<_>>(), [false, true]);
        offers.unexpose(&label("web")).unwrap();
        assert_eq!(offers.answer(&anna, "/peerup/web/1.0.0"), Err(Refusal::Unknown));
        assert_eq!(offers.unexpose(&label("web")), Err(OfferError::Unknown { name: label("web") }));
        assert_eq!(offers.unexpose(&label("ssh")), Err(OfferError::Kept { name: label("ssh") }));
    }

    #[test]
    fn exposed_services_are_bounded() {
        let mut offers = Offers::default();
        let web = || Exposed { local_address: "localhost:80".parse().unwrap(), allowed_peers: None };
        for number in 0..MAX_EXPOSED {
            offers.expose(label(&format!("s{number}")), web()).unwrap();
        }
        assert_eq!(offers.expose(label("more"), web()), Err(OfferError::TooMany));
        assert_eq!(offers.expose(label("s0"), web()), Ok(()));
    }

    #[test]
    fn a_protocol_of_its_own_is_answered_beside_the_usual_one() {
        let anna = PeerId::random();
        let offers = offers(&[anna], |services| {
            let own = Some("/my/ssh/2".parse().unwrap());
            services.insert(label("ssh"), Service { protocol: own, ..service("localhost:22") });
        });
        assert_eq!(offers.answer(&anna, "/my/ssh/2"), offers.answer(&anna, "/peerup/ssh/1.0.0"));
    }

    fn offers(members: &[PeerId], fill: impl FnOnce(&mut BTreeMap<DnsLabel, Service>)) -> Offers {
        let mut services = BTreeMap::new();
        fill(&mut services);
        let mut offers = Offers::default();
        offers.set_members(members.iter().copied().collect());
        let ping_pong = PingPong { enabled: true, id: "/pingpong/1.0.0".parse().unwrap() };
        offers.configure(&services, &[], &ping_pong);
        offers
    }

    fn service(to: &str) -> Service {
        Service { enabled: true, local_address: to.parse().unwrap(), protocol: None, allowed_peers: None }
    }

    fn label(text: &str) -> DnsLabel {
        text.parse().unwrap()
    }
}
