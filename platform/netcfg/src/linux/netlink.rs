//! Requests to the kernel (rtnetlink(7)), one function each, each with a time limit.
//!
//! Only the requests that this crate needs: everything they add is marked as ours, everything they remove has
//! to carry that mark.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::{AddressMessageBuilder, Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::link::Link;
use crate::journal::LinkBefore;
use crate::{NetlinkError, ROUTE_PROTOCOL, UNREACHABLE_METRIC};

/// The kernel answers within a millisecond; waiting longer than this means that it never will.
const LIMIT: Duration = Duration::from_secs(5);

/// errno values that have a meaning of their own in this room.
pub(super) mod errno {
    pub(crate) const ESRCH: i32 = 3;
    pub(crate) const EACCES: i32 = 13;
    pub(crate) const EEXIST: i32 = 17;
    pub(crate) const ENODEV: i32 = 19;
    pub(crate) const EOPNOTSUPP: i32 = 95;
    pub(crate) const EAFNOSUPPORT: i32 = 97;
    pub(crate) const EADDRNOTAVAIL: i32 = 99;
}

/// A routing socket and the task that serves it.
pub(super) struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// Needs a tokio runtime with I/O and time.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Broken)?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    pub(super) async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut found = self.handle.link().get().match_name(name.into()).execute();
        match answer(found.try_next()).await {
            Ok(message) => Ok(message.map(Link::from)),
            Err(error) if error.errno() == Some(errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn links(&self) -> Result<Vec<LinkMessage>, NetlinkError> {
        answer(self.handle.link().get().execute().try_collect()).await
    }

    pub(super) async fn addresses(&self) -> Result<Vec<AddressMessage>, NetlinkError> {
        answer(self.handle.address().get().execute().try_collect()).await
    }

    /// The IPv4 routes of all tables.
    pub(super) async fn v4_routes(&self) -> Result<Vec<RouteMessage>, NetlinkError> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        answer(self.handle.route().get(all).execute().try_collect()).await
    }

    /// Sets everything but the generation of addresses, which [`Self::set_address_generation`] sets.
    pub(super) async fn set_link(&self, link: &LinkBefore) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(link.index)
            .mtu(link.mtu)
            .append_extra_attribute(LinkAttribute::TxQueueLen(link.tx_queue_length));
        let message = if link.up { message.up() } else { message.down() };
        answer(self.handle.link().set(message.build()).execute()).await
    }

    /// Whether and how the kernel gives the link an fe80 address when it comes up (IN6_ADDR_GEN_MODE_*).
    pub(super) async fn set_address_generation(&self, index: u32, mode: u8) -> Result<(), NetlinkError> {
        let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode.into())]);
        let attribute = LinkAttribute::AfSpecUnspec(vec![inet6]);
        let message: LinkMessageBuilder<LinkUnspec> = LinkUnspec::new_with_index(index);
        answer(self.handle.link().set(message.append_extra_attribute(attribute).build()).execute()).await
    }

    pub(super) async fn remove_link(&self, index: u32) -> Result<(), NetlinkError> {
        answer(self.handle.link().del(index).execute()).await
    }

    pub(super) async fn add_address(&self, index: u32, address: IpAddr) -> Result<(), NetlinkError> {
        let mut request = self.handle.address().add(index, address, host_length(address));
        *request.message_mut() = host_address(index, address);
        answer(request.execute()).await
    }

    pub(super) async fn remove_address(&self, index: u32, address: IpAddr) -> Result<(), NetlinkError> {
        answer(self.handle.address().del(host_address(index, address)).execute()).await
    }

    /// Adds or removes a host route through the link.
    pub(super) async fn add_host_route(&self, index: u32, destination: IpAddr) -> Result<(), NetlinkError> {
        answer(self.handle.route().add(host_route(index, destination)).execute()).await
    }

    /// A route for everything in `range`.
    pub(super) async fn add_range_route(&self, index: u32, range: IpNet) -> Result<(), NetlinkError> {
        answer(self.handle.route().add(link_route(index, range)).execute()).await
    }

    pub(super) async fn remove_host_route(
        &self,
        index: u32,
        destination: IpAddr,
    ) -> Result<(), NetlinkError> {
        answer(self.handle.route().del(host_route(index, destination)).execute()).await
    }

    pub(super) async fn add_unreachable(&self, range: IpNet) -> Result<(), NetlinkError> {
        answer(self.handle.route().add(unreachable_route(range)).execute()).await
    }

    pub(super) async fn remove_unreachable(&self, range: IpNet) -> Result<(), NetlinkError> {
        answer(self.handle.route().del(unreachable_route(range)).execute()).await
    }
}

async fn answer<T>(request: impl Future<Output = Result<T, rtnetlink::Error>>) -> Result<T, NetlinkError> {
    match timeout(LIMIT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(rtnetlink::Error::NetlinkError(message))) => Err(NetlinkError::Refused(message.to_io())),
        Ok(Err(error)) => Err(NetlinkError::Broken(io::Error::other(error))),
        Err(_) => Err(NetlinkError::Timeout { limit: LIMIT }),
    }
}

fn host_length(address: IpAddr) -> u8 {
    IpNet::from(address).prefix_len()
}

/// A /32 or /128 that draws no prefix route, without broadcast address and without duplicate address detection:
/// there is nobody on the link to ask.
fn host_address(index: u32, address: IpAddr) -> AddressMessage {
    let mut message = match address {
        IpAddr::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(v4, 32).build(),
        IpAddr::V6(v6) => AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(v6, 128).build(),
    };
    message.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Noprefixroute | AddressFlags::Nodad));
    message
}

fn host_route(index: u32, destination: IpAddr) -> RouteMessage {
    link_route(index, destination.into())
}

fn link_route(index: u32, destination: IpNet) -> RouteMessage {
    let mut route = route(destination, RouteType::Unicast).output_interface(index);
    if matches!(destination, IpNet::V4(_)) {
        // A route without gateway leads to the link itself (rtnetlink(7), RT_SCOPE_LINK); IPv6 has no scopes here.
        route = route.scope(RouteScope::Link);
    }
    route.build()
}

fn unreachable_route(range: IpNet) -> RouteMessage {
    route(range, RouteType::Unreachable).priority(UNREACHABLE_METRIC).build()
}

fn route(destination: IpNet, kind: RouteType) -> RouteMessageBuilder {
    RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(destination.network(), destination.prefix_len())
        .expect("IpNet has no longer prefix than its family allows")
        .protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
        .kind(kind)
}
