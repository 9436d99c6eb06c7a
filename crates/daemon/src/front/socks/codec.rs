//! What a client of the proxy says, taken from as many bytes as have arrived: SOCKS5 (RFC 1928) and HTTP CONNECT
//! (RFC 9110 §9.3.6).
//!
//! Every parser answers "not all there yet" with `Ok(None)`, and otherwise how many bytes it used. Lengths are bounded
//! by the formats themselves: a request has at most 262 bytes, and a header block [`MAX_HTTP`].

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The longest block of HTTP headers that is read.
pub const MAX_HTTP: usize = 8 * 1024;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const CONNECT: u8 = 1;
const UDP_ASSOCIATE: u8 = 3;
const V4: u8 = 1;
const NAME: u8 = 3;
const V6: u8 = 4;

/// Where to: as the client says it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    Address(IpAddr),
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    pub host: Host,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Connect(Destination),
    /// From which of its ports the client will send; `None` where it does not know yet (RFC 1928 §7). Its own idea of
    /// its address is not kept: where the connection comes from is.
    UdpAssociate {
        port: Option<u16>,
    },
    /// BIND, or a number that no standard has.
    Unsupported,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("SOCKS version {0}, not 5")]
    Version(u8),
    #[error("address type {0} is none of SOCKS5")]
    AddressType(u8),
    #[error("a name that is no text")]
    Name,
    #[error("an HTTP request that is none")]
    Http,
    #[error("HTTP headers of more than {MAX_HTTP} bytes")]
    TooLong,
}

/// RFC 1928 §6, as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Succeeded = 0,
    Failure = 1,
    NotAllowed = 2,
    HostUnreachable = 4,
    Refused = 5,
    CommandNotSupported = 7,
}

type Parsed<T> = Result<Option<(T, usize)>, Malformed>;

/// The greeting: whether the client does without authentication.
pub fn greeting(bytes: &[u8]) -> Parsed<bool> {
    let (Some(&version), Some(&count)) = (bytes.first(), bytes.get(1)) else { return Ok(None) };
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let end = 2 + usize::from(count);
    Ok(bytes.get(2..end).map(|methods| (methods.contains(&NO_AUTHENTICATION), end)))
}

/// The answer to a greeting.
pub fn method(acceptable: bool) -> [u8; 2] {
    [VERSION, if acceptable { NO_AUTHENTICATION } else { 0xff }]
}

pub fn request(bytes: &[u8]) -> Parsed<Request> {
    let Some(&[version, command, _reserved]) = bytes.first_chunk() else { return Ok(None) };
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let Some((destination, used)) = destination(&bytes[3..])? else { return Ok(None) };
    let request = match command {
        CONNECT => Request::Connect(destination),
        UDP_ASSOCIATE => Request::UdpAssociate { port: Some(destination.port).filter(|port| *port != 0) },
        _ => Request::Unsupported,
    };
    Ok(Some((request, 3 + used)))
}

/// The answer to a request; `bound` is where a UDP association listens.
pub fn reply(reply: Reply, bound: SocketAddr) -> Vec<u8> {
    let mut bytes = vec![VERSION, reply as u8, 0];
    put_address(&mut bytes, bound);
    bytes
}

/// A datagram of an association: where it goes to, and its data. Fragments are refused (RFC 1928 §7 allows it).
pub fn datagram(bytes: &[u8]) -> Option<(Destination, &[u8])> {
    let &[0, 0, 0] = bytes.first_chunk()? else { return None };
    let (destination, used) = destination(&bytes[3..]).ok()??;
    Some((destination, &bytes[3 + used..]))
}

pub fn datagram_from(from: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0];
    put_address(&mut bytes, from);
    bytes.extend_from_slice(data);
    bytes
}

fn destination(bytes: &[u8]) -> Parsed<Destination> {
    let Some(&kind) = bytes.first() else { return Ok(None) };
    let (at, len) = match kind {
        V4 => (1, 4),
        V6 => (1, 16),
        NAME => match bytes.get(1) {
            Some(len) => (2, usize::from(*len)),
            None => return Ok(None),
        },
        other => return Err(Malformed::AddressType(other)),
    };
    let (Some(host), Some(&[p0, p1])) =
        (bytes.get(at..at + len), bytes.get(at + len..).and_then(<[u8]>::first_chunk))
    else {
        return Ok(None);
    };
    let v4 = || <[u8; 4]>::try_from(host).ok().map(|octets| Ipv4Addr::from(octets).into());
    let v6 = || <[u8; 16]>::try_from(host).ok().map(|octets| Ipv6Addr::from(octets).into());
    let host = match kind {
        NAME => name(std::str::from_utf8(host).map_err(|_| Malformed::Name)?)?,
        _ => Host::Address(v4().or_else(v6).ok_or(Malformed::Name)?),
    };
    Ok(Some((Destination { host, port: u16::from_be_bytes([p0, p1]) }, at + len + 2)))
}

