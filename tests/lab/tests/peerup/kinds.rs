//! Packets that are neither TCP nor plain UDP: they arrive as they were sent.

use std::time::Duration;

use peerup_lab::peerup::{JOINER, Pair};

const RECEIVED_WITHIN: Duration = Duration::from_secs(20);

/// The receiver: names what arrived, one a line, when its bytes are those that were sent.
const RECEIVE: &str = r#"
import socket, sys
v6 = sys.argv[1]
pattern = bytes(i % 251 for i in range(4000))
sctp = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
unknown = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)
udp4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp4.bind(('0.0.0.0', 5000))
udp6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); udp6.bind((v6, 5000))
udp6.setsockopt(socket.IPPROTO_IPV6, 58, 1)  # IPV6_RECVDSTOPTS
udp6.setsockopt(socket.IPPROTO_IPV6, 53, 1)  # IPV6_RECVHOPOPTS
for each in (sctp, unknown, udp4, udp6): each.settimeout(15)
print('ready', flush=True)
body = lambda packet: packet[(packet[0] & 15) * 4:]
assert body(sctp.recv(9000)) == pattern[:1200]; print('sctp', flush=True)
assert body(unknown.recv(9000)) == pattern[:64]; print('protocol 253', flush=True)
assert udp4.recv(9000) == pattern; print('ipv4 fragments', flush=True)
assert udp6.recv(9000) == pattern; print('ipv6 fragments', flush=True)
data, ancillary, _, _ = udp6.recvmsg(9000, 512)
assert data == pattern[:100] and {kind for _, kind, _ in ancillary} == {59, 54}, ancillary
print('ipv6 extension headers', flush=True)
"#;

/// The sender, to an IPv4 and an IPv6 address.
const SEND: &str = r#"
import socket, sys
v4, v6 = sys.argv[1:]
pattern = bytes(i % 251 for i in range(4000))
socket.socket(socket.AF_INET, socket.SOCK_RAW, 132).sendto(pattern[:1200], (v4, 0))
socket.socket(socket.AF_INET, socket.SOCK_RAW, 253).sendto(pattern[:64], (v4, 0))
udp4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp4.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: fragments
udp4.sendto(pattern, (v4, 5000))
udp6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp6.sendto(pattern, (v6, 5000))
padded = bytes([0, 0, 1, 4, 0, 0, 0, 0])  # PadN (RFC 8200, 4.2)
udp6.sendmsg([pattern[:100]], [(socket.IPPROTO_IPV6, 59, padded), (socket.IPPROTO_IPV6, 54, padded)], 0, (v6, 5000))
"#;

#[test]
fn sctp_unknown_protocols_fragments_and_extension_headers_arrive_as_they_were_sent() {
    let pair = Pair::direct("kinds", |lab, internet, number| {
        lab.host(crate::name(number))?.on(internet, &format!("203.0.113.2{number}"))
    });
    let pair = pair.unwrap();
    let v6 = pair.b.status().unwrap().own_ips().into_iter().find(|ip| ip.contains(':')).unwrap();
    let mut receiver = pair.b.host().spawn(["python3", "-c", RECEIVE, &v6]).unwrap();
    receiver.wait_for_line("ready", RECEIVED_WITHIN).unwrap();
    pair.a.host().run(["python3", "-c", SEND, JOINER, &v6]).unwrap();
    let received = receiver.wait(RECEIVED_WITHIN).unwrap();
    assert!(received.stdout.contains("ipv6 extension headers"), "{received}");
}
