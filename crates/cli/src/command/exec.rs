//! `peerup exec`: one command with a network of its own, in which the overlay is all there is, or the Internet as well.
//!
//! The command gets a user, a network and a mount namespace. The device in it has this node's addresses, and its
//! packets go through the daemon as this node's own (docs/adr/0058). What leads out of the overlay is dropped, or, with
//! `--with-internet`, carried on by the daemon with this host's sockets (docs/adr/0071).

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::Write as _,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use clap::Args;
use ipnet::IpNet;
use peerup_control::{
    Runtime,
    api::{OpenReport, OpenRequest, Overview},
};
use peerup_netcfg::{PrivateNetwork, set_up_private};
use peerup_tun::{NewTun, TunError, TunOptions};
use peerup_userns::{Ended, NamespaceError, PrivateFiles};

use super::{Context, block_on};
use crate::failure::{Exit, Failure};

const INTERFACE: &str = "peerup0";
/// What else there is for a user without privileges.
const ALTERNATIVES: &str = "`peerup nc` and `peerup socks` need neither";
/// What a default route leads to.
const EVERYWHERE: [IpNet; 2] = [
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
];
/// The daemon takes the device at once.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// How long what the command has sent may take to arrive after its end.
const DELIVERED_WITHIN: Duration = Duration::from_secs(20);
/// As shells say that a signal ended a command.
const SIGNALLED: i32 = 128;

#[derive(Debug, Args)]
pub struct Exec {
    /// Nothing but the overlay is reachable (the default)
    #[arg(long)]
    pub only_overlay: bool,

    /// The Internet is reachable too, as from this machine
    #[arg(long, conflicts_with = "only_overlay")]
    pub with_internet: bool,

    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// What the daemon says before the namespace is made.
struct Opened {
    socket: UnixStream,
    network: PrivateNetwork,
    files: PrivateFiles,
}

pub fn run(context: &Context, args: &Exec) -> Result<Exit, Failure> {
    let node = context.place.load_node()?;
    if let Some(error) = peerup_tun::obstacle() {
        return Err(no_device(&error));
    }
    let opened = block_on(open(context, args.with_internet))?;
    peerup_userns::enter().map_err(|error| no_namespace(&error))?;
    let device = NewTun::create(INTERFACE, TunOptions::with_offload(opened.network.mtu))
        .map_err(|error| no_device(&error))?;
    block_on(async {
        set_up_private(&opened.network).await.map_err(|error| Failure::of(&error).or_hint(error.hint()))
    })?;
    hand_over(&device, &opened.socket)?;
    // The daemon holds the device from here on.
    drop(device);
    let dir = node.file.parent().unwrap_or(Path::new("."));
    peerup_userns::give_files(&opened.files, dir).map_err(|error| no_namespace(&error))?;
    let (program, arguments) = args.command.split_first().ok_or_else(|| Failure::usage("no command"))?;
    let ended = peerup_userns::run(program, arguments)
        .map_err(|error| Failure::of(&error).while_doing(format_args!("cannot run {}", program.display())))?;
    peerup_userns::deliver(DELIVERED_WITHIN);
    drop(opened.socket);
    // The command's own code is the answer, and no error of ours.
    std::process::exit(match ended {
        Ended::Code(code) => code.into(),
        Ended::Signal(signal) => SIGNALLED + signal,
    })
}

async fn open(context: &Context, internet: bool) -> Result<Opened, Failure> {
    let daemon = context.place.daemon().await?;
    let overview = daemon.overview().await?;
    let peerup_control::Opened { socket, report, .. } = daemon.open(&OpenRequest::Exec { internet }).await?;
    let OpenReport::Exec { addresses, ranges, mtu, resolver } = report else {
        return Err(Failure::new("the daemon answered with something else"));
    };
    let ranges = ranges.iter().map(|range| range.parse::<IpNet>()).collect::<Result<Vec<_>, _>>();
    let mut ranges = ranges.map_err(|error| Failure::of(&error).while_doing("the daemon's answer"))?;
    let mut files = PrivateFiles { hosts: hosts(&overview, &host_names()), resolv_conf: no_resolver() };
    match resolver {
        Some(resolver) => {
            ranges.extend(EVERYWHERE);
            files.hosts += &host_file("/etc/hosts");
            files.resolv_conf = resolv_conf(resolver, &host_file("/etc/resolv.conf"));
        }
        None if internet => {
            let old = Failure::new("the running daemon is too old for --with-internet").exit(Exit::Conflict);
            return Err(old.hint("restart it: `peerup down`, then `peerup up`"));
        }
        None => {}
    }
    let network = PrivateNetwork { interface: INTERFACE.to_owned(), addresses, ranges, mtu };
    let broken = |error: io::Error| Failure::of(&error).while_doing("the daemon's socket");
    let socket = socket.into_std().map_err(broken)?;
    socket.set_nonblocking(false).map_err(broken)?;
    Ok(Opened { socket, network, files })
}

/// Gives the device to the daemon and waits until it has it.
fn hand_over(device: &NewTun, mut socket: &UnixStream) -> Result<(), Failure> {
    let mut handed = || {
        device.send_over(socket)?;
        socket.set_read_timeout(Some(TAKEN_WITHIN))?;
        socket.read_exact(&mut [0])
    };
    handed().map_err(|error| Failure::of(&error).while_doing("the daemon did not take the device"))
}

/// /etc/hosts: names of the network beside what the host's file says of itself.
fn hosts(overview: &Overview, own_names: &str) -> String {
    let mut text = format!("127.0.0.1 localhost {own_names}\n::1 localhost\n");
    let mut by_address: BTreeMap<IpAddr, &str> = BTreeMap::new();
    let this = overview.this.name.as_deref().map(|name| (name, &overview.this.ips));
    let peers = overview.peers.iter().filter_map(|peer| Some((peer.name.as_deref()?, &peer.ips)));
    for (name, ips) in this.into_iter().chain(peers) {
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            by_address.extend(ips.iter().map(|ip| (*ip, name)));
        }
    }
    for (ip, name) in by_address {
        let _ = writeln!(text, "{ip} {name} {name}.peerup");
    }
    text
}

