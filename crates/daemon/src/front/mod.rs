//! Ways into the overlay for programs of this host that do not open its addresses themselves: a connection handed to
//! a command (`peerup nc`), a proxy, and the device of another network namespace (`peerup exec`).
//!
//! All of it works with and without an interface: [`Dialer`] hides which.

mod dial;
mod socks;

use std::{
    net::{IpAddr, SocketAddr},
    os::unix::net::UnixStream as StdUnixStream,
    time::Duration,
};

use ipnet::IpNet;
use peerup_control::{
    ApiError, ErrorKind, Opening,
    api::{OpenReport, OpenRequest},
};
use peerup_tun::PassedTun;
use peerup_types::OverlayAddrs;
use tokio::{
    net::{TcpListener, UnixStream},
    runtime::Handle,
    time::timeout,
};

pub use dial::Dialer;

use crate::{
    api::NodeHandle,
    userspace::{Beyond, Network, PrivatePort, RESOLVER},
};

/// A peer has to be found, reached, and to answer.
const DIAL: Duration = Duration::from_secs(30);
/// The device follows at once.
const DEVICE: Duration = Duration::from_secs(30);

/// What the control loop knows of the overlay's doors.
#[derive(Clone)]
pub struct Doors {
    pub dialer: Dialer,
    /// The data thread's runtime, on which all bytes move.
    pub io: Handle,
    pub addresses: OverlayAddrs,
    pub ranges: Vec<IpNet>,
    pub mtu: u16,
}

impl Doors {
    /// A peer that reached the proxy would be this node to everybody else. Holds until the answer is dropped.
    fn keep_private(&self, port: u16) -> Option<PrivatePort> {
        match &self.dialer {
            Dialer::Userspace(network) => Some(network.keep_private(port)),
            Dialer::Interface(_) => None,
        }
    }

    fn is_inside(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }
}

pub async fn open(node: &NodeHandle, request: OpenRequest) -> Result<Opening, ApiError> {
    let doors = node.doors().await?;
    match request {
        OpenRequest::Connect { target, port } => connect(node, doors, &target, port).await,
        OpenRequest::Socks { listen, allow_outside } => {
            let (listener, listen, private) = listen_on(&doors, listen).await?;
            let settings = socks::Settings { listen, allow_outside };
            let (node, io) = (node.clone(), doors.io);
            let serve = Box::new(move |caller| {
                io.spawn(async move {
                    tokio::select! {
                        () = socks::serve(node, listener, settings, private) => {}
                        () = until_gone(caller) => {}
                    }
                });
            });
            Ok(Opening { report: OpenReport::Socks { listen }, serve })
        }
        OpenRequest::Exec { internet } => exec(doors, internet),
    }
}

/// The proxy of `socks.listen`, for as long as the task runs.
pub async fn serve_configured(node: NodeHandle, listen: SocketAddr, allow_outside: bool) {
    let started = async {
        let doors = node.doors().await?;
        let (listener, listen, private) = listen_on(&doors, listen).await?;
        Ok::<_, ApiError>((doors.io, listener, listen, private))
    };
    match started.await {
        Ok((io, listener, listen, private)) => {
            tracing::info!(%listen, "the proxy listens");
            if !listen.ip().is_loopback() {
                tracing::warn!(%listen, "the proxy is open to other machines: whoever reaches it reaches the overlay");
            }
            let settings = socks::Settings { listen, allow_outside };
            // An error would be that the data thread is gone, and then all is.
            let _ = io.spawn(socks::serve(node, listener, settings, private)).await;
        }
        Err(error) => tracing::error!(%error, %listen, "the proxy does not start"),
    }
}

