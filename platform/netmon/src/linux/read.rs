//! The whole picture, as the kernel lists it (rtnetlink(7), RTM_GET* dumps).

use std::collections::BTreeSet;
use std::future::{Future, ready};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteType, RouteVia,
};
use rtnetlink::{Handle, RouteMessageBuilder};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::snapshot::{Address, DefaultRoute, Hop, LONGEST_DEFAULT, Link, Snapshot};
use crate::{MonitorError, MonitorOptions, NetworkView};

/// A list takes milliseconds, a second where the table holds all routes of the Internet.
const LIMIT: Duration = Duration::from_secs(5);

/// Between a reading that failed and the next: failing means that the host is out of memory or the like.
const PAUSE: Duration = Duration::from_secs(1);

/// Tries until it works; somebody is told about each failure.
pub(super) async fn snapshot_at_last(options: MonitorOptions) -> Snapshot {
    loop {
        match snapshot(&options).await {
            Ok(snapshot) => return snapshot,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the network cannot be looked at");
            }
        }
        sleep(PAUSE).await;
    }
}

/// Each reading has a socket of its own, so a broken one does not outlive it.
pub(super) async fn snapshot(options: &MonitorOptions) -> Result<Snapshot, MonitorError> {
    let kernel = Kernel::connect()?;
    let links = kernel.links().await?;
    let addresses = kernel.addresses().await?;
    let routes = kernel.default_routes(options.ignore_route_protocol).await?;
    Ok(Snapshot::new(&links, &addresses, routes, options))
}

/// The network at this moment.
pub async fn look() -> Result<NetworkView, MonitorError> {
    let kernel = Kernel::connect()?;
    let links = kernel.links().await?;
    let addresses = kernel.addresses().await?;
    let routes = kernel.default_routes(None).await?;
    Ok(NetworkView::new(&links, &addresses, &routes))
}

/// A routing socket and the task that serves it.
struct Kernel {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Kernel {
    fn connect() -> Result<Self, MonitorError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(MonitorError::Listen)?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    async fn links(&self) -> Result<Vec<Link>, MonitorError> {
        let messages = self.handle.link().get().execute();
        list("interfaces", messages.map_ok(link).try_collect()).await
    }

    async fn addresses(&self) -> Result<Vec<Address>, MonitorError> {
        let messages = self.handle.address().get().execute();
        list("addresses", messages.try_filter_map(|message| ready(Ok(address(&message)))).try_collect()).await
    }

    async fn default_routes(&self, ignored_protocol: Option<u8>) -> Result<Vec<DefaultRoute>, MonitorError> {
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let mut routes = Vec::new();
        for family in [v4, v6] {
            let messages = self.handle.route().get(family).execute();
            let wanted = messages.try_filter_map(|message| {
                let ours = Some(u8::from(message.header.protocol)) == ignored_protocol;
                ready(Ok(default_route(&message).filter(|_| !ours)))
            });
            let found: Vec<DefaultRoute> = list("routes", wanted.try_collect()).await?;
            routes.extend(found);
        }
        Ok(routes)
    }
}

async fn list<T>(
    what: &'static str,
    request: impl Future<Output = Result<T, rtnetlink::Error>>,
) -> Result<T, MonitorError> {
    match timeout(LIMIT, request).await {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(rtnetlink::Error::NetlinkError(message))) => {
            Err(MonitorError::Read { what, source: message.to_io() })
        }
        Ok(Err(error)) => Err(MonitorError::Read { what, source: io::Error::other(error) }),
        Err(_) => Err(MonitorError::Timeout { what, limit: LIMIT }),
    }
}

fn link(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        running: flags.contains(LinkFlags::Up | LinkFlags::Running),
        carrier_ups: 0,
        tunnel: false,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::CarrierUpCount(count) => link.carrier_ups = count,
            LinkAttribute::LinkInfo(info) => link.tunnel = info.iter().any(is_tunnel),
            _ => {}
        }
    }
    link
}

/// By what the link is, not by its name or flags: a modem of a mobile network looks like a tunnel otherwise.
fn is_tunnel(info: &LinkInfo) -> bool {
    matches!(
        info,
        LinkInfo::Kind(
            InfoKind::Tun
                | InfoKind::Wireguard
                | InfoKind::IpIp
                | InfoKind::Ip6Tnl
                | InfoKind::SitTun
                | InfoKind::GreTun
                | InfoKind::GreTun6
                | InfoKind::Vti
                | InfoKind::Xfrm
        )
    )
}

/// IFA_LOCAL is this host's end where a link has two ends; IFA_ADDRESS is then the other one.
fn address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut only) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => only = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let ip = local.or(only)?;
    Some(Address { link: message.header.index, ip, unconfirmed: is_unconfirmed(flags) })
}

/// RFC 4429: an optimistic address is used while it is being tested.
fn is_unconfirmed(flags: AddressFlags) -> bool {
    let tested = flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
    tested || flags.contains(AddressFlags::Dadfailed)
}

fn default_route(message: &RouteMessage) -> Option<DefaultRoute> {
    let header = &message.header;
    if header.destination_prefix_length > LONGEST_DEFAULT || header.kind != RouteType::Unicast {
        return None;
    }
    let mut destination = unspecified(header.address_family)?;
    let mut table = u32::from(header.table);
    let (mut metric, mut link, mut gateway, mut hops) = (0, None, None, BTreeSet::new());
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => gateway = gateway_of(attribute),
            RouteAttribute::MultiPath(several) => hops.extend(several.iter().map(hop)),
            _ => {}
        }
    }
    hops.extend(link.map(|link| Hop { link, gateway }));
    let destination = (destination, header.destination_prefix_length);
    (table == u32::from(RouteHeader::RT_TABLE_MAIN)).then_some(DefaultRoute { destination, metric, hops })
}

fn hop(message: &RouteNextHop) -> Hop {
    Hop { link: message.interface_index, gateway: message.attributes.iter().find_map(gateway_of) }
}

fn gateway_of(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some((*v4).into()),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn unspecified(family: AddressFamily) -> Option<IpAddr> {
    match family {
        AddressFamily::Inet => Some(Ipv4Addr::UNSPECIFIED.into()),
        AddressFamily::Inet6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}