fn host_names() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or(String::new(), |name| name.trim().to_owned())
}

/// No resolver is reachable: nobody listens on the namespace's own loopback, which a library learns at once.
fn no_resolver() -> String {
    "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n".to_owned()
}

/// The host's file, with the daemon in place of its servers.
fn resolv_conf(resolver: IpAddr, host: &str) -> String {
    let kept = host.lines().filter(|line| !line.trim_start().starts_with("nameserver"));
    kept.chain([format!("nameserver {resolver}").as_str()])
        .fold(String::new(), |text, line| text + line + "\n")
}

/// Empty where there is none.
fn host_file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn no_namespace(error: &NamespaceError) -> Failure {
    Failure::of(error)
        .exit(Exit::NotAuthorised)
        .while_doing("peerup exec needs a network namespace")
        .hint(format!("{}; {ALTERNATIVES}", error.hint()))
}

fn no_device(error: &TunError) -> Failure {
    let open = match error {
        TunError::NodeForbidden(_) => "sudo chmod 666 /dev/net/tun",
        TunError::NotPermitted { .. } if NamespaceError::is_apparmor_possible() => {
            NamespaceError::AppArmor.hint()
        }
        other => other.hint(),
    };
    Failure::of(error)
        .exit(Exit::NotAuthorised)
        .while_doing("peerup exec needs a TUN device")
        .hint(format!("{open}; {ALTERNATIVES}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_search_list_stays_and_its_servers_do_not() {
        let host = "# made by hand\nnameserver 127.0.0.53\n nameserver ::1\nsearch lan\noptions edns0\n";
        let text = resolv_conf("169.254.53.53".parse().unwrap(), host);
        assert_eq!(text, "# made by hand\nsearch lan\noptions edns0\nnameserver 169.254.53.53\n");
    }
}
