//! The relay: observes addresses, grants reservations to whoever asks, joins two legs to a circuit.

use std::collections::BTreeMap;

use peerup_types::PeerId;

use crate::{
    connection::{EndId, Message},
    dial::{self, DialId},
    world::{HostId, World},
};

#[derive(Debug, Default)]
pub struct Relay {
    /// Our end of the connection on which each reservation was made.
    reservations: BTreeMap<PeerId, EndId>,
}

impl World {
    fn reservation(&self, relay: HostId, peer: &PeerId) -> Option<EndId> {
        let end = *self.hosts[relay.0].relay()?.reservations.get(peer)?;
        self.is_open(end).then_some(end)
    }

    /// identify: what the client looks like from here.
    pub(crate) fn relay_opened(&mut self, end: EndId) {
        let transport = self.connections[&end.connection].transport();
        let Some((_, seen)) = self.end(end).and_then(|end| end.sockets) else { return };
        self.transmit(end, Message::Identify { observed: dial::multiaddr(transport, seen) });
    }

    pub(crate) fn relay_received(&mut self, relay: HostId, end: EndId, message: Message) {
        match message {
            Message::Echo => self.transmit(end, Message::KeepAlive),
            Message::Reserve => {
                let client = self.end(end.other()).map(|client| self.hosts[client.host.0].peer);
                let Some((client, state)) = client.zip(self.hosts[relay.0].relay_mut()) else { return };
                state.reservations.insert(client, end);
                self.transmit(end, Message::Reserved);
            }
            Message::Connect { dial, peer } => self.relay_connect(relay, end, dial, peer),
            Message::Accept { dial, leg } => {
                self.transmit(leg, Message::Connected { dial, leg: end.other() })
            }
            // Only clients get these.
            Message::KeepAlive
            | Message::Close
            | Message::Hello(_)
            | Message::Ack(_)
            | Message::Probe(_)
            | Message::Answer(_)
            | Message::Control(_)
            | Message::Packet { .. }
            | Message::Identify { .. }
            | Message::Reserved
            | Message::Connected { .. }
            | Message::Denied { .. }
            | Message::Offer { .. }
            | Message::LegLost { .. } => {}
        }
    }

    fn relay_connect(&mut self, relay: HostId, leg: EndId, dial: DialId, peer: PeerId) {
        match self.reservation(relay, &peer) {
            Some(reserved) => self.transmit(reserved, Message::Offer { dial, leg }),
            None => self.transmit(leg, Message::Denied { dial }),
        }
    }
}
