//! Listeners, and the addresses that others use.

use std::{net::IpAddr, time::Duration};

use peerup_service::interface_addresses;
use peerup_swarm::ListenError;
use peerup_types::Multiaddr;
use tokio::time::{Instant, timeout_at};

use super::Relay;
use crate::{addresses, error::RelayError};

/// Binding local ports takes no time; this only bounds a wait for what never happens.
const BIND_DEADLINE: Duration = Duration::from_secs(5);
const BIND_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Relay {
    pub(super) async fn listen(&mut self) -> Result<(), RelayError> {
        self.config.network.listen_addresses.retain(|listener| {
            let lacks_family = addresses::lacks_family(listener);
            if lacks_family {
                tracing::warn!(%listener, "this host has no IPv6: not listened on");
            }
            !lacks_family
        });
        let listeners = self.config.network.listen_addresses.clone();
        for address in &listeners {
            addresses::check_free(address)
                .map_err(|source| RelayError::Bind { address: address.clone(), source })?;
        }
        for address in listeners {
            self.swarm.listen(address)?;
        }
        self.bind().await?;
        self.announce();
        if self.report.addresses.is_empty() {
            tracing::warn!("no address to announce, so no node can reserve; set network.external_addresses");
        }
        Ok(())
    }

    /// Waits until every port is known.
    async fn bind(&mut self) -> Result<(), RelayError> {
        let until = Instant::now() + BIND_DEADLINE;
        while let Some(address) = self.unbound_port() {
            let event = timeout_at(until, self.swarm.next_event()).await;
            self.handle_event(event.map_err(|_| RelayError::NoPort { address })?);
        }
        Ok(())
    }

    fn unbound_port(&self) -> Option<Multiaddr> {
        let listeners = &self.config.network.listen_addresses;
        listeners.iter().find(|listener| addresses::bound(listener, &self.listening).is_none()).cloned()
    }

    pub(super) fn handle_listening(&mut self, address: Multiaddr) {
        tracing::debug!(%address, "listening");
        if !self.listening.contains(&address) {
            self.listening.push(address);
        }
        // An interface that comes up later brings addresses of its own.
        if self.unbound_port().is_none() {
            self.announce();
        }
    }

    pub(super) fn handle_listen_failed(&mut self, error: ListenError) {
        tracing::error!(error = &error as &dyn std::error::Error, "will try again");
        self.unbound.push(error.address);
        self.bind_again = Some(peerup_clock::now() + BIND_AGAIN_AFTER);
    }

    pub(super) fn bind_again(&mut self) {
        self.bind_again = None;
        for address in std::mem::take(&mut self.unbound) {
            if let Err(error) = self.swarm.listen(address) {
                self.handle_listen_failed(error);
            }
        }
    }

    fn announce(&mut self) {
        for address in self.external_addresses() {
            if !self.report.addresses.contains(&address) {
                tracing::info!(%address, "reachable");
                self.swarm.add_external_address(address.clone());
                self.report.addresses.push(address);
            }
        }
    }

    fn external_addresses(&self) -> Vec<Multiaddr> {
        let network = &self.config.network;
        if !network.external_addresses.is_empty() {
            return network.external_addresses.clone();
        }
        let interfaces: Vec<IpAddr> = interface_addresses()
            .inspect_err(|error| tracing::warn!(%error, "cannot list the addresses of this host"))
            .unwrap_or_default()
            .into_iter()
            .map(|(_, ip)| ip)
            .collect();
        let listeners: Vec<Multiaddr> = network
            .listen_addresses
            .iter()
            .filter_map(|listener| addresses::bound(listener, &self.listening))
            .collect();
        addresses::announced(&listeners, &interfaces)
    }
}