async fn connect(node: &NodeHandle, doors: Doors, target: &str, port: u16) -> Result<Opening, ApiError> {
    let address = SocketAddr::new(node.overlay_address(&doors, target).await?, port);
    let (dialer, io) = (doors.dialer.clone(), doors.io.clone());
    let dialed = doors.io.spawn(async move { timeout(DIAL, dialer.dial(address)).await });
    let stream = match dialed.await {
        Ok(Ok(Ok(stream))) => stream,
        Ok(Ok(Err(error))) => {
            return Err(ApiError::new(
                ErrorKind::Unreachable,
                format!("cannot connect to {address}: {error}"),
            )
            .with_hint("`peerup ping` tells whether the peer is there, and the port may be closed"));
        }
        Ok(Err(_)) => {
            let why = format!("{address} did not answer within {} s", DIAL.as_secs());
            return Err(ApiError::new(ErrorKind::Timeout, why).with_hint("peerup status"));
        }
        Err(_) => return Err(ApiError::failure("the data thread is gone")),
    };
    let serve = Box::new(move |caller: UnixStream| {
        let Ok(caller) = caller.into_std() else { return };
        io.spawn(async move {
            if let Ok(caller) = UnixStream::from_std(caller) {
                stream.join(caller, &[]).await;
            }
        });
    });
    Ok(Opening { report: OpenReport::Connect { address }, serve })
}

fn exec(doors: Doors, internet: bool) -> Result<Opening, ApiError> {
    let Dialer::Userspace(network) = doors.dialer else {
        return Err(ApiError::new(
            ErrorKind::Conflict,
            "this node has an interface: every program reaches the overlay by itself",
        )
        .with_hint("run the command without `peerup exec`"));
    };
    let report = OpenReport::Exec {
        addresses: doors.addresses.iter().collect(),
        ranges: doors.ranges.iter().map(ToString::to_string).collect(),
        mtu: doors.mtu,
        resolver: internet.then_some(RESOLVER.into()),
    };
    let beyond = match internet {
        true => Beyond::Internet { addresses: doors.addresses, overlay: doors.ranges },
        false => Beyond::Nothing,
    };
    let io = doors.io;
    let serve = Box::new(move |caller: UnixStream| {
        let Ok(caller) = caller.into_std() else { return };
        io.spawn(async move {
            if let Err(error) = carry(&network, beyond, caller).await {
                tracing::warn!(%error, "an exec session ended early");
            }
        });
    });
    Ok(Opening { report, serve })
}

/// Carries a namespace's device until its command has ended.
async fn carry(network: &Network, beyond: Beyond, caller: StdUnixStream) -> std::io::Result<()> {
    let caller = UnixStream::from_std(caller)?;
    let tun = timeout(DEVICE, PassedTun::receive(&caller)).await??;
    caller.writable().await?;
    // The namespace waits for this before it starts its command.
    caller.try_write(b"r")?;
    tokio::select! {
        error = network.carry(tun, beyond) => Err(error),
        () = until_gone(caller) => Ok(()),
    }
}

async fn listen_on(
    doors: &Doors,
    listen: SocketAddr,
) -> Result<(TcpListener, SocketAddr, Option<PrivatePort>), ApiError> {
    let bound = doors.io.spawn(async move {
        let listener = TcpListener::bind(listen).await?;
        let listen = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, listen))
    });
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::AddrInUse => ErrorKind::Conflict,
            _ => ErrorKind::Failure,
        };
        ApiError::new(kind, format!("cannot listen on {listen}: {error}"))
    };
    let gone = |_| ApiError::failure("the data thread is gone");
    let (listener, listen) = bound.await.map_err(gone)?.map_err(failed)?;
    let private = doors.keep_private(listen.port());
    Ok((listener, listen, private))
}

/// Waits until the caller hangs up.
async fn until_gone(caller: UnixStream) {
    let mut ignored = [0; 64];
    loop {
        if caller.readable().await.is_err() {
            return;
        }
        match caller.try_read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

impl NodeHandle {
    /// The overlay address that people mean by `target`.
    async fn overlay_address(&self, doors: &Doors, target: &str) -> Result<IpAddr, ApiError> {
        let literal = target.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if let Ok(address) = literal {
            let outside = || {
                ApiError::new(ErrorKind::NotFound, format!("{address} is no address of the overlay"))
                    .with_hint("`peerup status` lists names and addresses")
            };
            return doors.is_inside(address).then_some(address).ok_or_else(outside);
        }
        let found = self.target(target.trim_end_matches('.').to_owned()).await?;
        let usable = |ip: &IpAddr| ip.is_ipv6() || doors.addresses.v4.is_some();
        found.ips.into_iter().find(usable).ok_or_else(|| {
            ApiError::new(ErrorKind::Unreachable, format!("no overlay address of `{target}` is known yet"))
                .with_hint("peerup ping")
        })
    }
}
