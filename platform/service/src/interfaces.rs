//! The addresses of this machine's interfaces.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

/// Interface name and address, for every interface that is up, in the system's order. Loopback interfaces and
/// link-local addresses are left out: no peer elsewhere can reach them.
pub fn interface_addresses() -> io::Result<Vec<(String, IpAddr)>> {
    let addresses = getifaddrs()?
        .filter(|entry| {
            entry.flags.contains(InterfaceFlags::IFF_UP)
                && !entry.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        })
        .filter_map(|entry| Some((entry.interface_name, ip(entry.address?)?)))
        .filter(|(_, address)| reaches_beyond_the_link(*address));
    Ok(addresses.collect())
}

fn ip(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn reaches_beyond_the_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_loopback() || v4.is_link_local() || v4.is_unspecified()),
        IpAddr::V6(v6) => !(v6.is_loopback() || is_link_local(v6) || v6.is_unspecified()),
    }
}

/// RFC 4291 §2.5.6: fe80::/10.
fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_stay_on_the_link_are_left_out() {
        for local in ["127.0.0.1", "169.254.1.1", "0.0.0.0", "::1", "fe80::1", "febf::1", "::"] {
            assert!(!reaches_beyond_the_link(local.parse().unwrap()), "{local}");
        }
        for wide in ["192.168.1.2", "10.64.0.1", "100.64.0.1", "fd00::1", "2001:db8::1", "fec0::1"] {
            assert!(reaches_beyond_the_link(wide.parse().unwrap()), "{wide}");
        }
    }

    #[test]
    fn the_list_of_this_machine_holds_no_loopback() {
        let addresses = interface_addresses().unwrap();
        assert!(
            addresses.iter().all(|(name, address)| name != "lo" && !address.is_loopback()),
            "{addresses:?}"
        );
    }
}