fn put_address(bytes: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes.push(V4);
            bytes.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(V6);
            bytes.extend_from_slice(&ip.octets());
        }
    }
    bytes.extend_from_slice(&address.port().to_be_bytes());
}

/// `CONNECT host:port HTTP/1.1` and headers, which are not looked at.
pub fn http(bytes: &[u8]) -> Parsed<Destination> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > MAX_HTTP { Err(Malformed::TooLong) } else { Ok(None) };
    };
    let line = bytes[..end].split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| Malformed::Http)?;
    let mut words = line.split(' ');
    let (Some("CONNECT"), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed::Http);
    };
    if !version.starts_with("HTTP/1.") {
        return Err(Malformed::Http);
    }
    let (host, port) = target.rsplit_once(':').ok_or(Malformed::Http)?;
    let port = port.parse().map_err(|_| Malformed::Http)?;
    Ok(Some((Destination { host: name(host)?, port }, end + 4)))
}

/// Clients that resolve nothing send addresses as names.
fn name(text: &str) -> Result<Host, Malformed> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return Ok(Host::Address(address));
    }
    let plain = |byte: u8| byte.is_ascii_graphic();
    if text.is_empty() || !text.bytes().all(plain) {
        return Err(Malformed::Name);
    }
    Ok(Host::Name(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    #[test]
    fn a_name_an_ipv4_and_an_ipv6_address_are_read() {
        let named = b"\x05\x01\x00\x03\x04home\x00\x16rest";
        let home = Destination { host: Host::Name("home".into()), port: 22 };
        assert_eq!(request(named), Ok(Some((Request::Connect(home), named.len() - 4))));
        let v4 = b"\x05\x01\x00\x01\x0a\x40\x00\x02\x00\x50";
        let expected = Destination { host: Host::Address([10, 64, 0, 2].into()), port: 80 };
        assert_eq!(request(v4), Ok(Some((Request::Connect(expected), v4.len()))));
        let mut v6 = b"\x05\x03\x00\x04".to_vec();
        v6.extend([0xfd; 16]);
        v6.extend([0, 53]);
        assert_eq!(request(&v6), Ok(Some((Request::UdpAssociate { port: Some(53) }, v6.len()))));
        let unknown = b"\x05\x03\x00\x01\0\0\0\0\0\0";
        assert_eq!(request(unknown), Ok(Some((Request::UdpAssociate { port: None }, unknown.len()))));
        // An address in the clothes of a name.
        let dressed = b"\x05\x01\x00\x03\x09127.0.0.1\x00\x50";
        let Ok(Some((Request::Connect(got), _))) = request(dressed) else { panic!("a request") };
        assert_eq!(got.host, Host::Address([127, 0, 0, 1].into()));
    }

    #[test]
    fn a_request_that_is_not_all_there_waits_and_one_of_another_version_is_refused() {
        let whole = b"\x05\x01\x00\x03\x04home\x00\x16";
        for len in 0..whole.len() {
            assert_eq!(request(&whole[..len]), Ok(None), "{len}");
        }
        assert_eq!(greeting(b"\x04\x01\x00"), Err(Malformed::Version(4)));
        assert_eq!(greeting(b"\x05\x02\x00"), Ok(None));
        assert_eq!(greeting(b"\x05\x02\x02\x00"), Ok(Some((true, 4))));
        assert_eq!(greeting(b"\x05\x01\x02"), Ok(Some((false, 3))));
    }

    #[test]
    fn http_connect_is_read_to_the_end_of_its_headers() {
        let text = b"CONNECT home.peerup:80 HTTP/1.1\r\nHost: home\r\n\r\nGET";
        let expected = Destination { host: Host::Name("home.peerup".into()), port: 80 };
        assert_eq!(http(text), Ok(Some((expected, text.len() - 3))));
        let v6 = http(b"CONNECT [fd00::2]:443 HTTP/1.1\r\n\r\n").unwrap().unwrap().0;
        assert_eq!((v6.host.to_string(), v6.port), ("fd00::2".into(), 443));
        assert_eq!(http(b"CONNECT home:80 HTTP/1.1\r\n"), Ok(None));
        assert_eq!(http(b"GET / HTTP/1.1\r\n\r\n"), Err(Malformed::Http));
        assert_eq!(http(&vec![b'x'; MAX_HTTP + 1]), Err(Malformed::TooLong));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
            let _ = (greeting(&bytes), request(&bytes), datagram(&bytes), http(&bytes));
        }

        #[test]
        fn a_datagram_survives_its_header(v6: bool, ip: [u8; 16], port: u16, data in vec(any::<u8>(), 0..50)) {
            let ip = if v6 { IpAddr::from(ip) } else { IpAddr::from([ip[0], ip[1], ip[2], ip[3]]) };
            let bytes = datagram_from(SocketAddr::new(ip, port), &data);
            let (destination, got) = datagram(&bytes).unwrap();
            prop_assert_eq!(destination, Destination { host: Host::Address(ip), port });
            prop_assert_eq!(got, &data[..]);
        }
    }
}
