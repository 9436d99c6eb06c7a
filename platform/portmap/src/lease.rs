//! One conversation with the router: a lease for both ports.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    num::NonZeroU16,
    time::Duration,
};

use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp};
use igd_next::{
    AddPortError, PortMappingProtocol, SearchError, SearchOptions,
    aio::tokio::{Tokio, search_gateway},
};

/// Long enough that a sleeping laptop keeps its port, short enough that a crashed node's is gone within the hour.
const LEASE: u32 = 3600;
/// 0.25 + 0.5 + 1 s for each protocol: a router answers within milliseconds or not at all.
const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_secs(1)),
};
/// UPnP devices may take a second to answer a search (MX).
const SEARCH: Duration = Duration::from_secs(2);
/// One request of UPnP, which is HTTP to a small computer.
const HTTP: Duration = Duration::from_secs(3);
const DESCRIPTION: &str = "peerup";

/// The default gateway and our own address on the link to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway {
    pub address: Ipv4Addr,
    pub local: Ipv4Addr,
}

/// The ports to forward, each to the same port of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    pub udp: Option<NonZeroU16>,
    pub tcp: Option<NonZeroU16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Where a UPnP search is sent.
    pub ssdp: SocketAddr,
}

impl Default for Options {
    fn default() -> Self {
        Self { ssdp: SocketAddr::from((Ipv4Addr::new(239, 255, 255, 250), 1900)) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Pcp,
    NatPmp,
    Upnp,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pcp => "pcp",
            Self::NatPmp => "nat-pmp",
            Self::Upnp => "upnp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum MapError {
    #[error("the router at {gateway} forwards no ports: PCP: {pcp}; NAT-PMP: {natpmp}; UPnP: {upnp}")]
    Refused { gateway: Ipv4Addr, pcp: String, natpmp: String, upnp: String },
}

/// What the router granted.
#[derive(Debug)]
pub struct Lease {
    pub protocol: Protocol,
    /// The router's outside address and the port given to us.
    pub udp: Option<SocketAddrV4>,
    pub tcp: Option<SocketAddrV4>,
    pub lifetime: Duration,
    hold: Hold,
}

/// What is needed to give it back.
#[derive(Debug)]
enum Hold {
    Crab(Vec<PortMapping>),
    Igd { router: Box<igd_next::aio::Gateway<Tokio>>, ports: Vec<(PortMappingProtocol, u16)> },
}

/// Asks by each protocol in turn. It takes six seconds at most where nobody answers.
pub async fn acquire(gateway: Gateway, ports: Ports, options: Options) -> Result<Lease, MapError> {
    let pcp = match crab(gateway, ports, Protocol::Pcp).await {
        Ok(lease) => return Ok(lease),
        Err(reason) => reason,
    };
    let natpmp = match crab(gateway, ports, Protocol::NatPmp).await {
        Ok(lease) => return Ok(lease),
        Err(reason) => reason,
    };
    let upnp = match igd(gateway, ports, options).await {
        Ok(lease) => return Ok(lease),
        Err(reason) => reason,
    };
    Err(MapError::Refused { gateway: gateway.address, pcp, natpmp, upnp })
}

impl Lease {
    /// Asks for more time. PCP knows the holder of a mapping by a nonce, so it is asked with the same one again
    /// (RFC 6887 §11.3); a router that does not know it any more is asked as for the first time.
    pub async fn renew(self, gateway: Gateway, ports: Ports, options: Options) -> Result<Self, MapError> {
        if let Hold::Crab(mappings) = self.hold
            && let Some(lease) = prolong(gateway, self.protocol, mappings).await
        {
            return Ok(lease);
        }
        acquire(gateway, ports, options).await
    }

    /// Takes the forwarding away again. What fails expires with its lease.
    pub async fn release(self) {
        match self.hold {
            Hold::Crab(mappings) => {
                for mapping in mappings {
                    if let Err((error, _)) = mapping.try_drop().await {
                        tracing::debug!(%error, "the router keeps a port until its lease ends");
                    }
                }
            }
            Hold::Igd { router, ports } => {
                for (protocol, port) in ports {
                    let removed = tokio::time::timeout(HTTP, router.remove_port(protocol, port)).await;
                    tracing::debug!(?removed, "port given back");
                }
            }
        }
    }
}

async fn prolong(gateway: Gateway, protocol: Protocol, mappings: Vec<PortMapping>) -> Option<Lease> {
    let mut lease =
        Lease { protocol, udp: None, tcp: None, lifetime: Duration::MAX, hold: Hold::Crab(Vec::new()) };
    let mut held = Vec::new();
    for mut mapping in mappings {
        mapping.renew().await.inspect_err(|error| tracing::debug!(%error, "a lease was not renewed")).ok()?;
        let outside = outside(gateway, &mapping).await.ok()?;
        lease.lifetime = lease.lifetime.min(Duration::from_secs(mapping.lifetime().into()));
        let at = Some(SocketAddrV4::new(outside, mapping.external_port().get()));
        match mapping.protocol() {
            InternetProtocol::Udp => lease.udp = at,
            InternetProtocol::Tcp => lease.tcp = at,
        }
        held.push(mapping);
    }
    lease.hold = Hold::Crab(held);
    Some(lease)
}

/// PCP says it with each mapping, NAT-PMP is asked for it.
async fn outside(gateway: Gateway, mapping: &PortMapping) -> Result<Ipv4Addr, String> {
    match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => match external_ip.to_canonical() {
            IpAddr::V4(outside) => Ok(outside),
            IpAddr::V6(outside) => Err(format!("the router's outside address is {outside}")),
        },
        PortMappingType::NatPmp => {
            let outside = natpmp::external_address(gateway.address.into(), Some(PATIENCE)).await;
            outside.map_err(|error| error.to_string())
        }
    }
}

/// PCP and NAT-PMP. UDP decides; a router that forwards only that is good enough.
async fn crab(gateway: Gateway, ports: Ports, protocol: Protocol) -> Result<Lease, String> {
    let mut held = Vec::new();
    let (mut udp, mut tcp, mut lifetime) = (None, None, None);
    for (transport, port, slot) in
        [(InternetProtocol::Udp, ports.udp, &mut udp), (InternetProtocol::Tcp, ports.tcp, &mut tcp)]
    {
        let Some(port) = port else { continue };
        let granted = match ask(gateway, transport, port, protocol).await {
            Ok(granted) => granted,
            Err(reason) if held.is_empty() => return Err(reason),
            Err(reason) => {
                tracing::debug!(%reason, %protocol, "the router forwards UDP only");
                continue;
            }
        };
        let (mapping, outside) = granted;
        let granted_for = Duration::from_secs(mapping.lifetime().into());
        lifetime = Some(lifetime.map_or(granted_for, |least: Duration| least.min(granted_for)));
        *slot = Some(SocketAddrV4::new(outside, mapping.external_port().get()));
        held.push(mapping);
    }
    let lifetime = lifetime.ok_or("there is no port to forward")?;
    Ok(Lease { protocol, udp, tcp, lifetime, hold: Hold::Crab(held) })
}

async fn ask(
    gateway: Gateway,
    transport: InternetProtocol,
    port: NonZeroU16,
    protocol: Protocol,
) -> Result<(PortMapping, Ipv4Addr), String> {
    let router = gateway.address.into();
    let options = PortMappingOptions {
        external_port: Some(port),
        lifetime_seconds: Some(LEASE),
        timeout_config: Some(PATIENCE),
    };
    let mapping = match protocol {
        Protocol::Pcp => {
            let base = crab_nat::pcp::BaseMapRequest::new(router, gateway.local.into(), transport, port);
            let mapping = crab_nat::pcp::port_mapping(base, None, None, options).await;
            mapping.map_err(|error| error.to_string())?
        }
        Protocol::NatPmp | Protocol::Upnp => {
            let mapping = natpmp::port_mapping(router, transport, port, options).await;
            mapping.map_err(|error| error.to_string())?
        }
    };
    let outside = outside(gateway, &mapping).await?;
    Ok((mapping, outside))
}

async fn igd(gateway: Gateway, ports: Ports, options: Options) -> Result<Lease, String> {
    let mut search = SearchOptions::default();
    search.bind_addr = SocketAddr::from((gateway.local, 0));
    search.broadcast_address = options.ssdp;
    search.timeout = Some(SEARCH);
    search.single_search_timeout = Some(SEARCH);
    search.allowed_gateway_ips = vec![IpAddr::V4(gateway.address)];
    let router = search_gateway(search).await.map_err(|error| match error {
        SearchError::NoResponseWithinTimeout => "no answer".to_owned(),
        other => other.to_string(),
    })?;
    if router.addr.ip() != IpAddr::V4(gateway.address) {
        return Err(format!("{} answered, which is not the default gateway", router.addr.ip()));
    }
    let outside = tokio::time::timeout(HTTP, router.get_external_ip()).await;
    let outside = match outside.map_err(|_| "no answer to a request")?.map_err(|error| error.to_string())? {
        IpAddr::V4(outside) => outside,
        IpAddr::V6(outside) => return Err(format!("the router's outside address is {outside}")),
    };
    let mut held = Vec::new();
    let (mut udp, mut tcp) = (None, None);
    for (transport, port, slot) in
        [(PortMappingProtocol::UDP, ports.udp, &mut udp), (PortMappingProtocol::TCP, ports.tcp, &mut tcp)]
    {
        let Some(port) = port else { continue };
        match forward(&router, gateway.local, transport, port).await {
            Ok(outside_port) => {
                *slot = Some(SocketAddrV4::new(outside, outside_port));
                held.push((transport, outside_port));
            }
            Err(reason) if held.is_empty() => return Err(reason),
            Err(reason) => tracing::debug!(%reason, "the router forwards UDP only"),
        }
    }
    if held.is_empty() {
        return Err("there is no port to forward".to_owned());
    }
    let hold = Hold::Igd { router: Box::new(router), ports: held };
    Ok(Lease { protocol: Protocol::Upnp, udp, tcp, lifetime: Duration::from_secs(LEASE.into()), hold })
}

/// The same port outside where it is free, another one where it is not.
async fn forward(
    router: &igd_next::aio::Gateway<Tokio>,
    local: Ipv4Addr,
    transport: PortMappingProtocol,
    port: NonZeroU16,
) -> Result<u16, String> {
    let to = SocketAddr::from((local, port.get()));
    let add =
        |lease| tokio::time::timeout(HTTP, router.add_port(transport, port.get(), to, lease, DESCRIPTION));
    let mut added = add(LEASE).await.map_err(|_| "no answer to a request")?;
    // IGDv1 devices of the simpler kind keep a mapping until it is removed or they restart.
    if matches!(added, Err(AddPortError::OnlyPermanentLeasesSupported)) {
        added = add(0).await.map_err(|_| "no answer to a request")?;
    }
    match added {
        Ok(()) => Ok(port.get()),
        Err(AddPortError::PortInUse) => {
            let any = router.add_any_port(transport, to, LEASE, DESCRIPTION);
            let any = tokio::time::timeout(HTTP, any).await.map_err(|_| "no answer to a request")?;
            any.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}
