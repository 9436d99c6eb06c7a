//! A port of one's own for the underlay.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    ops::RangeInclusive,
};

use rand::{Rng, RngExt};

/// Below the ports that Linux hands to outgoing connections (ip(7), ip_local_port_range: from 32768), so that no
/// passing connection has the port when the daemon starts.
const RANGE: RangeInclusive<u16> = 20_000..=32_767;
/// Hosts use few of these ports; one that has none left is found out about in no time.
const TRIES: usize = 64;

/// A port that nobody has, for UDP and TCP, IPv4 and IPv6 alike.
pub fn pick(rng: &mut impl Rng) -> io::Result<u16> {
    let mut tried = std::iter::repeat_with(|| rng.random_range(RANGE)).take(TRIES);
    tried.find(|port| is_free(*port)).ok_or_else(|| io::ErrorKind::AddrInUse.into())
}

/// A family that the host lacks takes no ports.
pub fn is_free(port: u16) -> bool {
    let is_taken = |ip: IpAddr| {
        let sockets = [UdpSocket::bind((ip, port)).err(), TcpListener::bind((ip, port)).err()];
        sockets.into_iter().flatten().any(|error| error.kind() == io::ErrorKind::AddrInUse)
    };
    !is_taken(Ipv4Addr::UNSPECIFIED.into()) && !is_taken(Ipv6Addr::UNSPECIFIED.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picked_port_is_free_and_below_the_ephemeral_ones() {
        let port = pick(&mut rand::rng()).unwrap();
        assert!(RANGE.contains(&port));
    }

    #[test]
    fn a_port_is_taken_by_either_transport_of_either_family() {
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
        assert!(!is_free(udp.local_addr().unwrap().port()));
        assert!(!is_free(tcp.local_addr().unwrap().port()));
        if let Ok(udp) = UdpSocket::bind("[::]:0") {
            assert!(!is_free(udp.local_addr().unwrap().port()));
        }
    }
}
