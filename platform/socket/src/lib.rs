//! What the kernel knows of a TCP connection: round trip and repetitions (`TCP_INFO`). Nothing is decided here.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
use std::io;
use std::time::Duration;

#[cfg(target_os = "linux")]
pub use linux::tcp_figures;

/// What a kernel measures of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpFigures {
    /// Smoothed round trip and its variation (RFC 6298). Right after the handshake: its one sample, and half of it.
    pub rtt: Duration,
    pub rtt_variation: Duration,
    /// Segments sent again since the beginning.
    pub retransmitted: u32,
    /// Of those, the ones that the other end had already (RFC 2883); none where the kernel is older than 4.19.
    pub needless: u32,
    /// The latest rate at which the other end took bytes, a second; `None` where the kernel is older than 4.9.
    pub delivery_rate: Option<u64>,
}

/// Elsewhere the kernel's figures have other names, which nobody has tried yet.
#[cfg(not(target_os = "linux"))]
pub fn tcp_figures<S>(_socket: &S) -> io::Result<TcpFigures> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reads the head of a `struct tcp_info`; `None` when the kernel gave less of it.
fn parse(info: &[u8]) -> Option<TcpFigures> {
    // <linux/tcp.h>: eight bytes, then 32-bit numbers in the host's order. The head has been the same since 2.6.
    let number = |at: usize| {
        let bytes: &[u8; 4] = info.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    let microseconds = |at| number(at).map(|us| Duration::from_micros(us.into()));
    let long = |at: usize| Some(u64::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    Some(TcpFigures {
        rtt: microseconds(68)?,
        rtt_variation: microseconds(72)?,
        retransmitted: number(100)?,
        needless: number(216).unwrap_or(0),
        delivery_rate: long(160),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_that_is_cut_short_is_none() {
        assert_eq!(parse(&[0; 103]), None);
        let oldest = parse(&[1; 104]).unwrap();
        assert_eq!((oldest.needless, oldest.delivery_rate), (0, None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_round_trip_of_a_connection_over_loopback_is_short_and_nothing_was_sent_twice() {
        use std::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dialer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        for socket in [&dialer, &accepted] {
            let figures = tcp_figures(socket).unwrap();
            assert!(figures.rtt > Duration::ZERO && figures.rtt < Duration::from_secs(1), "{figures:?}");
            assert_eq!(figures.retransmitted, 0);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_socket_of_another_kind_is_an_error() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(tcp_figures(&socket).is_err());
    }
}
