//! Sessions of a proxy while paths come and go: each goes on where it is, or is told, and never hangs; the next ones
//! take the best path.

use std::time::Duration;

use peerup_lab::peerup::{Node, Pair, natted};
use peerup_lab::tools::links::Counters;
use peerup_lab::{NatKind, Output, Process, Show, clock};

use crate::limits::{DIRECT, RELAY_TAKES_OVER};
use crate::services::{proxy, web};

/// Until a session on a dead path is told: three unanswered questions, or ten seconds of silence on a suspect path.
const TOLD: Duration = Duration::from_secs(25);
const SIZE: u64 = 45_000_000;

/// `curl` of a file that takes fifteen seconds, with its SHA-256.
fn slow_download(node: &Node, address: &str) -> Process {
    let slow = format!("curl -sSf --limit-rate 3M http://{address}/file -o slow && sha256sum < slow");
    node.host().cmd("sh").args(["-c", &format!("cd ~ && {slow}")]).show(Show::Nothing).spawn().unwrap()
}

fn download(node: &Node, address: &str) -> Output {
    let fast = format!("curl -sSf --max-time 40 http://{address}/file | sha256sum");
    node.host().cmd("sh").args(["-c", &fast]).deadline(Duration::from_secs(50)).run().unwrap()
}

/// A file on `b`, a proxy on `a` that leads there, and the file's checksum.
fn file_behind_a_proxy(pair: &Pair) -> (Process, Process, String, String) {
    let (host, file) = (pair.b.host(), pair.b.host().dir().join("www/file"));
    let web = web(host, 8000);
    host.ask(&format!("head -c {SIZE} /dev/urandom > {}", file.display())).unwrap();
    pair.b.peerup(["service", "add", "web", "8000"]).unwrap();
    let (proxy, address) = proxy(&pair.a, "b", "web").unwrap();
    let sum = host.ask(&format!("sha256sum < {}", file.display())).unwrap();
    (web, proxy, address, sum)
}

#[test]
fn a_session_whose_path_dies_is_told_and_the_next_ones_take_the_relay_and_then_the_direct_path() {
    let mut nats = Vec::new();
    let pair = Pair::direct("proxied-cut", |lab, internet, number| {
        let (nat, host) = natted(lab, internet, number, NatKind::EndpointIndependent)?;
        nats.push(nat);
        Ok(host)
    });
    let pair = pair.unwrap();
    let (_web, _proxy, address, sum) = file_behind_a_proxy(&pair);
    let relayed = |address: &str| {
        let before = Counters::of(pair.relay.host(), "eth0").unwrap();
        assert_eq!(download(&pair.a, address).stdout, sum);
        Counters::of(pair.relay.host(), "eth0").unwrap().bytes_since(&before) > SIZE
    };
    let mut cut_off = slow_download(&pair.a, &address);
    clock::pause(Duration::from_secs(2));
    let cut = nats[0].router().cut_from(nats[1].router()).unwrap();
    let told = cut_off.wait(TOLD).unwrap();
    println!("the session was told {:?} after its beginning", told.took);
    assert!(told.stderr.contains("reset"), "{told}");
    pair.wait_for_class("relay", RELAY_TAKES_OVER).unwrap();
    assert!(relayed(&address), "the file came another way than the relay");
    // Begun on the relay, and left alone by the return of the better path.
    let mut stays = slow_download(&pair.a, &address);
    cut.restore().unwrap();
    pair.wait_for_class("direct", DIRECT * 9).unwrap();
    assert_eq!(stays.wait(Duration::from_secs(60)).unwrap().stdout, sum);
    assert!(!relayed(&address), "a new session took the relay");
}

#[test]
fn a_session_on_tcp_is_told_when_only_tcp_is_lost_and_the_next_one_takes_quic() {
    let (pair, _servers, address, sum) = on_tcp("proxied-tcp");
    let mut session = slow_download(&pair.a, &address);
    clock::pause(Duration::from_secs(2));
    block(&pair, "tcp");
    let told = session.wait(TOLD).unwrap();
    println!("the session was told {:?} after its beginning", told.took);
    assert!(told.stderr.contains("reset"), "{told}");
    assert_eq!(pair.a.class("b"), "direct");
    assert_eq!(download(&pair.a, &address).stdout, sum);
}

#[test]
fn a_session_on_tcp_does_not_notice_that_quic_is_lost() {
    let (pair, _servers, address, sum) = on_tcp("proxied-quic");
    let mut session = slow_download(&pair.a, &address);
    clock::pause(Duration::from_secs(2));
    block(&pair, "udp");
    assert_eq!(session.wait(Duration::from_secs(60)).unwrap().stdout, sum);
    assert_eq!(pair.a.class("b"), "direct");
}

/// Neighbours whose packets, and so their sessions, go by TCP with QUIC beside it; and what
/// [`file_behind_a_proxy`] gives.
fn on_tcp(name: &str) -> (Pair, [Process; 2], String, String) {
    let pair = Pair::direct(name, crate::neighbours).unwrap();
    let by_tcp = || {
        let peer = pair.a.status().and_then(|status| status.peer("b"));
        peer.is_ok_and(|peer| peer.path.is_some_and(|path| path.carrier == "tcp-stream"))
    };
    pair.a.host().wait_until("packets go by TCP", Duration::from_secs(40), by_tcp).unwrap();
    let (web, proxy, address, sum) = file_behind_a_proxy(&pair);
    (pair, [web, proxy], address, sum)
}

/// Swallows what neighbours send each other by one transport, here and there.
fn block(pair: &Pair, transport: &str) {
    for host in [pair.a.host(), pair.b.host()] {
        host.ask(&format!(
            "nft add table inet lost
             nft add chain inet lost c '{{ type filter hook prerouting priority raw; }}'
             nft add rule inet lost c iifname eth0 meta l4proto {transport} ip saddr != 203.0.113.3 drop
             nft add rule inet lost c iifname eth0 meta l4proto {transport} ip6 saddr != 2001:db8::3 drop"
        ))
        .unwrap();
    }
}
