//! Services: TCP connections over streams, one each. What is offered is decided by `peerup-services`; the swarm hands
//! inbound streams to [`serve`], local listeners ([`proxy`]) open outbound ones, and [`copy`] moves the bytes.
//!
//! All of it runs on the data thread, beside the connections' own tasks. The control loop keeps the list of proxies,
//! answers which path is best, and keeps a surplus connection open while sessions are on it.

mod copy;
mod open;
mod proxy;
mod room;
mod serve;
mod served;
mod side;
mod traffic;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use futures::channel::mpsc;
use peerup_services::{Offers, Proofs};
use peerup_swarm::InboundStream;
use peerup_types::PathId;
use tokio::runtime::Handle;

pub use open::reach;
pub use proxy::{PROXIES, Plan, Proxies, Proxy, start};
pub use served::{Happened, Served};

/// The control loop's share.
#[derive(Default)]
pub struct Services {
    /// Read by every inbound stream.
    offers: Arc<ArcSwap<Offers>>,
    pub proxies: Proxies,
    /// Sessions that this node serves.
    pub served: Arc<Served>,
    /// Paths that one of the ends announced to go away.
    pub retiring: BTreeSet<PathId>,
    /// Paths that nobody but sessions uses any more.
    pub lingering: BTreeSet<PathId>,
    /// Of the paths that sessions are on and packets are not.
    pub proofs: Proofs,
}

impl Services {
    pub fn offers(&self) -> Arc<Offers> {
        self.offers.load_full()
    }

    pub fn change<T>(&mut self, change: impl FnOnce(&mut Offers) -> T) -> T {
        let mut offers = Offers::clone(&self.offers.load());
        let outcome = change(&mut offers);
        self.offers.store(Arc::new(offers));
        outcome
    }

    /// Starts serving on `io`.
    pub fn serve(&self, streams: mpsc::Receiver<InboundStream>, io: &Handle) {
        io.spawn(serve::serve(streams, self.offers.clone(), self.served.clone()));
    }
}

/// Where inbound streams of services wait.
pub fn queue() -> (mpsc::Sender<InboundStream>, mpsc::Receiver<InboundStream>) {
    mpsc::channel(serve::QUEUE)
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no address to listen on")]
pub struct ListenAddressError {
    text: String,
}

/// `8080`, `127.0.0.1:8080`, `[::1]:0`, `localhost:8080`. A port alone is one of this host's loopback.
pub fn listen_address(text: &str) -> Result<SocketAddr, ListenAddressError> {
    let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let port = text.strip_prefix("localhost:").unwrap_or(text).parse().ok().map(loopback);
    port.or_else(|| text.parse().ok())
        .ok_or_else(|| ListenAddressError { text: text.chars().take(64).collect() })
}

#[cfg(test)]
mod sessions;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_listens_on_loopback_only() {
        for (text, address) in [
            ("8080", "127.0.0.1:8080"),
            ("0", "127.0.0.1:0"),
            ("localhost:22", "127.0.0.1:22"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:0", "[::1]:0"),
        ] {
            assert_eq!(listen_address(text).unwrap(), address.parse().unwrap(), "{text}");
        }
        for text in ["", "home:22", "65536", "127.0.0.1", ":80"] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }
}
