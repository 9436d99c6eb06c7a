//! What the operating system allows.

use std::path::Path;

use peerup_netcfg::{InputFirewall, RangeError};
use peerup_service::has_net_admin;

use super::Check;
use crate::{command::block_on, place::NodeFiles};

const TUN_DEVICE: &str = "/dev/net/tun";

pub fn checks(node: &NodeFiles, daemon_runs: bool) -> Vec<Check> {
    if !node.config.vpn.enabled {
        return vec![Check::note("interface", "vpn.enabled is off: there is no interface")];
    }
    let mut checks = vec![tun()];
    // A daemon that runs has what it needs.
    if !daemon_runs && !has_net_admin() {
        checks.push(
            Check::note("privileges", "this user cannot create the interface")
                .hint("start with `sudo peerup up`, or as a service"),
        );
    }
    checks.push(range(node));
    checks.push(firewall(node));
    checks
}

fn tun() -> Check {
    match Path::new(TUN_DEVICE).exists() {
        true => Check::ok("tun", format!("{TUN_DEVICE} is there")),
        false => Check::failed("tun", format!("{TUN_DEVICE} does not exist: the kernel has no TUN driver"))
            .hint("load it with `sudo modprobe tun`; in a container, pass --device /dev/net/tun"),
    }
}

fn range(node: &NodeFiles) -> Check {
    let (range, interface) = (node.config.vpn.cidr, node.config.vpn.interface.as_str());
    match block_on(async { Ok(peerup_netcfg::check_range(range, interface).await) }) {
        Ok(Ok(())) => Check::ok("range", format!("nothing else on this machine uses {range}")),
        Ok(Err(RangeError::Conflict(conflict))) => {
            let check = Check::failed("range", conflict.to_string());
            match conflict.free {
                Some(free) => check.hint(format!("set vpn.cidr to {free} on every machine")),
                None => check,
            }
        }
        Ok(Err(RangeError::Network(error))) => {
            Check::note("range", format!("the routes of this machine cannot be read: {error}"))
        }
        Err(failure) => Check::of("range", &failure),
    }
}

fn firewall(node: &NodeFiles) -> Check {
    let interface = node.config.vpn.interface.as_str();
    match peerup_netcfg::input_firewall(interface) {
        InputFirewall::Open => Check::note(
            "firewall",
            format!("no host firewall is in the way: peers reach every port that is open on {interface}"),
        ),
        InputFirewall::Filters { what, fix } => {
            Check::warning("firewall", format!("{what}: peers may not reach this machine")).hint(fix)
        }
        InputFirewall::Unknown { why } => Check::note("firewall", format!("not looked at: {why}")),
    }
}
