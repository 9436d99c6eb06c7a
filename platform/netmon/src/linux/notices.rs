//! The kernel's notices about links, addresses and routes: heard, sifted, never interpreted.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use rtnetlink::MulticastGroup;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket};
use tokio::time::{Instant, sleep_until};

use crate::MonitorError;
use crate::snapshot::LONGEST_DEFAULT;

const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// Only the beginning of a notice is looked at; the kernel cuts off the rest.
const BUFFER_SIZE: usize = 4096;

/// Between attempts on a socket that fails: no known kernel gives such an error twice, and none may make us spin.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Notices {
    socket: TokioSocket,
    buffer: Vec<u8>,
    ignored_protocol: Option<u8>,
    paused_until: Option<Instant>,
}

impl Notices {
    pub(super) fn listen(ignored_protocol: Option<u8>) -> Result<Self, MonitorError> {
        let socket = subscribe().map_err(MonitorError::Listen)?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER_SIZE), ignored_protocol, paused_until: None })
    }

    /// Returns when something may have changed; cancel-safe.
    pub(super) async fn next(&mut self) {
        if let Some(moment) = self.paused_until {
            sleep_until(moment).await;
            self.paused_until = None;
            return;
        }
        while !self.receive().await {}
    }

    async fn receive(&mut self) -> bool {
        let Self { socket, buffer, .. } = self;
        buffer.clear();
        match poll_fn(|context| socket.poll_recv(context, buffer)).await {
            Ok(()) => matters(&self.buffer, self.ignored_protocol),
            Err(error) => self.missed(&error),
        }
    }

    fn missed(&mut self, error: &io::Error) -> bool {
        const ENOBUFS: i32 = 105;
        if error.raw_os_error() == Some(ENOBUFS) {
            tracing::debug!("more notices about the network than the socket holds: reading everything");
        } else {
            tracing::warn!(%error, "notices about the network may be lost");
            self.paused_until = Some(Instant::now() + PAUSE);
        }
        true
    }
}

fn subscribe() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    let mask = GROUPS.iter().fold(0, |mask, group| mask | 1 << (*group as u32 - 1));
    socket.socket_mut().bind(&SocketAddr::new(0, mask))?;
    Ok(socket)
}

/// Whether any message of a datagram is about more than a route that is ours or no default route. Such routes are
/// most of what a busy router or a growing overlay announces. What cannot be read may be anything.
fn matters(datagram: &[u8], ignored_protocol: Option<u8>) -> bool {
    let mut rest = datagram;
    while !rest.is_empty() {
        let Some((message, next)) = split_message(rest) else { return true };
        if !message.is_minor_route(ignored_protocol) {
            return true;
        }
        rest = next;
    }
    false
}

/// `struct nlmsghdr` (netlink(7)): length u32 with the header, type u16, flags u16, sequence u32, port u32; in the
/// machine's byte order.
const HEADER_SIZE: usize = 16;

struct Message<'a> {
    kind: u16,
    body: &'a [u8],
}

fn split_message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let header = bytes.first_chunk::<HEADER_SIZE>()?;
    let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let end = length.min(bytes.len());
    let body = bytes.get(HEADER_SIZE..end)?;
    let message = Message { kind: u16::from_ne_bytes([header[4], header[5]]), body };
    let next = end.next_multiple_of(4).min(bytes.len());
    Some((message, &bytes[next..]))
}

impl Message<'_> {
    /// `struct rtmsg` (rtnetlink(7)): one byte each of family, prefix length, source's, TOS, table, protocol.
    fn is_minor_route(&self, ignored_protocol: Option<u8>) -> bool {
        const RTM_NEWROUTE: u16 = 24;
        const RTM_DELROUTE: u16 = 25;
        let [_, length, _, _, _, protocol, ..] = self.body else { return false };
        matches!(self.kind, RTM_NEWROUTE | RTM_DELROUTE)
            && (*length > LONGEST_DEFAULT || Some(*protocol) == ignored_protocol)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NEW_LINK: u16 = 16;
    const NEW_ADDRESS: u16 = 20;
    const NEW_ROUTE: u16 = 24;
    const DELETE_ROUTE: u16 = 25;
    const OURS: Option<u8> = Some(112);

    #[test]
    fn links_addresses_and_default_routes_matter() {
        assert!(matters(&message(NEW_LINK, &[0; 16]), OURS));
        assert!(matters(&message(NEW_ADDRESS, &[2, 24, 0, 0, 0, 0, 0, 0]), OURS));
        assert!(matters(&message(NEW_ROUTE, &route(0, 4)), OURS));
        assert!(matters(&message(DELETE_ROUTE, &route(1, 4)), OURS));
    }

    #[test]
    fn longer_prefixes_and_our_own_routes_do_not() {
        assert!(!matters(&message(NEW_ROUTE, &route(32, 112)), OURS));
        assert!(!matters(&message(NEW_ROUTE, &route(24, 2)), OURS));
        assert!(!matters(&message(DELETE_ROUTE, &route(0, 112)), OURS));
        assert!(matters(&message(DELETE_ROUTE, &route(0, 112)), None));
    }

    #[test]
    fn one_message_that_matters_is_enough() {
        let minor = message(NEW_ROUTE, &route(32, 112));
        let link = message(NEW_LINK, &[0; 16]);
        assert!(!matters(&[minor.clone(), minor.clone()].concat(), OURS));
        assert!(matters(&[minor.clone(), link.clone()].concat(), OURS));
        assert!(matters(&[link, minor].concat(), OURS));
    }

    #[test]
    fn what_is_cut_off_is_judged_by_what_is_there_and_what_is_unreadable_matters() {
        let mut cut = message(NEW_ROUTE, &route(32, 2));
        cut[0..4].copy_from_slice(&60_000_u32.to_ne_bytes());
        assert!(!matters(&cut, OURS));
        assert!(matters(&cut[..18], OURS), "no prefix length");
        assert!(matters(&cut[..7], OURS), "no header");
        cut[0..4].copy_from_slice(&3_u32.to_ne_bytes());
        assert!(matters(&cut, OURS), "a length shorter than the header");
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            matters(&bytes, OURS);
        }

        #[test]
        fn any_length_field_ends(length in any::<u32>(), count in 0_usize..5) {
            let mut bytes = message(NEW_ROUTE, &route(32, 2)).repeat(count);
            if let Some(field) = bytes.first_chunk_mut::<4>() {
                *field = length.to_ne_bytes();
            }
            matters(&bytes, OURS);
        }
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_SIZE + body.len()).unwrap();
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], body].concat()
    }

    fn route(length: u8, protocol: u8) -> [u8; 12] {
        [2, length, 0, 0, 254, protocol, 0, 1, 0, 0, 0, 0]
    }
}
