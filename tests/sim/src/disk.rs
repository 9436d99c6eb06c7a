//! `peers.yaml` of each host: written a moment after a change, as the daemon does.

use std::{net::Ipv4Addr, time::Duration};

use peerup_membership::Membership;

use crate::{
    host::OVERLAY,
    world::{HostId, World},
};

/// From a change to the write of `peers.yaml`, as in the daemon.
const PERSIST_AFTER: Duration = Duration::from_millis(200);

impl World {
    /// Gives every host the `peers.yaml` that pairing leaves behind: an address of its own.
    pub fn assign_addresses(&mut self, hosts: &[HostId]) {
        let unix = self.unix();
        for (number, host) in (1u8..).zip(hosts) {
            let found = &mut self.hosts[host.0];
            let range = OVERLAY.parse().expect("a constant");
            let mut membership = Membership::new(found.keypair.clone(), None, range).expect("a /16 has room");
            let address = Ipv4Addr::new(10, 64, 0, number);
            membership.handle_grant(address, &[], unix).expect("nobody else is known");
            found.yaml = Some(membership.to_yaml());
        }
    }

    /// Several changes are written at once.
    pub(crate) fn persist_later(&mut self, host: HostId) {
        let Some(running) = self.hosts[host.0].running() else { return };
        if std::mem::replace(&mut running.unwritten, true) {
            return;
        }
        let boot = self.hosts[host.0].boot;
        self.after(PERSIST_AFTER, move |world| {
            if world.hosts[host.0].boot == boot {
                world.persist(host);
            }
        });
    }

    pub(crate) fn persist(&mut self, host: HostId) {
        let Some(running) = self.hosts[host.0].running() else { return };
        if std::mem::take(&mut running.unwritten) {
            self.hosts[host.0].yaml = self.hosts[host.0].node().map(|node| node.membership().to_yaml());
        }
    }
}
