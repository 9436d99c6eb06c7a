//! What the packets ride on: what the kernel says of the connections below.

use std::time::Duration;

use peerup_lab::peerup::{JOINER, Pair};
use peerup_lab::tools::iperf::Iperf;
use peerup_lab::{Host, Impairment};

#[test]
fn tcp_near_by_runs_cubic_and_tcp_to_a_far_relay_runs_bbr() {
    let far = Impairment { delay_ms: 10.0, ..Impairment::default() };
    let pair = Pair::with_far_relay("congestion", far, |lab, internet, number| {
        let host = lab.host(crate::name(number))?.on(internet, &format!("203.0.113.2{number}"))?;
        // Neither of the two is what sockets get by themselves here, and only TCP is left.
        host.run(["sysctl", "-q", "-w", "net.ipv4.tcp_congestion_control=reno"])?;
        host.run(["nft", "add table inet tcp_only"])?;
        host.run(["nft", "add chain inet tcp_only out { type filter hook output priority 0; }"])?;
        host.run(["nft", "add rule inet tcp_only out oifname eth0 meta l4proto udp drop"])?;
        Ok(host)
    });
    let pair = pair.unwrap();
    pair.pair().unwrap();
    pair.up().unwrap();
    pair.wait_for_class("direct", Duration::from_secs(20)).unwrap();
    let figures = Iperf::on(pair.b.host()).tcp(pair.a.host(), JOINER, 2).unwrap();
    println!("{:.0} Mbit/s", figures.mbit);
    for (host, neighbour) in [(pair.a.host(), "203.0.113.22"), (pair.b.host(), "203.0.113.21")] {
        assert_eq!(congestion_control(host, neighbour), ["cubic"]);
        assert_eq!(congestion_control(host, "203.0.113.3"), ["bbr"]);
    }
}

/// What connections with this address run, each word once.
fn congestion_control(host: &Host, address: &str) -> Vec<String> {
    let sockets = host.ask(&format!("ss -Htino state established dst {address}")).unwrap();
    println!("{}: {}", host.name(), sockets.trim());
    let words = sockets.split_whitespace().filter(|word| ["reno", "cubic", "bbr"].contains(word));
    let mut words: Vec<String> = words.map(str::to_owned).collect();
    words.sort();
    words.dedup();
    words
}
