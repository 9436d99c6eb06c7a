//! A transport that refuses to dial overlay addresses.
//!
//! Peers and multicast DNS report every listen address, the TUN's among them. Dialing one would carry the
//! overlay through itself. The check sits below every behaviour, so no dial from anywhere gets around it.

use std::{
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
};

use ipnet::IpNet;
use libp2p::{
    Multiaddr,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    multiaddr::Protocol,
};

pub struct UnderlayOnly<T> {
    inner: T,
    overlay: Vec<IpNet>,
}

impl<T> UnderlayOnly<T> {
    pub fn new(inner: T, overlay: Vec<IpNet>) -> Self {
        Self { inner, overlay }
    }
}

/// The first IP address that `addr` names, which is where its packets go.
pub fn ip_of(addr: &Multiaddr) -> Option<IpAddr> {
    addr.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    })
}

/// Whether `addr` lies in one of the overlay prefixes.
pub fn is_overlay(addr: &Multiaddr, overlay: &[IpNet]) -> bool {
    ip_of(addr).is_some_and(|ip| overlay.iter().any(|net| net.contains(&ip)))
}

impl<T: libp2p::Transport + Unpin> libp2p::Transport for UnderlayOnly<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        if is_overlay(&addr, &self.overlay) {
            return Err(TransportError::MultiaddrNotSupported(addr));
        }
        self.inner.dial(addr, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_an_overlay_prefix_are_recognised_in_both_families() {
        let overlay = ["10.64.0.0/16".parse().unwrap(), "fd12:3456:789a::/48".parse().unwrap()];
        let check = |text: &str| is_overlay(&text.parse().unwrap(), &overlay);
        assert!(check("/ip4/10.64.0.2/udp/4001/quic-v1"));
        assert!(check("/ip6/fd12:3456:789a::1/tcp/4001"));
        assert!(!check("/ip4/10.65.0.2/tcp/4001"));
        assert!(!check("/dns4/example.org/tcp/4001"));
    }
}
